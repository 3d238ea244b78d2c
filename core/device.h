// Where a tensor lives: the CPU, a CUDA GPU, or `emulated`, the host running the CUDA kernels' bodies.
#pragma once
#include <espalier/core/api.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

namespace espalier {

// The CPU by default; `index` tells CUDA GPUs apart and is 0 for the others.
struct Device {
  // cpu, cuda, or emulated: the CUDA kernels' bodies, run by the host.
  enum Kind : uint8_t { cpu, cuda, emulated } kind = cpu;
  int16_t index = 0;
  bool operator==(const Device&) const = default;
};

// "cpu", "emulated", "cuda" or "cuda:1"; throws usage on anything else. Does not look whether it exists.
ESPALIER_API Device parse_device(std::string_view text);
// As parse_device() reads it: "cuda:0" with its index.
ESPALIER_API std::string name_of(Device device);
// Throws ErrorKind::device, saying what is missing, unless the device can be used on this machine.
ESPALIER_API void require_device(Device device);

// Prints name_of().
inline std::ostream& operator<<(std::ostream& out, Device d) { return out << name_of(d); }

}  // namespace espalier
