// Reading .pth files. The pickle is data (core/io/pickle.h); the few calls that torch.save writes for
// tensors and ordered dicts, and those that training scripts leave beside them, are understood here,
// any other name is refused. What a file can make us allocate is bounded by its size.
#include <espalier/core/io/file.h>
#include <espalier/core/io/pickle.h>
#include <espalier/core/io/pth.h>
#include <espalier/core/io/zip.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <unordered_map>

namespace espalier::pth {

namespace {

using pickle::Object;
using pickle::Ref;

constexpr int max_depth = 64;  // of dicts and lists in one another
constexpr size_t max_file = size_t(1) << 40;

// What an element is in the file, and what it becomes here.
struct Storage {
  std::string_view global;
  size_t element;
  DType dtype;
  void (*convert)(const char* from, char* to, size_t n);  // null: the bytes are the same
};

template <class To, class F>
void convert_each(const char* from, char* to, size_t n, size_t element, F f) {
  for (size_t i = 0; i < n; ++i) {
    const To value = f(from + i * element);
    std::memcpy(to + i * sizeof(To), &value, sizeof(To));
  }
}

template <class T>
T load_as(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

// IEEE half precision, exactly.
float from_half(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0) return (sign ? -1.f : 1.f) * float(fraction) * 0x1p-24f;
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

constexpr Storage storages[] = {
    {"torch FloatStorage", 4, DType::f32, nullptr},
    {"torch BFloat16Storage", 2, DType::bf16, nullptr},
    {"torch LongStorage", 8, DType::s64, nullptr},
    {"torch IntStorage", 4, DType::s32, nullptr},
    {"torch CharStorage", 1, DType::s8, nullptr},
    {"torch ByteStorage", 1, DType::u8, nullptr},
    {"torch BoolStorage", 1, DType::u8,
     [](const char* from, char* to, size_t n) {
       convert_each<uint8_t>(from, to, n, 1, [](const char* at) { return uint8_t(*at != 0); });
     }},
    {"torch ShortStorage", 2, DType::s32,
     [](const char* from, char* to, size_t n) {
       convert_each<int32_t>(from, to, n, 2, [](const char* at) { return int32_t(load_as<int16_t>(at)); });
     }},
    {"torch HalfStorage", 2, DType::f32,
     [](const char* from, char* to, size_t n) {
       convert_each<float>(from, to, n, 2, [](const char* at) { return from_half(load_as<uint16_t>(at)); });
     }},
    {"torch DoubleStorage", 8, DType::f32,
     [](const char* from, char* to, size_t n) {
       convert_each<float>(from, to, n, 8, [](const char* at) { return float(load_as<double>(at)); });
     }},
};

constexpr std::string_view ordered_dict = "collections OrderedDict", default_dict = "collections defaultdict",
                           counter = "collections Counter", size = "torch Size",
                           rebuild_tensor = "torch._utils _rebuild_tensor",
                           rebuild_tensor_v2 = "torch._utils _rebuild_tensor_v2",
                           rebuild_parameter = "torch._utils _rebuild_parameter";
constexpr std::string_view functions[] = {ordered_dict,   default_dict,      counter,          size,
                                          rebuild_tensor, rebuild_tensor_v2, rebuild_parameter};
// Python's sets (under protocols before 4), and numpy's numbers: scalar(dtype, bytes), under the names of numpy 1
// and 2.
constexpr std::string_view sets[] = {"__builtin__ set", "builtins set", "__builtin__ frozenset", "builtins frozenset"};
constexpr std::string_view numpy_scalars[] = {"numpy.core.multiarray scalar", "numpy._core.multiarray scalar"};
constexpr std::string_view numpy_dtype = "numpy dtype", encode = "_codecs encode";  // encode: bytes, before protocol 3
// What may stand beside weights and is read as nothing.
constexpr std::string_view ignored[] = {"numpy.core.multiarray _reconstruct",
                                        "numpy._core.multiarray _reconstruct",
                                        "numpy.core.numeric _frombuffer",
                                        "numpy._core.numeric _frombuffer",
                                        "numpy ndarray",
                                        "argparse Namespace",
                                        "torch device",
                                        "__builtin__ dict",
                                        "builtins dict",
                                        "__builtin__ list",
                                        "builtins list",
                                        "__builtin__ bytearray",
                                        "builtins bytearray",
                                        numpy_dtype,
                                        encode};

bool is_among(std::string_view name, std::span<const std::string_view> names) {
  return std::ranges::find(names, name) != names.end();
}

// A pickle that holds nothing but a number with which torch.save began a file before PyTorch 1.6.
constexpr std::string_view legacy_magic{"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 13};
constexpr const char* way_out = "torch.save(model.state_dict(), ...)";

// Copies n elements of each of the `dims` outermost first, source steps and destination in
// elements.
struct Gather {
  const Storage& type;
  const int64_t* dims;
  const int64_t* steps;
  int rank;

  char* operator()(const char* from, char* to, int d = 0) const {
    const size_t out = size_of(type.dtype);
    if (d == rank) {
      copy(from, to, 1);
      return to + out;
    }
    if (d + 1 == rank && steps[d] == 1) {
      copy(from, to, size_t(dims[d]));
      return to + size_t(dims[d]) * out;
    }
    for (int64_t i = 0; i < dims[d]; ++i) to = (*this)(from + size_t(i * steps[d]) * type.element, to, d + 1);
    return to;
  }
  void copy(const char* from, char* to, size_t n) const {
    type.convert ? type.convert(from, to, n) : (void)std::memcpy(to, from, n * type.element);
  }
};

class Loader {
 public:
  Loader(std::span<const char> bytes, const std::string& name)
      : name_(name), bytes_left_(int64_t(8 * bytes.size() + (1 << 20))) {
    if (bytes[0] == '\x80')
      read_legacy(bytes);
    else
      read_archive(bytes);
    for (const Object& o : pickle_.objects)
      if (o.kind == Object::global && !is_among(o.text_value, functions) && !is_among(o.text_value, sets) &&
          !is_among(o.text_value, numpy_scalars) && !is_among(o.text_value, ignored) && !storage_named(o.text_value))
        refuse("names '", o.text_value, "', which no file of tensors needs; nothing was run (if it holds a whole ",
               "model, save its weights: ", way_out, ")");
  }

  Value root() { return value(pickle_.root, 0); }
  std::string note() {
    return archive_ && archive_->has(root_ + "espalier.json") ? text_of(root_ + "espalier.json") : "";
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... what) const {
    fail(ErrorKind::data, "[pth] ", name_, " ", what...);
  }

  void read_archive(std::span<const char> bytes) {
    archive_.emplace(bytes, name_);
    const auto& names = archive_->names();
    if (!names.empty()) root_ = names[0].substr(0, names[0].find('/') + 1);
    if (archive_->has(root_ + "constants.pkl")) refuse("is a TorchScript archive; save its weights: ", way_out);
    if (!archive_->has(root_ + "data.pkl"))
      refuse("is a zip archive without a data.pkl; it was not made by torch.save");
    if (archive_->has(root_ + "byteorder") && text_of(root_ + "byteorder") != "little")
      refuse("was written on a big-endian machine");
    const auto pickled = archive_->read(root_ + "data.pkl", pickle_bytes_);
    pickle_ = pickle::parse(pickled, name_);
    values_left_ = int64_t(64 * pickled.size() + 4096);
  }

  // Pickles of the magic number, a version, facts about the machine, the value and the storages' keys; then for each
  // storage how many elements it has, and they.
  void read_legacy(std::span<const char> bytes) {
    const size_t found = std::string_view(bytes.data(), std::min<size_t>(bytes.size(), 32)).find(legacy_magic);
    if (found == std::string_view::npos)
      refuse("is a pickle that torch.save did not make; save the weights: ", way_out);
    size_t at = found + legacy_magic.size(), used = 0;
    const auto next = [&] {
      pickle::Pickle p = pickle::parse(bytes.subspan(at), name_, &used);
      at += used;
      return p;
    };
    const auto version = next();
    if (version[version.root].kind != Object::integer || version[version.root].integer_value != 1001)
      refuse("has an unknown version of the format before PyTorch 1.6; save it again: ", way_out);
    const auto system = next();
    const auto& facts = system[system.root].items;
    for (size_t i = 0; i + 1 < facts.size(); i += 2)
      if (system[facts[i]].text_value == "little_endian" && system[facts[i + 1]].kind == Object::boolean &&
          system[facts[i + 1]].integer_value == 0)
        refuse("was written on a big-endian machine");
    pickle_ = next();
    values_left_ = int64_t(64 * used + 4096);
    std::unordered_map<std::string_view, size_t> elements;  // bytes of one, by storage
    for (const Object& o : pickle_.objects) {
      if (o.kind != Object::persistent || pickle_[o.items[0]].kind != Object::tuple) continue;
      const auto& id = pickle_[o.items[0]].items;
      if (id.size() < 3 || pickle_[id[0]].text_value != "storage") continue;
      if (const Storage* type = storage_named(pickle_[id[1]].text_value))
        elements.emplace(pickle_[id[2]].text_value, type->element);
    }
    const auto keys = next();
    if (keys[keys.root].kind != Object::list) refuse("has a damaged list of storages");
    for (const Ref r : keys[keys.root].items) {
      const auto element = elements.find(keys[r].text_value);
      if (keys[r].kind != Object::text || element == elements.end()) refuse("lists a storage of unknown type");
      uint64_t n = 0;
      if (bytes.size() - at < sizeof(n)) refuse("ends early");
      std::memcpy(&n, bytes.data() + at, sizeof(n));
      at += sizeof(n);
      if (n > (bytes.size() - at) / element->second) refuse("ends early");
      contents_[std::string(element->first)].second = bytes.subspan(at, size_t(n) * element->second);
      at += size_t(n) * element->second;
    }
  }

  std::string text_of(const std::string& entry) {
    std::vector<char> inflated;
    const auto text = archive_->read(entry, inflated);
    return {text.begin(), text.end()};
  }

  static const Storage* storage_named(std::string_view global) {
    for (const Storage& s : storages)
      if (s.global == global) return &s;
    return nullptr;
  }

  // Objects may hold one another many times over; what they unfold to is bounded by the pickle's
  // length.
  void spend_values(size_t n) {
    if ((values_left_ -= int64_t(n)) < 0) refuse("unfolds to far more values than it has bytes");
  }

  const Object& object(Ref r, Object::Kind kind, const char* what) const {
    if (pickle_[r].kind != kind) refuse("has a damaged ", what);
    return pickle_[r];
  }
  int64_t natural(Ref r, const char* what) const {
    const int64_t i = object(r, Object::integer, what).integer_value;
    if (i < 0) refuse("has a negative number in a ", what);
    return i;
  }

  Value value(Ref r, int depth) {
    const Object& o = pickle_[r];
    spend_values(1 + o.text_value.size());
    if (depth > max_depth) refuse("nests values deeper than ", max_depth, " levels");
    switch (o.kind) {
      case Object::none:
      case Object::bytes:
        return {};
      case Object::boolean:
        return o.integer_value != 0;
      case Object::integer:
        return o.integer_value;
      case Object::real:
        return o.real_value;
      case Object::text:
        return std::string(o.text_value);
      case Object::list:
      case Object::tuple:
        return list(o.items, depth);
      case Object::dict:
        return dict(o.items, depth);
      case Object::call:
        return called(r, o, depth);
      case Object::global:
      case Object::persistent:
        break;
    }
    refuse("holds a bare ", o.kind == Object::global ? "name" : "storage", " where a value belongs");
  }

  List list(std::span<const Ref> items, int depth) {
    List values;
    for (Ref item : items) values.push_back(value(item, depth + 1));
    return values;
  }

  Dict dict(std::span<const Ref> items, int depth) {
    Dict entries;
    std::set<std::string> keys;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const Object& k = pickle_[items[i]];
      if (k.kind != Object::text && k.kind != Object::integer) {  // no weight's name: statistics, say
        value(items[i + 1], depth + 1);
        continue;
      }
      spend_values(1 + k.text_value.size());
      std::string key = k.kind == Object::text ? std::string(k.text_value) : std::to_string(k.integer_value);
      if (!keys.insert(key).second) refuse("has a dict with two entries '", key, "'");
      entries.emplace_back(std::move(key), value(items[i + 1], depth + 1));
    }
    return entries;
  }

  Value called(Ref r, const Object& o, int depth) {
    const std::string_view callee = pickle_[o.items[0]].text_value;
    const auto& arguments = pickle_[o.items[1]].items;
    const auto entries = std::span(o.items).subspan(2);
    if ((callee == ordered_dict && arguments.empty()) || callee == default_dict) return dict(entries, depth);
    if (is_among(callee, ignored)) return {};
    if (!entries.empty()) refuse("sets entries on '", callee, "'");
    if (callee == counter && arguments.size() == 1)
      return dict(object(arguments[0], Object::dict, "counter").items, depth);
    if (callee == size && arguments.size() == 1) return list(object(arguments[0], Object::tuple, "size").items, depth);
    if (is_among(callee, sets) && arguments.size() == 1)
      return list(object(arguments[0], Object::list, "set").items, depth);
    if (is_among(callee, numpy_scalars) && arguments.size() == 2) return number(arguments[0], arguments[1]);
    if (callee == rebuild_parameter && arguments.size() == 3) return value(arguments[0], depth + 1);
    if ((callee == rebuild_tensor && arguments.size() == 4) ||
        (callee == rebuild_tensor_v2 && (arguments.size() == 6 || arguments.size() == 7))) {
      const auto [made, is_new] = tensors_.try_emplace(r);
      if (is_new) made->second = tensor(arguments);
      return made->second;
    }
    refuse("calls '", callee, "' with ", arguments.size(), " arguments");
  }

  // numpy's scalar: dtype is numpy.dtype('f8', ...) with the byte order in its state, raw its bytes. Nothing where the
  // type is none of plain numbers.
  Value number(Ref dtype, Ref raw) const {
    const Object& type = object(dtype, Object::call, "number");
    const auto& arguments = pickle_[type.items[1]].items;
    if (pickle_[type.items[0]].text_value != numpy_dtype || arguments.empty()) refuse("has a damaged number");
    const std::string_view kind = pickle_[arguments[0]].text_value;
    if (type.state != 0) {
      const auto& state = pickle_[type.state].items;
      if (state.size() > 1 && pickle_[state[1]].text_value == ">") return {};
    }
    std::string bytes(pickle_[raw].text_value);
    if (pickle_[raw].kind == Object::call) bytes = encoded(pickle_[raw]);
    const auto as = [&]<class T>(T value) {
      if (bytes.size() != sizeof(T)) refuse("has a damaged number");
      std::memcpy(&value, bytes.data(), sizeof(T));
      return value;
    };
    if (kind == "f8") return as(double{});
    if (kind == "f4") return double(as(float{}));
    if (kind == "f2") return double(from_half(as(uint16_t{})));
    if (kind == "i8") return as(int64_t{});
    if (kind == "i4") return int64_t(as(int32_t{}));
    if (kind == "i2") return int64_t(as(int16_t{}));
    if (kind == "i1") return int64_t(as(int8_t{}));
    if (kind == "u4") return int64_t(as(uint32_t{}));
    if (kind == "u2") return int64_t(as(uint16_t{}));
    if (kind == "u1") return int64_t(as(uint8_t{}));
    if (kind == "b1") return as(uint8_t{}) != 0;
    return {};
  }

  // The bytes that encode(text, 'latin1') makes of at most 16 characters, as many as a number could have.
  std::string encoded(const Object& o) const {
    const auto& arguments = pickle_[o.items[1]].items;
    std::string bytes;
    if (pickle_[o.items[0]].text_value != encode || arguments.empty()) return bytes;
    const std::string_view text = pickle_[arguments[0]].text_value;
    for (size_t i = 0; i < text.size() && bytes.size() < 16; ++i) {
      const auto first = uint8_t(text[i]);
      const bool two = (first == 0xc2 || first == 0xc3) && i + 1 < text.size();
      bytes += two ? char((first & 3) << 6 | (text[++i] & 63)) : char(first);
    }
    return bytes;
  }

  // arguments: storage, offset, size, stride, ... ; storage is ('storage', type, key, device,
  // numel), and in old files a view, which is None since PyTorch 0.4.
  Tensor tensor(const std::vector<Ref>& arguments) {
    const Object& persistent = object(arguments[0], Object::persistent, "tensor");
    const auto& id = object(persistent.items[0], Object::tuple, "storage").items;
    if ((id.size() != 5 && id.size() != 6) || pickle_[id[0]].text_value != "storage") refuse("has a damaged storage");
    if (id.size() == 6 && pickle_[id[5]].kind != Object::none)
      refuse("has views of storages, as PyTorch wrote them before 0.4; save it again: ", way_out);
    const Storage* type = storage_named(object(id[1], Object::global, "storage").text_value);
    if (!type) refuse("has a storage of type '", pickle_[id[1]].text_value, "'");
    const std::string key(object(id[2], Object::text, "storage").text_value);
    const int64_t have = natural(id[4], "storage");

    const auto& sizes = object(arguments[2], Object::tuple, "tensor").items;
    const auto& steps_given = object(arguments[3], Object::tuple, "tensor").items;
    if (sizes.size() != steps_given.size())
      refuse("has a tensor with ", sizes.size(), " sizes and ", steps_given.size(), " strides");
    if (sizes.size() > size_t(max_rank)) refuse("has a tensor of rank ", sizes.size(), "; the limit is ", max_rank);
    Shape shape;
    int64_t steps[max_rank] = {}, numel = 1;
    for (size_t i = 0; i < sizes.size(); ++i) {
      shape.push_back(natural(sizes[i], "tensor's shape"));
      steps[i] = natural(steps_given[i], "tensor's strides");
      if (__builtin_mul_overflow(numel, shape[int(i)], &numel)) refuse("has a tensor of more than 2^63 elements");
    }

    const auto stored = contents(key);
    if (uint64_t(have) > stored.size() / type->element)
      refuse("has ", stored.size(), " bytes in storage ", key, ", which claims ", have, " elements of ", type->element,
             " bytes");
    const int64_t offset = natural(arguments[1], "tensor's offset");
    int64_t last = offset;  // the highest element that is read
    for (int i = 0; i < shape.rank(); ++i) {
      int64_t reach = 0;
      if (shape[i] > 0 &&
          (__builtin_mul_overflow(shape[i] - 1, steps[i], &reach) || __builtin_add_overflow(last, reach, &last)))
        last = INT64_MAX;
      if (last == INT64_MAX) break;
    }
    if (numel > 0 && last >= have)
      refuse("has a tensor ", shape, " that reaches beyond its storage of ", have, " elements");
    if (numel > bytes_left_ / int64_t(size_of(type->dtype)))
      refuse("unfolds to far more tensor elements than it has bytes");
    bytes_left_ -= numel * int64_t(size_of(type->dtype));

    Tensor t = Tensor::empty(shape, type->dtype);
    if (numel == 0) return t;
    // Walk in the order in which the tensor lies in memory here: N,H,W,C for rank 4. Dimensions
    // that follow each other in the file as well are walked as one.
    int64_t dims[max_rank] = {}, walk[max_rank] = {};
    int rank = 0;
    const int nhwc[] = {0, 2, 3, 1};
    for (int i = 0; i < shape.rank(); ++i) {
      const int d = shape.rank() == 4 ? nhwc[i] : i;
      if (shape[d] == 1) continue;
      if (rank > 0 && walk[rank - 1] == steps[d] * shape[d]) {
        dims[rank - 1] *= shape[d];
        walk[rank - 1] = steps[d];
      } else {
        dims[rank] = shape[d];
        walk[rank++] = steps[d];
      }
    }
    const Gather gather{*type, dims, walk, rank};
    gather(stored.data() + size_t(offset) * type->element, static_cast<char*>(t.out().data));
    return t;
  }

  // The bytes of storage `key`; inflated and checked once.
  std::span<const char> contents(const std::string& key) {
    const auto [found, is_new] = contents_.try_emplace(key);
    if (is_new) {
      if (!archive_) refuse("has no storage ", key);
      found->second.second = archive_->read(root_ + "data/" + key, found->second.first);
      bytes_left_ += 8 * int64_t(found->second.first.size());
    }
    return found->second.second;
  }

  const std::string& name_;
  std::optional<zip::Reader> archive_;  // none: the format before PyTorch 1.6
  std::string root_;                    // "archive/"
  std::vector<char> pickle_bytes_;
  pickle::Pickle pickle_;
  int64_t values_left_ = 0, bytes_left_;
  std::unordered_map<Ref, Tensor> tensors_;
  std::unordered_map<std::string, std::pair<std::vector<char>, std::span<const char>>> contents_;
};

}  // namespace

Value parse(const void* data, size_t bytes, const std::string& name, std::string* note) {
  const std::span all(static_cast<const char*>(data), bytes);
  if (bytes == 0) fail(ErrorKind::data, "[pth] ", name, " is empty");
  Loader loader(all, name);
  if (note) *note = loader.note();
  return loader.root();
}

Value load(const std::string& path, std::string* note) {
  auto bytes = read_file(path, max_file, "PK");
  if (!bytes.empty() && bytes[0] == '\x80') bytes = read_file(path, max_file, "\x80");
  return parse(bytes.data(), bytes.size(), path, note);
}

}  // namespace espalier::pth
