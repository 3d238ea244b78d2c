// How a reader refuses a file: with one error, of kind data, in one line.
#pragma once
#include <doctest/doctest.h>
#include <espalier/core/error.h>

#include <string>

// The message of the error that f throws, "accepted" if it throws none. An error of another kind is a failure.
template <class F>
std::string refusal(F f, espalier::ErrorKind kind = espalier::ErrorKind::data) {
  try {
    f();
  } catch (const espalier::Error& e) {
    CHECK(e.kind() == kind);
    CHECK(std::string(e.what()).find('\n') == std::string::npos);
    return e.what();
  }
  return "accepted";
}
