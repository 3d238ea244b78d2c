// Convolutions through oneDNN 2.6 to 3.x: images as they are (nhwc), weights in whatever format the primitive asks
// for, packed once per version. Primitives are kept by geometry.
#include <espalier/core/cpu/onednn.h>
#include <espalier/core/cpu/pack.h>
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <tuple>

#include <dnnl.hpp>

namespace espalier::cpu::onednn {

namespace {

using dnnl::memory;

std::atomic<Use> use{Use::where_faster};

const dnnl::engine& engine() {
  static const auto& e = *new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return e;
}

struct Descriptions {
  memory::desc x, plain_weight, any_weight, bias, y;
  memory::dims stride, dilation, before, after;
};

Descriptions describe(const Conv& g, bool bias) {
  const int64_t ci = g.c / g.groups, co = g.o / g.groups, oh = g.out_h(), ow = g.out_w();
  constexpr auto f32 = memory::data_type::f32;
  const int64_t filter = g.kh * g.kw * ci;  // weights lie o,kh,kw,i
  const memory::dims weight = g.groups > 1 ? memory::dims{g.groups, co, ci, g.kh, g.kw}
                                           : memory::dims{g.o, ci, g.kh, g.kw};
  const memory::dims strides = g.groups > 1 ? memory::dims{co * filter, filter, 1, g.kw * ci, ci}
                                            : memory::dims{filter, 1, g.kw * ci, ci};
  // Padding behind the last window may be negative: pixels that no window reaches.
  const int64_t after_h = (oh - 1) * g.stride_h + g.dilation_h * (g.kh - 1) + 1 - g.h - g.pad_h;
  const int64_t after_w = (ow - 1) * g.stride_w + g.dilation_w * (g.kw - 1) + 1 - g.w - g.pad_w;
  return {.x = {{g.n, g.c, g.h, g.w}, f32, memory::format_tag::nhwc},
          .plain_weight = {weight, f32, strides},
          .any_weight = {weight, f32, memory::format_tag::any},
          .bias = bias ? memory::desc({g.o}, f32, memory::format_tag::x) : memory::desc(),
          .y = {{g.n, g.o, oh, ow}, f32, memory::format_tag::nhwc},
          .stride = {g.stride_h, g.stride_w},
          .dilation = {g.dilation_h - 1, g.dilation_w - 1},
          .before = {g.pad_h, g.pad_w},
          .after = {after_h, after_w}};
}

#if DNNL_VERSION_MAJOR >= 3
template <class Primitive, class... Parts>
typename Primitive::primitive_desc description(Parts&&... parts) {
  return typename Primitive::primitive_desc(engine(), std::forward<Parts>(parts)...);
}
#endif

dnnl::convolution_forward::primitive_desc forward_description(const Descriptions& d) {
  constexpr auto kind = dnnl::prop_kind::forward_training;
  constexpr auto direct = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  return description<dnnl::convolution_forward>(kind, direct, d.x, d.any_weight, d.bias, d.y, d.stride, d.dilation,
                                                d.before, d.after);
#else
  return {{kind, direct, d.x, d.any_weight, d.bias, d.y, d.stride, d.dilation, d.before, d.after}, engine()};
#endif
}

dnnl::convolution_backward_data::primitive_desc backward_description(const Descriptions& d) {
  constexpr auto direct = dnnl::algorithm::convolution_direct;
  const auto forward = forward_description(d);
#if DNNL_VERSION_MAJOR >= 3
  return description<dnnl::convolution_backward_data>(direct, d.x, d.any_weight, d.y, d.stride, d.dilation, d.before,
                                                      d.after, forward);
#else
  return {{direct, d.x, d.any_weight, d.y, d.stride, d.dilation, d.before, d.after}, engine(), forward};
#endif
}

struct Made {
  dnnl::primitive primitive;  // empty: ours to compute
  memory::desc x, plain_weight, weight, bias, y;
  int64_t id = 0;
};

bool wanted(std::string_view implementation) {
  if (use == Use::wherever_possible) return true;
  return implementation.find("avx512") != implementation.npos;
}

std::shared_ptr<const Made> make(const Conv& g, bool backward, bool bias) {
  static std::atomic<int64_t> last_id{0};
  auto made = std::make_shared<Made>();
  const Descriptions d = describe(g, bias);
  made->x = d.x, made->y = d.y, made->bias = d.bias, made->plain_weight = d.plain_weight;
  made->id = ++last_id;
  try {
    if (backward) {
      const auto p = backward_description(d);
      if (!wanted(p.impl_info_str()) || p.diff_src_desc() != d.x || p.diff_dst_desc() != d.y) return made;
      made->weight = p.weights_desc();
      made->primitive = dnnl::convolution_backward_data(p);
    } else {
      const auto p = forward_description(d);
      if (!wanted(p.impl_info_str()) || p.src_desc() != d.x || p.dst_desc() != d.y) return made;
      made->weight = p.weights_desc();
      made->primitive = dnnl::convolution_forward(p);
    }
  } catch (const dnnl::error& e) {
    if (e.status != dnnl_unimplemented && e.status != dnnl_invalid_arguments) throw;
  }
  return made;
}

std::shared_ptr<const Made> find(const Conv& g, bool backward, bool bias) {
  using Key = std::tuple<Conv, bool, bool, int, Use>;  // a primitive's work is cut for a number of threads
  static auto& made = *new std::map<Key, std::shared_ptr<const Made>>;
  static std::mutex guard;
  const Key key{g, backward, bias, num_threads(), use.load()};
  std::lock_guard lock(guard);
  if (const auto it = made.find(key); it != made.end()) return it->second;
  if (made.size() >= 1024) made.clear();
  return made[key] = make(g, backward, bias);
}

// Tiny images: our tiles skip the taps in the padding, which are the most of them.
bool tiny(const Conv& g) { return g.kh * g.kw > 1 && g.out_h() * g.out_w() <= 4; }

bool ours(const Conv& g) {
  if (use == Use::never || g.n == 0) return true;
  if (use == Use::wherever_possible) return false;
  static const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  return !wide || tiny(g);
}

void* writable(const void* data) { return const_cast<void*>(data); }  // oneDNN's memory knows no const

std::shared_ptr<Storage> weight_for(const Made& made, In w, dnnl::stream& stream) {
  return packed_as(w, {-1, made.id}, made.weight.get_size(), [&](float* to) {
    memory from(made.plain_weight, engine(), writable(w.data)), into(made.weight, engine(), to);
    dnnl::reorder(from, into).execute(stream, from, into);
    stream.wait();
  });
}

}  // namespace

void set_use(Use u) { use = u; }

bool conv2d(const Conv& g, In x, In w, In b, Out y) {
  if (ours(g)) return false;
  const auto made = find(g, false, bool(b));
  if (!made->primitive) return false;
  dnnl::stream stream(engine());
  const auto weight = weight_for(*made, w, stream);
  std::unordered_map<int, memory> arguments{
      {DNNL_ARG_SRC, memory(made->x, engine(), writable(x.data))},
      {DNNL_ARG_WEIGHTS, memory(made->weight, engine(), weight->data())},
      {DNNL_ARG_DST, memory(made->y, engine(), y.data)}};
  if (b) arguments.emplace(DNNL_ARG_BIAS, memory(made->bias, engine(), writable(b.data)));
  made->primitive.execute(stream, arguments);
  stream.wait();
  return true;
}

bool conv2d_grad_input(const Conv& g, In dy, In w, Out dx) {
  if (ours(g)) return false;
  const auto made = find(g, true, false);
  if (!made->primitive) return false;
  dnnl::stream stream(engine());
  const auto weight = weight_for(*made, w, stream);
  made->primitive.execute(stream, {{DNNL_ARG_DIFF_DST, memory(made->y, engine(), writable(dy.data))},
                                   {DNNL_ARG_WEIGHTS, memory(made->weight, engine(), weight->data())},
                                   {DNNL_ARG_DIFF_SRC, memory(made->x, engine(), dx.data)}});
  stream.wait();
  return true;
}

}  // namespace espalier::cpu::onednn
