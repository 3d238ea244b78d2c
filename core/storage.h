// Storage: reference-counted bytes on one device, taken from that device's caching pool and given back to it.
// `version` counts in-place writes, so that what was derived from the bytes (packed weights) knows when to expire.
#pragma once
#include <espalier/core/device.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace espalier {

// How a device provides bytes. `copy` moves between any two places of which at least one is this device.
struct Memory {
  void* (*allocate)(size_t bytes, int index);
  void (*release)(void* data, int index);
  void (*copy)(void* to, const void* from, size_t bytes);
  void (*synchronize)(int index);
};

class ESPALIER_API Storage {
 public:
  Storage(size_t bytes, Device device);  // uninitialised; throws ErrorKind::other when memory is out
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  uint64_t id() const { return id_; }  // never used twice in a process
  uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void written() { version_.fetch_add(1, std::memory_order_relaxed); }

 private:
  void* data_ = nullptr;
  size_t bytes_, capacity_ = 0;
  Device device_;
  uint64_t id_;
  std::atomic<uint64_t> version_{0};
};

struct PoolUse {
  size_t live, peak, cached;  // bytes handed out now, at most, and kept for reuse
};
ESPALIER_API PoolUse pool_use(Device device);
ESPALIER_API void reset_pool_peak(Device device);
ESPALIER_API void empty_pool(Device device);  // gives the cached blocks back to the system

}  // namespace espalier
