// Tensors: layout, conversion, the pool, and the smallest tape.
#include <doctest/doctest.h>
#include <espalier/core/kernels.h>
#include <espalier/core/tape.h>
#include <espalier/nn/module.h>

using namespace espalier;

TEST_CASE("rank-4 tensors are stored channels-last and spoken of in N,C,H,W") {
  std::vector<float> values(2 * 3 * 2 * 2);
  for (size_t i = 0; i < values.size(); ++i) values[i] = float(i);
  const auto t = Tensor::from(values, {2, 3, 2, 2});
  CHECK(t.to_vector() == values);
  CHECK(t.data()[0] == 0);
  CHECK(t.data()[1] == 4);  // the next channel of the same pixel
}

TEST_CASE("bf16 rounds to nearest even") {
  const auto t = Tensor::from(std::vector<float>{1.f, 1.00390625f, 1.01171875f, -3.f}, {4});
  CHECK(t.to(DType::bf16).to(DType::f32).to_vector() == std::vector<float>{1.f, 1.f, 1.015625f, -3.f});
}

TEST_CASE("an error says what came, what was expected and where") {
  Scope scope("layer2.0.conv1");
  try {
    Tensor::from(std::vector<float>(3), {2, 2});
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(std::string(e.what()) == "[tensor] 3 values for shape [2,2] (in layer2.0.conv1)");
    CHECK(e.exit_code() == 1);
  }
}

TEST_CASE("an error is one printable line, whatever a file calls its parts") {
  CHECK_THROWS_WITH_AS(fail(ErrorKind::data, "[zip] entry 'a\r\n\x1b[2J\x7f', ä"),
                       "[zip] entry 'a\\x0d\\x0a\\x1b[2J\\x7f', ä", Error);
  try {
    fail(ErrorKind::data, std::string(100000, 'x'));
  } catch (const Error& e) { CHECK(std::string(e.what()).size() == 2003); }
}

TEST_CASE("the pool hands a freed block out again") {
  const void* first;
  { first = Tensor::empty({1000}).data(); }
  CHECK(Tensor::empty({990}).data() == first);
}

TEST_CASE("arange is PyTorch's: whole numbers are s64, others f32, and end is left out") {
  CHECK(arange(5).to_vector<int64_t>() == std::vector<int64_t>{0, 1, 2, 3, 4});
  CHECK(arange(5).dtype() == DType::s64);
  CHECK(arange(7, 1, -2).to_vector<int64_t>() == std::vector<int64_t>{7, 5, 3});
  CHECK(arange(0., 1., 0.25).to_vector() == std::vector<float>{0, 0.25f, 0.5f, 0.75f});
  CHECK(arange(0., 1., 0.25).dtype() == DType::f32);
  CHECK(arange(3, 3).numel() == 0);
  CHECK_THROWS_AS(arange(0, 3, -1), Error);
  CHECK_THROWS_AS(arange(0, 3, 0), Error);
}

TEST_CASE("printed tensors stand in rows and columns, long ones shortened") {
  const auto text = [](const Tensor& t) {
    std::ostringstream out;
    out << t;
    return out.str();
  };
  CHECK(text(Tensor::from(std::vector<float>{1, -2.5f, 3, 4, 5, 10}, {2, 3})) ==
        "f32[2,3] on cpu\n[[   1, -2.5,    3],\n [   4,    5,   10]]");
  CHECK(text(arange(10)) == "s64[10] on cpu [0, 1, 2, ..., 7, 8, 9]");
  CHECK(text(Tensor::full({}, 2)) == "f32[] on cpu 2");
  CHECK(text(Tensor{}) == "(undefined)");
  CHECK(text(Tensor::zeros({2, 1, 2})) == "f32[2,1,2] on cpu\n[[[0, 0]],\n\n [[0, 0]]]");
}
