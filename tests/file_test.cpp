// Files are whole or untouched: reading is bounded, writing survives a file-size limit and leaves
// nothing behind.
#include <doctest/doctest.h>
#include <espalier/core/error.h>
#include <espalier/core/io/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

using namespace espalier;

namespace {

std::string folder() {
  const auto path = std::filesystem::temp_directory_path() / ("espalier_file_" + std::to_string(getpid()));
  std::filesystem::create_directories(path);
  return path.string() + "/";
}

std::string text(const std::string& path) {
  const auto bytes = read_file(path, 1 << 20);
  return std::string(bytes.begin(), bytes.end());
}

ErrorKind kind_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) { return e.kind(); }
  return ErrorKind::other;
}

}  // namespace

TEST_CASE("what is written is read, and the bound holds to the byte") {
  const std::string path = folder() + "a";
  write_file(path, "hello");
  CHECK(text(path) == "hello");
  write_file(path, "");
  CHECK(text(path).empty());
  write_file(path, std::string(100000, 'x'));
  CHECK(read_file(path, 100000).size() == 100000);
  CHECK(kind_of([&] { read_file(path, 99999); }) == ErrorKind::data);
  CHECK(kind_of([&] { read_file(path + ".absent", 10); }) == ErrorKind::data);
  CHECK(kind_of([&] { read_file(folder(), 10); }) == ErrorKind::data);
  CHECK(kind_of([&] { write_file(folder() + "no/such/place", "x"); }) == ErrorKind::data);
  CHECK(read_file("/dev/null", 0).empty());
  CHECK(kind_of([&] { read_file("/dev/zero", 100000); }) == ErrorKind::data);
}

TEST_CASE("a writer that is not committed changes nothing") {
  const std::string path = folder() + "b";
  write_file(path, "old");
  {
    FileWriter file(path);
    file.write("new and unfinished");
    CHECK(file.written() == 18);
  }
  CHECK(text(path) == "old");
  CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_CASE("a file-size limit is an error, not a signal, and the old file stays") {
  const std::string path = folder() + "c";
  write_file(path, "old");
  rlimit before;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit small = before;
  small.rlim_cur = 1000;
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  const ErrorKind kind = kind_of([&] { write_file(path, std::string(5000, 'x')); });
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK(kind == ErrorKind::data);
  CHECK(text(path) == "old");
  CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
  std::filesystem::remove_all(folder());
}
