// Reading .pth files. The pickle is data (core/io/pickle.h); the few calls that torch.save writes for
// tensors and ordered dicts are understood here, any other name is refused. What a file can make us
// allocate is bounded by its size.
#include <espalier/core/io/file.h>
#include <espalier/core/io/pickle.h>
#include <espalier/core/io/pth.h>
#include <espalier/core/io/zip.h>

#include <algorithm>
#include <bit>
#include <cstring>
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

constexpr std::string_view ordered_dict = "collections OrderedDict", counter = "collections Counter",
                           size = "torch Size", rebuild_tensor = "torch._utils _rebuild_tensor",
                           rebuild_tensor_v2 = "torch._utils _rebuild_tensor_v2",
                           rebuild_parameter = "torch._utils _rebuild_parameter";
constexpr std::string_view functions[] = {ordered_dict,   counter,           size,
                                          rebuild_tensor, rebuild_tensor_v2, rebuild_parameter};

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
      : name_(name), archive_(bytes, name), bytes_left_(int64_t(8 * bytes.size() + (1 << 20))) {
    const auto& names = archive_.names();
    if (!names.empty()) root_ = names[0].substr(0, names[0].find('/') + 1);
    if (archive_.has(root_ + "constants.pkl"))
      refuse("is a TorchScript archive; save the model's state_dict() instead");
    if (!archive_.has(root_ + "data.pkl")) refuse("is a zip archive without a data.pkl; it was not made by torch.save");
    if (archive_.has(root_ + "byteorder") && text_of(root_ + "byteorder") != "little")
      refuse("was written on a big-endian machine");
    const auto pickled = archive_.read(root_ + "data.pkl", pickle_bytes_);
    pickle_ = pickle::parse(pickled, name_);
    values_left_ = int64_t(64 * pickled.size() + 4096);
    for (const Object& o : pickle_.objects)
      if (o.kind == Object::global && std::ranges::find(functions, o.text_value) == std::end(functions) &&
          !storage_named(o.text_value))
        refuse("names '", o.text_value, "', which no file of tensors needs; nothing was run");
  }

  Value root() { return value(pickle_.root, 0); }
  std::string note() { return archive_.has(root_ + "espalier.json") ? text_of(root_ + "espalier.json") : ""; }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... what) const {
    fail(ErrorKind::data, "[pth] ", name_, " ", what...);
  }

  std::string text_of(const std::string& entry) {
    std::vector<char> inflated;
    const auto text = archive_.read(entry, inflated);
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
      if (k.kind != Object::text && k.kind != Object::integer)
        refuse("has a dict whose key is neither text nor an integer");
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
    if (callee == ordered_dict && arguments.empty()) return dict(entries, depth);
    if (!entries.empty()) refuse("sets entries on '", callee, "'");
    if (callee == counter && arguments.size() == 1)
      return dict(object(arguments[0], Object::dict, "counter").items, depth);
    if (callee == size && arguments.size() == 1) return list(object(arguments[0], Object::tuple, "size").items, depth);
    if (callee == rebuild_parameter && arguments.size() == 3) return value(arguments[0], depth + 1);
    if ((callee == rebuild_tensor && arguments.size() == 4) ||
        (callee == rebuild_tensor_v2 && (arguments.size() == 6 || arguments.size() == 7))) {
      const auto [made, is_new] = tensors_.try_emplace(r);
      if (is_new) made->second = tensor(arguments);
      return made->second;
    }
    refuse("calls '", callee, "' with ", arguments.size(), " arguments");
  }

  // arguments: storage, offset, size, stride, ... ; storage is ('storage', type, key, device,
  // numel).
  Tensor tensor(const std::vector<Ref>& arguments) {
    const Object& persistent = object(arguments[0], Object::persistent, "tensor");
    const auto& id = object(persistent.items[0], Object::tuple, "storage").items;
    if (id.size() != 5 || pickle_[id[0]].text_value != "storage") refuse("has a damaged storage");
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
      found->second.second = archive_.read(root_ + "data/" + key, found->second.first);
      bytes_left_ += 8 * int64_t(found->second.first.size());
    }
    return found->second.second;
  }

  const std::string& name_;
  zip::Reader archive_;
  std::string root_;  // "archive/"
  std::vector<char> pickle_bytes_;
  pickle::Pickle pickle_;
  int64_t values_left_ = 0, bytes_left_;
  std::unordered_map<Ref, Tensor> tensors_;
  std::unordered_map<std::string, std::pair<std::vector<char>, std::span<const char>>> contents_;
};

}  // namespace

Value parse(const void* data, size_t bytes, const std::string& name, std::string* note) {
  const std::span all(static_cast<const char*>(data), bytes);
  if (bytes >= 2 && all[0] == '\x80' && all[1] >= 2)
    fail(ErrorKind::data, "[pth] ", name,
         " has the format that PyTorch wrote before 1.6; load it there and save it again");
  if (bytes == 0) fail(ErrorKind::data, "[pth] ", name, " is empty");
  Loader loader(all, name);
  if (note) *note = loader.note();
  return loader.root();
}

Value load(const std::string& path, std::string* note) {
  const auto bytes = read_file(path, max_file, "PK");
  return parse(bytes.data(), bytes.size(), path, note);
}

}  // namespace espalier::pth
