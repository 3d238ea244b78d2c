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
