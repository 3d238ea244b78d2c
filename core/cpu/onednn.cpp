// Convolutions through oneDNN 2.6 to 3.x: images as they are (nhwc), weights in whatever format the primitive asks
// for, packed once per version. oneDNN cuts a primitive's work, and with it the order of its sums, for a number of
// threads; so every primitive here is made for one thread and a few images, and the threads are ours, over the images:
// how many images go together follows from the geometry alone, and so do the bits. Primitives are kept by geometry.
#include <espalier/core/cpu/isa.h>
#include <espalier/core/cpu/onednn.h>
#include <espalier/core/cpu/pack.h>
#include <espalier/core/parallel.h>
#include <espalier/core/storage.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <dnnl.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <tuple>
#include <vector>

namespace espalier::cpu::onednn {

namespace {

using dnnl::memory;

std::atomic<Use> use{Use::where_faster};

const dnnl::engine& engine() {
  static const auto& e = *new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return e;
}

// oneDNN brings OpenMP's threads. While one of these lives, it sees one of them on this thread: the threads are ours.
struct OneThread {
  OneThread() : before(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before); }
  OneThread(const OneThread&) = delete;
  const int before;
};

struct Descriptions {
  memory::desc x, plain_weight, any_weight, bias, y;
  memory::dims stride, dilation, before, after;
};

Descriptions describe(const Conv& g, bool bias) {
  const int64_t ci = g.c / g.groups, co = g.o / g.groups, oh = g.out_h(), ow = g.out_w();
  constexpr auto f32 = memory::data_type::f32;
  const int64_t filter = g.kh * g.kw * ci;  // weights lie o,kh,kw,i
  const memory::dims weight =
      g.groups > 1 ? memory::dims{g.groups, co, ci, g.kh, g.kw} : memory::dims{g.o, ci, g.kh, g.kw};
  const memory::dims strides =
      g.groups > 1 ? memory::dims{co * filter, filter, 1, g.kw * ci, ci} : memory::dims{filter, 1, g.kw * ci, ci};
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

// A primitive's working memory is the caller's, because several threads run it at once.
dnnl::primitive_attr own_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

#if DNNL_VERSION_MAJOR >= 3
template <class Primitive, class... Parts>
typename Primitive::primitive_desc description(Parts&&... parts) {
  return typename Primitive::primitive_desc(engine(), std::forward<Parts>(parts)..., own_scratchpad());
}
#endif

dnnl::convolution_forward::primitive_desc forward_description(const Descriptions& d) {
  constexpr auto kind = dnnl::prop_kind::forward_training;
  constexpr auto direct = dnnl::algorithm::convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  return description<dnnl::convolution_forward>(kind, direct, d.x, d.any_weight, d.bias, d.y, d.stride, d.dilation,
                                                d.before, d.after);
#else
  return {{kind, direct, d.x, d.any_weight, d.bias, d.y, d.stride, d.dilation, d.before, d.after},
          own_scratchpad(),
          engine()};
#endif
}

dnnl::convolution_backward_data::primitive_desc backward_description(const Descriptions& d) {
  constexpr auto direct = dnnl::algorithm::convolution_direct;
  const auto forward = forward_description(d);
#if DNNL_VERSION_MAJOR >= 3
  return description<dnnl::convolution_backward_data>(direct, d.x, d.any_weight, d.y, d.stride, d.dilation, d.before,
                                                      d.after, forward);
#else
  return {
      {direct, d.x, d.any_weight, d.y, d.stride, d.dilation, d.before, d.after}, own_scratchpad(), engine(), forward};
#endif
}

struct Made {
  dnnl::primitive primitive;  // empty: ours to compute
  memory::desc x, plain_weight, weight, bias, y, scratchpad;
  int64_t format = 0;  // the number of `weight`
};

bool wanted(std::string_view implementation) {
  if (use == Use::wherever_possible) return true;
  return implementation.find("avx512") != implementation.npos;
}

// The same number for the same format, so that primitives for other batches share one packed copy.
int64_t number_of(const memory::desc& format) {
  static auto& seen = *new std::vector<memory::desc>;
  const auto it = std::find(seen.begin(), seen.end(), format);
  if (it != seen.end()) return it - seen.begin();
  seen.push_back(format);
  return int64_t(seen.size()) - 1;
}

template <class Primitive, class Description>
void fill(Made& made, const Description& p) {
  made.weight = p.weights_desc();
  made.scratchpad = p.scratchpad_desc();
  made.format = number_of(made.weight);
  made.primitive = Primitive(p);
}

std::shared_ptr<const Made> make(const Conv& g, bool backward, bool bias) {
  const OneThread alone;
  auto made = std::make_shared<Made>();
  const Descriptions d = describe(g, bias);
  made->x = d.x, made->y = d.y, made->bias = d.bias, made->plain_weight = d.plain_weight;
  try {
    if (backward) {
      const auto p = backward_description(d);
      if (wanted(p.impl_info_str()) && p.diff_src_desc() == d.x && p.diff_dst_desc() == d.y)
        fill<dnnl::convolution_backward_data>(*made, p);
    } else {
      const auto p = forward_description(d);
      if (wanted(p.impl_info_str()) && p.src_desc() == d.x && p.dst_desc() == d.y)
        fill<dnnl::convolution_forward>(*made, p);
    }
  } catch (const dnnl::error& e) {
    if (e.status != dnnl_unimplemented && e.status != dnnl_invalid_arguments) throw;
  }
  return made;
}

std::shared_ptr<const Made> find(const Conv& g, bool backward, bool bias) {
  using Key = std::tuple<Conv, bool, bool, Use>;
  static auto& made = *new std::map<Key, std::shared_ptr<const Made>>;
  static std::mutex guard;
  const Key key{g, backward, bias, use.load()};
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
  return !avx512() || tiny(g) || g.n == 1;  // one image is one call: only our tiles cut it for many threads
}

constexpr int64_t least_work = 1 << 18;  // multiply-adds: some 5 microseconds

// Images that one call of a primitive takes: enough pixels to make use of the weights once they are near, and an
// eighth of the batch at most, so that threads find work. A step of VGG-19 takes the same time with 32 to 256 pixels.
int64_t images_together(const Conv& g) {
  const int64_t pixels = std::max<int64_t>(1, g.out_h() * g.out_w());
  return std::clamp<int64_t>(256 / pixels, 1, std::max<int64_t>(1, g.n / 8));
}

void* writable(const void* data) { return const_cast<void*>(data); }  // oneDNN's memory knows no const

std::shared_ptr<Storage> weight_for(const Made& made, In w, dnnl::stream& stream) {
  return packed_as(w, {-1, made.format}, made.weight.get_size(), [&](float* to) {
    const OneThread alone;
    memory from(made.plain_weight, engine(), writable(w.data)), into(made.weight, engine(), to);
    dnnl::reorder(from, into).execute(stream, from, into);
    stream.wait();
  });
}

// from -> to: x -> y forward, dy -> dx backward. False if any part of the batch has no primitive.
bool run(Conv g, bool backward, const float* from, In w, In b, float* to, const Finish& finish) {
  if (ours(g)) return false;
  const int64_t images = g.n, together = images_together(g), rest = images % together;
  const int64_t x_image = g.c * g.h * g.w, y_image = g.o * g.out_h() * g.out_w();
  g.n = together;
  const auto whole = find(g, backward, bool(b));
  g.n = rest;
  const auto last = rest ? find(g, backward, bool(b)) : whole;
  if (!whole->primitive || !last->primitive) return false;
  dnnl::stream packing(engine());
  const auto weight = weight_for(*whole, w, packing);
  const auto weight_of_last = last->format == whole->format ? weight : weight_for(*last, w, packing);
  const int64_t work = together * g.out_h() * g.out_w() * g.o * g.c / g.groups * g.kh * g.kw;
  const int64_t grain = std::min<int64_t>(1, grain_for(work, least_work));
  parallel_for((images + together - 1) / together, grain, [&](int64_t begin, int64_t end) {
    const OneThread alone;
    dnnl::stream stream(engine());
    Storage scratch(std::max(whole->scratchpad.get_size(), last->scratchpad.get_size()), Device{});
    for (int64_t i = begin; i < end; ++i) {
      const bool ragged = (i + 1) * together > images;
      const Made& made = ragged ? *last : *whole;
      const int64_t made_images = ragged ? rest : together;
      const int64_t x_at = i * together * x_image, y_at = i * together * y_image;
      std::unordered_map<int, memory> arguments{
          {DNNL_ARG_WEIGHTS, memory(made.weight, engine(), (ragged ? weight_of_last : weight)->data())},
          {DNNL_ARG_SCRATCHPAD, memory(made.scratchpad, engine(), scratch.data())},
          {backward ? DNNL_ARG_DIFF_DST : DNNL_ARG_SRC,
           memory(backward ? made.y : made.x, engine(), writable(from + (backward ? y_at : x_at)))},
          {backward ? DNNL_ARG_DIFF_SRC : DNNL_ARG_DST,
           memory(backward ? made.x : made.y, engine(), to + (backward ? x_at : y_at))}};
      if (b) arguments.emplace(DNNL_ARG_BIAS, memory(made.bias, engine(), writable(b.data)));
      made.primitive.execute(stream, arguments);
      if (!finish.nothing()) {
        stream.wait();
        finish(to + y_at, made_images * y_image);
      }
    }
    stream.wait();
  });
  return true;
}

}  // namespace

void set_use(Use u) { use = u; }

bool conv2d(const Conv& g, In x, In w, In b, Out y, const Finish& finish) {
  return run(g, false, x.f32(), w, b, y.f32(), finish);
}

bool conv2d_grad_input(const Conv& g, In dy, In w, Out dx) { return run(g, true, dy.f32(), w, {}, dx.f32(), {}); }

}  // namespace espalier::cpu::onednn
