// The tools as functions, in one process, over what only this program registered.
#include <doctest/doctest.h>
#include <espalier/core/storage.h>
#include <espalier/data/images.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/state_dict.h>
#include <espalier/tools/tools.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

using namespace espalier;

namespace {

struct Answer {
  int code;
  std::string out, err;
};

Answer call(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  std::ostringstream out, err;
  auto* const cout = std::cout.rdbuf(out.rdbuf());
  auto* const cerr = std::cerr.rdbuf(err.rdbuf());
  const int code = tool::main(int(argv.size()), argv.data());
  std::cout.rdbuf(cout);
  std::cerr.rdbuf(cerr);
  return {code, out.str(), err.str()};
}

ImageSet grey(Split) {
  return {"grey", Tensor::zeros({8, 1, 28, 28}, DType::u8), Tensor::zeros({8}, DType::s64), {{.5f}, {.25f}}};
}

}  // namespace

TEST_CASE("predict stops on a signal, and the next tool starts anew") {
  const auto path = std::filesystem::temp_directory_path() / ("espalier_tools_" + std::to_string(::getpid()) + ".pth");
  save_model(path.string(), *make_model("naive"), "naive");
  static bool interrupts = true;
  register_dataset("interrupting", [](const std::string&, Split split) {
    if (interrupts) std::raise(SIGINT);  // as if Ctrl-C came while images are read
    return grey(split);
  });
  const std::vector<std::string> predict{"mine", "predict", "--weights", path.string(), "--dataset", "interrupting"};
  const Answer stopped = call(predict);
  CHECK(stopped.code == 130);
  CHECK(stopped.out.empty());
  CHECK(stopped.err == "predict: stopped by SIGINT; nothing was predicted\n");
  interrupts = false;
  const Answer went_on = call(predict);
  CHECK(went_on.code == 0);
  CHECK(went_on.out.find("image 4: class ") != std::string::npos);
  std::filesystem::remove(path);
}

TEST_CASE("one program is every tool") {
  CHECK(call({"mine"}).code == 2);
  const Answer wrong = call({"mine", "trian"});
  CHECK(wrong.code == 2);
  CHECK(wrong.err.find("did you mean \"train\"") != std::string::npos);
  const Answer help = call({"mine", "--help"});
  CHECK(help.code == 0);
  CHECK(help.out.find("model_speedup") != std::string::npos);
}

TEST_CASE("more images than the machine has memory for are refused, not drawn") {
  const SyntheticOptions too_many{.image = {1, 28, 28}, .count = int64_t(machine_memory() / 784 + 1)};
  CHECK_THROWS_WITH_AS(synthetic_images(Split::train, too_many), doctest::Contains("this machine's memory"), Error);
}
