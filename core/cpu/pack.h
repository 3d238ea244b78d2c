// Packed copies of weights. A weight that is met once per version (training changes it every step, masks make a fresh
// one) is packed into memory of the moment; one that is met again (inference) keeps its copy until it changes.
#pragma once
#include <espalier/core/storage.h>
#include <espalier/core/view.h>

#include <initializer_list>
#include <memory>
#include <span>
#include <type_traits>

namespace espalier::cpu {

// w in the format that those numbers name, as make() gives it if it is not kept. What is kept lies with w's storage
// (core/storage.h) and goes with it.
using MakeFunction = std::shared_ptr<Storage> (*)(void* context);
std::shared_ptr<Storage> packed_raw(In w, std::span<const int64_t> format, MakeFunction make, void* context);
template <class F>
std::shared_ptr<Storage> packed_by(In w, std::initializer_list<int64_t> format, F&& make) {
  using Body = std::remove_reference_t<F>;
  return packed_raw(
      w, {format.begin(), format.size()}, [](void* c) { return (*static_cast<Body*>(c))(); }, &make);
}
// The same made by pack(to), where `to` is 64-byte aligned.
template <class F>
std::shared_ptr<Storage> packed_as(In w, std::initializer_list<int64_t> format, size_t bytes, F&& pack) {
  return packed_by(w, format, [&] {
    auto copy = std::make_shared<Storage>(bytes, Device{});
    pack(static_cast<float*>(copy->data()));
    return copy;
  });
}

// Panels for our own tiles: [ceil(out/16)][tap][in][16], zero beyond `out`.
int64_t panel_floats(int64_t taps, int64_t in, int64_t out);
// From w [out][tap][in], and from w [in][tap][out].
void pack_rows(const float* w, int64_t taps, int64_t in, int64_t out, float* panels);
void pack_columns(const float* w, int64_t taps, int64_t in, int64_t out, float* panels);
// The panels of a weight, group after group; `columns` chooses the second packing (w is [groups][in][taps][out]).
std::shared_ptr<Storage> packed_panels(In w, int64_t groups, int64_t taps, int64_t in, int64_t out, bool columns);

}  // namespace espalier::cpu
