// The caching pool of each device: freed blocks are kept by size and handed out again, best fit, if not much larger
// than asked for - after MLX's buffer cache. On the CPU this saves the page faults of fresh memory.
// How much is kept: live and cached bytes together stay below 1.5 times the most that was ever live, plus 32 MiB. A
// step needs its peak, and more where a freed block fits nobody: at batch 64 the bundled models hold 1.06 to 1.45 times
// their peak, and from the third step on no block is new (bench_memory, benchmarks/results/memory.txt). Under the
// address sanitizer, what is cached or beyond the bytes asked for is poisoned (no code otherwise).
#include <espalier/core/error.h>
#include <espalier/core/kernels.h>
#include <espalier/core/storage.h>
#include <sanitizer/asan_interface.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <list>
#include <string_view>

namespace espalier {

namespace {

constexpr size_t page = 4096;

// ESPALIER_CACHE_LIMIT, if it is set; throws usage where it is no size.
std::optional<size_t> limit_from_environment() {
  const char* text = std::getenv("ESPALIER_CACHE_LIMIT");
  if (!text || !*text) return std::nullopt;
  const std::string_view all = text;
  size_t value = 0;
  const auto [end, error] = std::from_chars(all.data(), all.data() + all.size(), value);
  const std::string_view unit(end, size_t(all.data() + all.size() - end));
  const int shift = unit == "" ? 0 : unit == "K" ? 10 : unit == "M" ? 20 : unit == "G" ? 30 : -1;
  if (error != std::errc() || shift < 0 || value > (SIZE_MAX >> shift))
    fail(ErrorKind::usage, "[memory] ESPALIER_CACHE_LIMIT is \"", all, "\", expected bytes, as 500000000 or 500M");
  return value << shift;
}

struct Block {
  void* data;
  size_t capacity;
};

class BlockPool {
 public:
  explicit BlockPool(Device device) : device_(device), limit_(limit_from_environment()) {}

  void* take(size_t bytes, size_t& capacity) {
    const size_t want = std::max<size_t>(64, (bytes + 63) / 64 * 64);
    {
      std::lock_guard lock(guard_);
      const auto it = by_size_.lower_bound(want);
      if (it != by_size_.end() && it->first < std::min(2 * want, want + want / 4 + 2 * page)) {
        void* data = it->second->data;
        capacity = it->first;
        by_age_.erase(it->second);
        by_size_.erase(it);
        use_.cached -= capacity;
        lend(capacity);
        return data;
      }
    }
    capacity = want;
    const Memory& memory = column(device_).memory;
    void* data = memory.allocate(want, device_.index);
    if (!data) {  // give the cache back and try once more
      empty();
      data = memory.allocate(want, device_.index);
    }
    if (!data) fail(ErrorKind::other, "[memory] ", device_, " has no ", want, " bytes left");
    std::lock_guard lock(guard_);
    ++use_.blocks;
    lend(want);
    return data;
  }

  void give(void* data, size_t capacity) {
    std::lock_guard lock(guard_);
    by_age_.push_back({data, capacity});
    by_size_.emplace(capacity, std::prev(by_age_.end()));
    use_.live -= capacity;
    use_.cached += capacity;
    shrink(allowed());
  }

  void empty() {
    std::lock_guard lock(guard_);
    shrink(0);
    if (const auto trim = column(device_).memory.trim) trim();
  }

  void set_limit(std::optional<size_t> bytes) {
    std::lock_guard lock(guard_);
    limit_ = bytes ? bytes : limit_from_environment();
    shrink(allowed());
  }

  PoolUse use() {
    std::lock_guard lock(guard_);
    return use_;
  }
  void reset_peak() {
    std::lock_guard lock(guard_);
    use_.peak = use_.live;
  }

 private:
  void lend(size_t capacity) {
    use_.live += capacity;
    use_.peak = std::max(use_.peak, use_.live);
    most_ = std::max(most_, use_.live);
  }
  size_t allowed() const {
    if (limit_) return *limit_;
    const size_t all = most_ + most_ / 2 + (size_t(32) << 20);
    return all > use_.live ? all - use_.live : 0;
  }
  void shrink(size_t cached) {
    while (use_.cached > cached) {
      const auto oldest = by_age_.begin();
      auto it = by_size_.lower_bound(oldest->capacity);
      while (it->second != oldest) ++it;
      by_size_.erase(it);
      use_.cached -= oldest->capacity;
      column(device_).memory.release(oldest->data, device_.index);
      by_age_.erase(oldest);
    }
  }

  Device device_;
  std::mutex guard_;
  std::list<Block> by_age_;  // the least recently freed first
  std::multimap<size_t, std::list<Block>::iterator> by_size_;
  PoolUse use_{};
  size_t most_ = 0;  // the peak that reset_pool_peak() does not reset
  std::optional<size_t> limit_;
};

// Pools live as long as the process: storages may be freed after static objects are gone.
BlockPool& pool(Device device) {
  static auto& pools = *new std::map<std::pair<int, int>, BlockPool>;
  static std::mutex guard;
  std::lock_guard lock(guard);
  return pools.try_emplace({int(device.kind), int(device.index)}, device).first->second;
}

std::atomic<uint64_t> last_id{0};
std::atomic<uint64_t> crossings[3];  // by Crossing

}  // namespace

HostTraffic host_traffic() { return {crossings[0], crossings[1], crossings[2]}; }
void note(Crossing crossing) { crossings[size_t(crossing)].fetch_add(1, std::memory_order_relaxed); }

Storage::Storage(size_t bytes, Device device)
    : bytes_(bytes), device_(device), id_(last_id.fetch_add(1, std::memory_order_relaxed) + 1) {
  if (bytes > SIZE_MAX / 4) fail(ErrorKind::other, "[memory] ", device, " has no ", bytes, " bytes left");
  data_ = pool(device).take(bytes, capacity_);
  if (device.kind != Device::cuda) {
    ASAN_POISON_MEMORY_REGION(data_, capacity_);
    ASAN_UNPOISON_MEMORY_REGION(data_, bytes);
  }
}

Storage::Storage(std::shared_ptr<Storage> whole, size_t offset, size_t bytes)
    : whole_memory_(std::move(whole)),
      data_(static_cast<char*>(whole_memory_->data()) + offset),
      bytes_(bytes),
      device_(whole_memory_->device()),
      id_(last_id.fetch_add(1, std::memory_order_relaxed) + 1) {
  if (offset > whole_memory_->bytes() || bytes > whole_memory_->bytes() - offset)
    fail(ErrorKind::other, "[memory] ", bytes, " bytes from ", offset, " of ", whole_memory_->bytes());
}

Storage::~Storage() {
  if (whole_memory_) return;
  if (device_.kind != Device::cuda) ASAN_POISON_MEMORY_REGION(data_, capacity_);
  pool(device_).give(data_, capacity_);
}

void Storage::written(size_t offset, size_t bytes, bool handed_out) {
  const uint64_t stamp = 2 * (clock_.fetch_add(1, std::memory_order_relaxed) + 1) + handed_out;
  const bool whole = offset == 0 && bytes >= bytes_;
  if (whole && !parted_.load(std::memory_order_acquire)) {
    whole_.store(stamp, std::memory_order_relaxed);
    return;
  }
  if (bytes == 0) return;
  std::lock_guard lock(guard_);
  if (whole) {
    parts_.clear();
    whole_.store(stamp, std::memory_order_relaxed);
    return;
  }
  const size_t end = offset + bytes;
  auto it = parts_.upper_bound(offset);
  if (it != parts_.begin()) --it;
  while (it != parts_.end() && it->first < end) {  // cut the older stretches that this one overlaps
    const auto [begin, old] = *it;
    if (old.end <= offset) {
      ++it;
      continue;
    }
    it = parts_.erase(it);
    if (begin < offset) parts_[begin] = {offset, old.stamp};
    if (old.end > end) parts_[end] = {old.end, old.stamp};
  }
  parts_[offset] = {end, stamp};
  parted_.store(true, std::memory_order_release);
}

LastWrite Storage::last_write(size_t offset, size_t bytes) const {
  uint64_t stamp = whole_.load(std::memory_order_relaxed);
  if (parted_.load(std::memory_order_acquire)) {
    std::lock_guard lock(guard_);
    const size_t end = offset + bytes;
    size_t covered = 0;
    uint64_t latest = 0;
    bool handed_out = false;
    auto it = parts_.upper_bound(offset);
    if (it != parts_.begin()) --it;
    for (; it != parts_.end() && it->first < end; ++it) {
      if (it->second.end <= offset) continue;
      covered += std::min(end, it->second.end) - std::max(offset, it->first);
      latest = std::max(latest, it->second.stamp);
      handed_out = handed_out || (it->second.stamp & 1);
    }
    if (covered < bytes) {
      handed_out = handed_out || (whole_.load(std::memory_order_relaxed) & 1);
      latest = std::max(latest, whole_.load(std::memory_order_relaxed));
    }
    return {latest / 2, handed_out};
  }
  return {stamp / 2, (stamp & 1) != 0};
}

std::shared_ptr<Storage> Packs::find(size_t offset, std::span<const int64_t> format, LastWrite source, bool& keep) {
  keep = false;
  if (source.handed_out) return nullptr;
  std::lock_guard lock(guard_);
  auto it = entries_.find(View{offset, format});
  if (it == entries_.end()) it = entries_.emplace(Key{offset, Format(format.begin(), format.end())}, Entry{}).first;
  Entry& entry = it->second;
  keep = entry.seen && entry.version == source.version;
  if (!keep) entry = {source.version, true, nullptr};
  keep = keep || keep_all_.load(std::memory_order_relaxed);
  return entry.copy;
}

void Packs::put(size_t offset, std::span<const int64_t> format, LastWrite source, std::shared_ptr<Storage> copy) {
  std::lock_guard lock(guard_);
  const auto it = entries_.find(View{offset, format});
  if (it != entries_.end() && it->second.version == source.version) it->second.copy = std::move(copy);
}

PoolUse pool_use(Device device) { return pool(device).use(); }
void reset_pool_peak(Device device) { pool(device).reset_peak(); }
size_t machine_memory() { return size_t(::sysconf(_SC_PHYS_PAGES)) * size_t(::sysconf(_SC_PAGE_SIZE)); }
void empty_pool(Device device) { pool(device).empty(); }
void set_cache_limit(Device device, std::optional<size_t> bytes) { pool(device).set_limit(bytes); }

}  // namespace espalier
