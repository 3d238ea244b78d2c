// How a reader refuses a file: with one error, of kind data, in one line.
#pragma once
#include <doctest/doctest.h>
#include <espalier/core/error.h>

#include <string>

// The message of the data error that f throws, "accepted" if it throws none. Any other exception is a failure.
template <class F>
std::string refusal(F f) {
  try {
    f();
  } catch (const espalier::Error& e) {
    CHECK(e.kind() == espalier::ErrorKind::data);
    CHECK(std::string(e.what()).find('\n') == std::string::npos);
    return e.what();
  }
  return "accepted";
}
