// The CUDA column of a build without a CUDA toolkit: it is not there, and column() says so.
#include <espalier/core/kernels.h>

namespace espalier {

const Column* cuda_column() { return nullptr; }
int cuda_device_count() { return 0; }
void use_cuda_device(int) {}
std::string why_no_cuda() { return "it is not in this build, which was configured without a CUDA toolkit"; }

}  // namespace espalier
