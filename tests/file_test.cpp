// Files are whole or untouched: reading is bounded and takes regular files only, writing survives a file-size limit,
// leaves nothing behind and never puts a file in the place of a link, a device or a FIFO.
#include <doctest/doctest.h>
#include <espalier/core/error.h>
#include <espalier/core/io/file.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
  CHECK(read_file(path, 100000, "xx").size() == 100000);
  CHECK(read_file(path, 100000, "PK").size() == 4096);  // it is something else: no more than it takes to see what
}

TEST_CASE("only regular files are read, and nothing else is waited for") {
  const std::string fifo = folder() + "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  for (const std::string& path : {std::string("/dev/null"), std::string("/dev/zero"), fifo, folder()})
    CHECK(kind_of([&] { read_file(path, size_t(1) << 40); }) == ErrorKind::data);
  std::filesystem::create_symlink("a", folder() + "link to a");
  CHECK(read_file(folder() + "link to a", 100000).size() == 100000);
  // A hole of a terabyte, as long as a .pth may be: refused before memory is asked for.
  const std::string hole = folder() + "hole";
  write_file(hole, "PK");
  std::filesystem::resize_file(hole, uintmax_t(1) << 40);
  CHECK(kind_of([&] { read_file(hole, size_t(1) << 40, "PK"); }) == ErrorKind::data);
  std::filesystem::remove_all(folder());
}

TEST_CASE("a link is written through, and stays") {
  namespace fs = std::filesystem;
  const fs::path here = folder(), deep = here / "deep";
  fs::create_directories(deep);
  write_file((deep / "target").string(), "old");
  fs::permissions(deep / "target", fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("deep/target", here / "one");
  fs::create_symlink("one", here / "two");
  write_file((here / "two").string(), "new");
  CHECK(fs::read_symlink(here / "two") == "one");
  CHECK(fs::read_symlink(here / "one") == "deep/target");
  CHECK(text((deep / "target").string()) == "new");
  CHECK(fs::status(deep / "target").permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  fs::create_symlink("deep/absent", here / "dangling");
  write_file((here / "dangling").string(), "made");
  CHECK(text((deep / "absent").string()) == "made");
  fs::create_symlink("round", here / "round");
  CHECK(kind_of([&] { write_file((here / "round").string(), "x"); }) == ErrorKind::data);
  CHECK(fs::is_symlink(here / "round"));
  fs::remove_all(here);
}

TEST_CASE("devices and FIFOs are written through or refused, and stay") {
  const std::string fifo = folder() + "fifo", plain = folder() + "plain";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(kind_of([&] { write_file(fifo, "x"); }) == ErrorKind::data);  // nobody reads it
  const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
  write_file(fifo, "through");
  char bytes[8] = {};
  CHECK(::read(reader, bytes, 8) == 7);
  CHECK(std::string(bytes) == "through");
  ::close(reader);
  CHECK(std::filesystem::is_fifo(fifo));
  write_file("/dev/null", "x");
  CHECK(std::filesystem::is_character_file("/dev/null"));
  CHECK(kind_of([&] { write_file("/dev/full", "x"); }) == ErrorKind::data);
  CHECK(std::filesystem::is_character_file("/dev/full"));
  // What lies where we would write first is not ours to take.
  const std::string beside = plain + std::string(beside_suffix);
  REQUIRE(::mkfifo(beside.c_str(), 0600) == 0);
  CHECK(kind_of([&] { write_file(plain, "x"); }) == ErrorKind::data);
  CHECK(std::filesystem::is_fifo(beside));
  std::filesystem::remove(beside);
  write_file(beside, "left by a kill");
  {
    FileWriter first(plain);
    CHECK(kind_of([&] { write_file(plain, "second"); }) == ErrorKind::data);  // one at a time
    first.write("first");
    first.commit();
  }
  CHECK(text(plain) == "first");
  CHECK_FALSE(std::filesystem::exists(beside));
  std::filesystem::remove_all(folder());
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
  CHECK_FALSE(std::filesystem::exists(path + std::string(beside_suffix)));
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
  CHECK_FALSE(std::filesystem::exists(path + std::string(beside_suffix)));
  std::filesystem::remove_all(folder());
}
