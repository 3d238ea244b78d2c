// The caching pool of each device: freed blocks are kept by size and handed out again, best fit, if less than
// twice as large as asked for - after MLX's buffer cache. On the CPU this saves the page faults of fresh memory.
// Under the address sanitizer, what is cached or beyond the bytes asked for is poisoned (no code otherwise).
#include <espalier/core/error.h>
#include <espalier/core/kernels.h>
#include <espalier/core/storage.h>
#include <sanitizer/asan_interface.h>

#include <algorithm>
#include <map>
#include <mutex>

namespace espalier {

namespace {

constexpr size_t page = 4096;

struct BlockPool {
  std::mutex guard;
  std::multimap<size_t, void*> free;
  PoolUse use{};

  void* take(size_t bytes, Device device, size_t& capacity) {
    const size_t want = std::max<size_t>(64, (bytes + 63) / 64 * 64);
    {
      std::lock_guard lock(guard);
      const auto it = free.lower_bound(want);
      if (it != free.end() && it->first < std::min(2 * want, want + want / 4 + 2 * page)) {
        void* data = it->second;
        capacity = it->first;
        free.erase(it);
        use.cached -= capacity;
        use.live += capacity;
        use.peak = std::max(use.peak, use.live);
        return data;
      }
    }
    capacity = want;
    const Memory& memory = column(device).memory;
    void* data = memory.allocate(want, device.index);
    if (!data) {  // give the cache back and try once more
      release_all(device);
      data = memory.allocate(want, device.index);
    }
    if (!data) fail(ErrorKind::other, "[memory] ", device, " has no ", want, " bytes left");
    std::lock_guard lock(guard);
    use.live += want;
    use.peak = std::max(use.peak, use.live);
    return data;
  }

  void give(void* data, size_t capacity) {
    std::lock_guard lock(guard);
    free.emplace(capacity, data);
    use.live -= capacity;
    use.cached += capacity;
  }

  void release_all(Device device) {
    std::lock_guard lock(guard);
    for (auto& [bytes, data] : free) column(device).memory.release(data, device.index);
    free.clear();
    use.cached = 0;
  }
};

// Pools live as long as the process: storages may be freed after static objects are gone.
BlockPool& pool(Device device) {
  static auto& pools = *new std::map<std::pair<int, int>, BlockPool>;
  static std::mutex guard;
  std::lock_guard lock(guard);
  return pools[{int(device.kind), int(device.index)}];
}

std::atomic<uint64_t> last_id{0};

}  // namespace

Storage::Storage(size_t bytes, Device device)
    : bytes_(bytes), device_(device), id_(last_id.fetch_add(1, std::memory_order_relaxed) + 1) {
  data_ = pool(device).take(bytes, device, capacity_);
  if (device.kind != Device::cuda) {
    ASAN_POISON_MEMORY_REGION(data_, capacity_);
    ASAN_UNPOISON_MEMORY_REGION(data_, bytes);
  }
}

Storage::~Storage() {
  if (device_.kind != Device::cuda) ASAN_POISON_MEMORY_REGION(data_, capacity_);
  pool(device_).give(data_, capacity_);
}

PoolUse pool_use(Device device) {
  BlockPool& p = pool(device);
  std::lock_guard lock(p.guard);
  return p.use;
}

void reset_pool_peak(Device device) {
  BlockPool& p = pool(device);
  std::lock_guard lock(p.guard);
  p.use.peak = p.use.live;
}

void empty_pool(Device device) { pool(device).release_all(device); }

}  // namespace espalier
