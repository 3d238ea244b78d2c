// What every fuzz target shares: a reader may refuse its input with one line of kind data (or
// usage, for what a file asks for), and nothing else. Anything else - another exception, a signal,
// a finding of a sanitizer - is a bug.
#pragma once
#include <espalier/core/error.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace espalier::fuzz {

// Aborts, printing the error, unless it is as above.
void check_refusal(const Error& e);

template <class F>
void read(F f) {
  try {
    f();
  } catch (const Error& e) { check_refusal(e); }
}

// The input as a file, for readers that take a path: the same path every time, kept in memory.
const std::string& as_file(const uint8_t* data, size_t size);

// Mutates as libFuzzer does, then mostly makes the zip archive's checksums right again, so that
// what lies behind them is reached. For targets whose input is a .pth file.
size_t mutate_archive(uint8_t* data, size_t size, size_t max_size, unsigned seed);

}  // namespace espalier::fuzz
