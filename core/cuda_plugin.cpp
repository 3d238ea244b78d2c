// The CUDA column of the shared library: libespalier_cuda.so beside it, opened when it is first asked for. So a library
// that was built where nvcc is starts, and serves the CPU, where CUDA's own libraries are not.
#include <dlfcn.h>
#include <espalier/core/cuda_plugin.h>
#include <espalier/core/error.h>
#include <espalier/version.h>

#include <cstring>

namespace espalier {

namespace {

struct Opened {
  const CudaPlugin* plugin = nullptr;
  std::string why_not;
};

// The folder of the file that this function was loaded from.
std::string own_folder() {
  Dl_info own{};
  if (!dladdr(reinterpret_cast<const void*>(&cuda_device_count), &own) || !own.dli_fname) return "";
  const char* slash = std::strrchr(own.dli_fname, '/');
  return slash ? std::string(own.dli_fname, slash + 1) : "";
}

Opened open_plugin() {
  const std::string path = own_folder() + ESPALIER_CUDA_PLUGIN;
  const auto problem = [] {
    const char* text = dlerror();
    return std::string(text ? text : "unknown reason");
  };
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return {nullptr, "the CUDA column cannot be opened: " + problem()};
  const auto entry = reinterpret_cast<decltype(&espalier_cuda_plugin)>(dlsym(library, "espalier_cuda_plugin"));
  if (!entry) return {nullptr, path + " is no CUDA column of ours: " + problem()};
  const CudaPlugin* plugin = entry();
  if (std::strcmp(plugin->version, ESPALIER_VERSION) != 0 || plugin->kernels != sizeof(Kernels))
    return {nullptr, path + " belongs to another build of espalier, " + plugin->version};
  return {plugin, ""};
}

const Opened& opened() {
  static const Opened once = open_plugin();
  return once;
}

}  // namespace

const Column* cuda_column() { return opened().plugin ? opened().plugin->column : nullptr; }
int cuda_device_count() { return opened().plugin ? opened().plugin->device_count() : 0; }
void use_cuda_device(int index) {
  if (opened().plugin) opened().plugin->use_device(index);
}
std::string why_no_cuda() { return opened().why_not; }

}  // namespace espalier
