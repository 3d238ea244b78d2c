// Values and how they are saved. Tensors go out in their memory order, and rank-4 tensors say so by
// their strides: torch.load returns them as torch.channels_last tensors with the same logical
// values.
#include <espalier/core/io/file.h>
#include <espalier/core/io/pickle.h>
#include <espalier/core/io/pth.h>
#include <espalier/core/io/zip.h>

#include <map>
#include <tuple>

namespace espalier::pth {

namespace {

using pickle::opcode::mark;

class Saver {
 public:
  void value(const Value& v) {
    struct Visitor {
      Saver& s;
      void operator()(std::monostate) { s.out_.none(); }
      void operator()(bool b) { s.out_.boolean(b); }
      void operator()(int64_t i) { s.out_.integer(i); }
      void operator()(double d) { s.out_.real(d); }
      void operator()(const std::string& t) { s.out_.text(t); }
      void operator()(const Tensor& t) { t.defined() ? s.tensor(t) : (void)s.out_.none(); }
      void operator()(const List& items) {
        s.out_.op(pickle::opcode::empty_list).op(mark);
        for (const Value& item : items) s.value(item);
        s.out_.op(pickle::opcode::appends);
      }
      void operator()(const Dict& entries) {
        s.out_.op(pickle::opcode::empty_dict).op(mark);
        for (const auto& [key, item] : entries) {
          s.out_.text(key);
          s.value(item);
        }
        s.out_.op(pickle::opcode::set_items);
      }
    };
    std::visit(Visitor{*this}, static_cast<const Variant&>(v));
  }

  void write(const std::string& path, const std::string& note) {
    FileWriter file(path);
    zip::Writer archive([&](const void* data, size_t bytes) { file.write(data, bytes); });
    archive.add("archive/data.pkl", out_.finish());
    archive.add("archive/byteorder", "little");
    archive.add("archive/version", "3\n");
    if (!note.empty()) archive.add("archive/espalier.json", note);
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const Tensor here = tensors_[i].to(Device{});
      archive.add("archive/data/" + std::to_string(i), here.in().data, here.bytes(), 64);
    }
    archive.finish();
    file.commit();
  }

 private:
  using Variant = std::variant<std::monostate, bool, int64_t, double, std::string, Tensor, List, Dict>;

  static std::string_view storage_of(DType t) {
    switch (t) {
      case DType::bf16:
        return "torch BFloat16Storage";
      case DType::s64:
        return "torch LongStorage";
      case DType::s32:
        return "torch IntStorage";
      case DType::s8:
        return "torch CharStorage";
      case DType::u8:
        return "torch ByteStorage";
      case DType::f32:
        break;
    }
    return "torch FloatStorage";
  }

  // _rebuild_tensor_v2(('storage', type, key, device, numel), offset, size, stride, requires_grad,
  // hooks)
  void tensor(const Tensor& t) {
    const auto [place, is_new] = stored_.emplace(std::tuple(t.storage()->id(), t.offset(), t.bytes()), tensors_.size());
    if (is_new) tensors_.push_back(t);
    out_.global("torch._utils _rebuild_tensor_v2").op(mark);
    out_.op(mark).text("storage").global(storage_of(t.dtype())).text(std::to_string(place->second));
    out_.text("cpu").integer(t.numel()).op(pickle::opcode::tuple).op(pickle::opcode::persistent);
    out_.integer(0);
    out_.op(mark);
    for (int64_t d : t.shape()) out_.integer(d);
    out_.op(pickle::opcode::tuple).op(mark);
    const auto steps = strides(t.shape());
    for (int i = 0; i < t.rank(); ++i) out_.integer(steps[size_t(i)]);
    out_.op(pickle::opcode::tuple).boolean(false);
    out_.global("collections OrderedDict").op(pickle::opcode::empty_tuple).op(pickle::opcode::call);
    out_.op(pickle::opcode::tuple).op(pickle::opcode::call);
  }

  pickle::Writer out_;
  std::vector<Tensor> tensors_;
  std::map<std::tuple<uint64_t, size_t, size_t>, size_t> stored_;  // places in tensors_ by stretch of a storage
};

}  // namespace

const Value* Value::find(const std::string& key) const {
  const auto* dict = std::get_if<Dict>(this);
  if (!dict) fail(ErrorKind::data, "[pth] '", key, "' was looked up in something that is not a dict");
  for (const auto& [name, value] : *dict)
    if (name == key) return &value;
  return nullptr;
}

void save(const std::string& path, const Value& value, const std::string& note) {
  Saver saver;
  saver.value(value);
  saver.write(path, note);
}

StateDict state_dict(const Value& value, const std::string& name) {
  const auto* dict = std::get_if<Dict>(&value);
  if (!dict) fail(ErrorKind::data, "[pth] ", name, ": expected a dict of tensors");
  StateDict tensors;
  for (const auto& [key, item] : *dict) {
    const auto* tensor = std::get_if<Tensor>(&item);
    if (!tensor) fail(ErrorKind::data, "[pth] ", name, ": expected a dict of tensors, but '", key, "' is none");
    tensors.emplace_back(key, *tensor);
  }
  return tensors;
}

Value from_state_dict(const StateDict& dict) {
  Dict entries;
  for (const auto& [name, tensor] : dict) entries.emplace_back(name, tensor);
  return entries;
}

}  // namespace espalier::pth
