// A stranger's program: links espalier, meets its types, its errors and its version.
#include <espalier/core/error.h>
#include <espalier/core/ops/ops.h>
#include <espalier/version.h>

#include <iostream>
#include <string>

int main() {
  using namespace espalier;
  if (std::string(version()) != ESPALIER_VERSION) return 1;
  const Tensor x = Tensor::from(std::vector<float>{-1, 2}, {2});
  if (relu(x).to_vector() != std::vector<float>{0, 2}) return 2;
  try {  // the error type crosses the library's border
    parse_device("abacus");
    return 3;
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::usage) return 4;
  }
  std::cout << "espalier " << version() << " is at home here\n";
}
