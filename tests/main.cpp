// The entry point that all test executables share.
#define DOCTEST_CONFIG_IMPLEMENT  // said apart: where headers are precompiled, doctest has been read before
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
