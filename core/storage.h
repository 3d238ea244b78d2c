// Storage: reference-counted bytes on one device, taken from that device's caching pool and given back to it. It knows
// when each stretch of its bytes was last written, so that what was derived from a stretch (packed weights, a tape's
// saved operands) knows when it has expired, while writes to other stretches do not disturb it.
#pragma once
#include <espalier/core/device.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace espalier {

// How a device provides bytes: allocate (null where there are none left) and release, on the GPU of that index. `copy`
// moves between any two places of which at least one is this device; synchronize waits for it. `trim` gives what was
// released back to the system; it may be null.
struct Memory {
  void* (*allocate)(size_t bytes, int index);
  void (*release)(void* data, int index);
  void (*copy)(void* to, const void* from, size_t bytes);
  void (*synchronize)(int index);
  void (*trim)() = nullptr;
};

class Storage;

// What a write left behind. `handed_out` says that the last writer was a pointer of mutable_data(), through which more
// may be written at any time without a word.
struct LastWrite {
  uint64_t version = 0;  // grows with every write
  bool handed_out = false;
};

// Copies of stretches of a storage in other formats, kept while the stretch stays as it is and dropped with the
// storage.
class ESPALIER_API Packs {
 public:
  using Format = std::vector<int64_t>;  // what tells copies of one stretch apart: a tag of the packer's, sizes
  // The copy of the stretch at `offset` in that format, made from that version; null if there is none. `keep` says
  // whether a caller who now makes one should put() it: the same version was asked for before.
  std::shared_ptr<Storage> find(size_t offset, std::span<const int64_t> format, LastWrite source, bool& keep);
  // From here on every copy is worth keeping: these values will not change.
  void keep_all() { keep_all_.store(true, std::memory_order_relaxed); }
  // Keeps a copy that find() asked for; none of another version than it was asked for last.
  void put(size_t offset, std::span<const int64_t> format, LastWrite source, std::shared_ptr<Storage> copy);

 private:
  struct Entry {
    uint64_t version = 0;
    bool seen = false;
    std::shared_ptr<Storage> copy;  // null until the same version is asked for twice
  };
  struct Key {
    size_t offset;
    Format format;
  };
  struct View {  // a key that is looked for
    size_t offset;
    std::span<const int64_t> format;
  };
  struct Less {
    using is_transparent = void;
    static View view(const Key& k) { return {k.offset, k.format}; }
    static View view(const View& v) { return v; }
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      const View x = view(a), y = view(b);
      if (x.offset != y.offset) return x.offset < y.offset;
      return std::lexicographical_compare(x.format.begin(), x.format.end(), y.format.begin(), y.format.end());
    }
  };
  std::mutex guard_;
  std::map<Key, Entry, Less> entries_;
  std::atomic<bool> keep_all_{false};
};

// What has crossed between the host and other devices in this process, the emulated one included: copies to a device,
// values read from one (the host waits for each), and bare waits: sent, read, waits. A training step is to do without
// the last two.
struct HostTraffic {
  uint64_t sent, read, waits;
};
// Since the process began.
ESPALIER_API HostTraffic host_traffic();
// sent to a device, read from one, or a bare wait.
enum class Crossing { sent, read, wait };
// Counts one.
ESPALIER_API void note(Crossing crossing);

// The bytes. Several tensors may lie in one.
class ESPALIER_API Storage {
 public:
  Storage(size_t bytes, Device device);  // uninitialised; throws ErrorKind::other when memory is out
  // A stretch of another one under a planner's hand: its own versions, no memory of its own. The planner answers for
  // what else lies there.
  Storage(std::shared_ptr<Storage> whole, size_t offset, size_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  // Where the bytes lie, on their device(); bytes(): how many they are.
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  uint64_t id() const { return id_; }  // never used twice in a process

  // Notes a write to bytes [offset, offset + bytes).
  void written(size_t offset, size_t bytes, bool handed_out = false);
  // The last write that touched any of these bytes.
  LastWrite last_write(size_t offset, size_t bytes) const;
  // What was derived from these bytes.
  Packs& packs() { return packs_; }

 private:
  struct Stretch {
    size_t end;
    uint64_t stamp;
  };

  std::shared_ptr<Storage> whole_memory_;  // null where the memory is its own
  void* data_ = nullptr;
  size_t bytes_, capacity_ = 0;
  Device device_;
  uint64_t id_;
  // A stamp is 2·version + handed_out. whole_ is that of the last write to all bytes; stretches written since then lie
  // in parts_, disjoint, by their begin. Most storages are only ever written whole and never take the lock.
  std::atomic<uint64_t> clock_{0}, whole_{0};
  std::atomic<bool> parted_{false};
  mutable std::mutex guard_;
  std::map<size_t, Stretch> parts_;
  Packs packs_;
};

// What a device's caching pool holds.
struct PoolUse {
  size_t live, peak, cached;  // bytes handed out now, at most, and kept for reuse
  uint64_t blocks;            // how often the system was asked for memory
};
ESPALIER_API PoolUse pool_use(Device device);      // now
ESPALIER_API void reset_pool_peak(Device device);  // from here on the peak counts anew
ESPALIER_API size_t machine_memory();              // bytes of RAM in this machine
ESPALIER_API void empty_pool(Device device);       // gives the cached blocks back to the system
// How many bytes a device's pool may keep for reuse, from now on; the least recently used blocks go first. Without a
// limit of one's own (nullopt) it is ESPALIER_CACHE_LIMIT (bytes, or with K, M, G behind), else a share of what has
// been in use at once: see storage.cpp.
ESPALIER_API void set_cache_limit(Device device, std::optional<size_t> bytes);

}  // namespace espalier
