// Names of devices, and the way from a device to its column of the kernel table.
#include <espalier/core/device.h>
#include <espalier/core/error.h>
#include <espalier/core/kernels.h>

#include <charconv>

namespace espalier {

Device parse_device(std::string_view text) {
  if (text == "cpu") return {Device::cpu, 0};
  if (text == "emulated") return {Device::emulated, 0};
  if (text == "cuda") return {Device::cuda, 0};
  if (text.starts_with("cuda:")) {
    int16_t index = -1;
    const auto* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + 5, end, index);
    if (error == std::errc() && stop == end && index >= 0) return {Device::cuda, index};
  }
  fail(ErrorKind::usage, "[device] expected cpu, emulated, cuda or cuda:N, got '", text, "'");
}

std::string name_of(Device d) {
  if (d.kind == Device::cpu) return "cpu";
  if (d.kind == Device::emulated) return "emulated";
  return "cuda:" + std::to_string(d.index);
}

namespace {

const Column& built_column(Device d) {
  if (d.kind == Device::cpu) return cpu_column();
  const Column* c = d.kind == Device::cuda ? cuda_column() : emulated_column();
  if (!c) fail(ErrorKind::device, "[device] ", d, ": ", why_no_cuda());
  return *c;
}

}  // namespace

void require_device(Device d) { column(d); }

const Column& column(Device d) {
  const Column& c = built_column(d);
  if (d.kind == Device::cuda) use_cuda_device(d.index);
  return c;
}

std::vector<std::string> missing_kernels(Device d) {
  const Kernels& k = built_column(d).kernels;
  std::vector<std::string> names;
#define X(name, ...) \
  if (!k.name) names.push_back(#name);
  ESPALIER_KERNELS(X)
#undef X
  return names;
}

void missing_kernel(const char* name, Device d) { fail(ErrorKind::device, "[", name, "] has no ", d, " kernel yet"); }

}  // namespace espalier
