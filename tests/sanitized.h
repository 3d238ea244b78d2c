// Under a sanitizer code is slow, and the tenth geometry shows it nothing that the first did not: tests that take long
// there do less of the same.
#pragma once

#ifdef __SANITIZE_THREAD__
constexpr bool thread_sanitizer = true;
#else
constexpr bool thread_sanitizer = false;
#endif
#ifdef __SANITIZE_ADDRESS__
constexpr bool address_sanitizer = true;
#else
constexpr bool address_sanitizer = false;
#endif
