// A layer by itself would find its weights in a cache, where in a network the others have driven them out: so before
// each time that it is timed, memory is walked through; its input, which the layer before has just written, is at hand.
#include <espalier/compress/latency.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/core/io/file.h>
#include <espalier/core/ops/conv2d.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/activations.h>
#include <espalier/nn/init.h>
#include <espalier/nn/layers.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

namespace espalier {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t grid = 16;
constexpr size_t spells = 5, most_spells = 30, runs_per_spell = 3;
constexpr int64_t caches = int64_t{48} << 20;  // bytes: more than most have

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

Timing timing_of(std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  const auto at = [&](double q) { return ms[size_t(q * double(ms.size() - 1) + 0.5)]; };
  return {at(0.5), at(0.1), at(0.9), int(ms.size())};
}

std::unique_ptr<Module> layer_of(const LayerShape& layer, int64_t in, int64_t out) {
  auto made = std::make_unique<Sequential>();
  if (const auto* conv = dynamic_cast<const Conv2dOp*>(layer.op)) {
    const bool depthwise = conv->groups > 1 && layer.weight[1] == 1;
    made->add<Conv2d>(in, depthwise ? in * std::max<int64_t>(1, layer.weight[0] / layer.input[1]) : out,
                      Conv2dOptions{.kernel = {layer.weight[2], layer.weight[3]},
                                    .stride = conv->window.stride,
                                    .padding = conv->window.padding,
                                    .dilation = conv->window.dilation,
                                    .groups = depthwise ? in : conv->groups});
  } else {
    made->add<Linear>(in, out);
  }
  made->add<ReLU>();
  return made;
}

Shape input_of(const LayerShape& layer, int64_t in, int64_t batch) {
  Shape shape = layer.input;
  shape[0] = batch * std::max<int64_t>(1, shape[0]);
  shape[shape.rank() == 4 ? 1 : -1] = in;
  return shape;
}

void touch(Tensor& memory) {
  auto* line = static_cast<char*>(memory.out().data);
  for (size_t i = 0; i < memory.bytes(); i += 64) ++line[i];
}

// Milliseconds of one layer, the least of a few rounds: noise only adds.
double time_layer(const LayerShape& layer, int64_t in, int64_t out, int64_t batch) {
  static Tensor others = Tensor::zeros({caches / int64_t(sizeof(float))});
  const RandomState random = random_state();
  const SkipInit skip;
  const auto module = layer_of(layer, in, out);
  for (auto& [name, p] : named_parameters(*module)) p->value().copy_from(Tensor::full(p->value().shape(), 0.01f));
  random_state() = random;
  Tensor x = Tensor::full(input_of(layer, in, batch), 0.5f);
  const Engine engine(trace(*module, x));
  Tensor y = engine(x);  // a plan is made, weights are packed
  double best = std::numeric_limits<double>::infinity(), spent = 0;
  std::vector<double> all;
  const auto agree = [&] {
    return std::count_if(all.begin(), all.end(), [&](double t) { return t <= 1.03 * best; }) >= 3;
  };
  for (int round = 0; round < 6 || (round < 20 && (spent < 2 || !agree())); ++round) {
    touch(others);
    x.copy_from(x.clone());
    const auto start = Clock::now();
    engine.run(Inputs(&x, 1), y);
    const double ms = ms_since(start);
    spent += ms;
    best = std::min(best, ms);
    all.push_back(ms);
  }
  return best;
}

std::string key_of(const LayerShape& layer, int64_t in, int64_t out, int64_t batch) {
  std::ostringstream key;
  if (const auto* conv = dynamic_cast<const Conv2dOp*>(layer.op)) {
    const Window& w = conv->window;
    const bool depthwise = conv->groups > 1 && layer.weight[1] == 1;
    key << "conv2d " << layer.weight[2] << 'x' << layer.weight[3] << " s" << w.stride.h << ',' << w.stride.w << " p"
        << w.padding.h << ',' << w.padding.w << " d" << w.dilation.h << ',' << w.dilation.w << " g";
    if (depthwise)
      key << "depthwise";
    else
      key << conv->groups;
    key << ' ' << layer.input[2] << 'x' << layer.input[3];
  } else {
    key << "linear";
  }
  key << " b" << batch << ' ' << in << "->" << out;
  return key.str();
}

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  return "unknown processor";
}

// What a whole program is held to, for measurements.
std::string isa_name() {
  const char* forced = std::getenv("ESPALIER_ISA");
  return forced ? forced : "all that it has";
}

// The grid's widths around w, and how far w is from the first to the second.
struct Around {
  int64_t low, high;
  double part;
};
Around around(int64_t w, int64_t step) {
  if (w <= step || w % step == 0) return {w, w, 0};
  const int64_t low = w / step * step;
  return {low, low + step, double(w - low) / double(step)};
}

}  // namespace

std::string machine_name() {
  return processor() + ", " + std::to_string(num_threads()) + (num_threads() == 1 ? " thread, " : " threads, ") +
         isa_name();
}

Timing measure_latency(Module& model, const Examples& examples, int64_t batch, double seconds) {
  const NoGrad no_grad;
  std::vector<Tensor> inputs;
  for (const Tensor& x : examples) {
    Shape shape = x.shape();
    if (shape.rank() > 0) shape[0] = batch;
    inputs.push_back(Tensor::full(shape, 0.5f));
  }
  const Engine engine(trace(model, examples));
  Tensor y = engine(inputs);
  for (int warm = 0; warm < 3; ++warm) engine.run(inputs, y);
  const auto spell = [&] {
    std::vector<double> ms;
    const auto begin = Clock::now();
    while (ms.size() < runs_per_spell || ms_since(begin) < 1e3 * seconds / spells) {
      const auto start = Clock::now();
      engine.run(inputs, y);
      ms.push_back(ms_since(start));
    }
    return timing_of(std::move(ms));
  };
  std::vector<Timing> all;
  const auto quietest = [&] {
    return *std::min_element(all.begin(), all.end(), [](auto& a, auto& b) { return a.median < b.median; });
  };
  const auto agree = [&] {
    const double bound = 1.02 * quietest().median;
    return std::count_if(all.begin(), all.end(), [&](auto& t) { return t.median <= bound; }) >= 3;
  };
  while (all.size() < spells || (all.size() < most_spells && !agree())) all.push_back(spell());
  return quietest();
}

LatencyTable::LatencyTable(std::string path, int64_t batch) : path_(std::move(path)), batch_(batch) {
  if (path_.empty() || !std::filesystem::exists(path_)) return;
  const auto bytes = read_file(path_, size_t{64} << 20);
  nlohmann::json file;
  try {
    file = nlohmann::json::parse(bytes);
    const std::string cpu = file.at("cpu"), isa = file.at("isa");
    const int64_t threads = file.at("threads");
    if (cpu != processor() || threads != num_threads() || isa != isa_name())
      fail(ErrorKind::usage, "[latency] ", path_, " was measured on ", cpu, ", ", threads, " thread(s), ", isa,
           "; this is ", machine_name(), ": give another file, and it will be measured");
    for (const auto& [key, ms] : file.at("layers").items()) layers_[key] = ms.get<double>();
    for (const auto& [key, t] : file.at("networks").items())
      networks_[key] = {t.at("median"), t.at("low"), t.at("high"), t.at("n")};
  } catch (const nlohmann::json::exception& e) {
    fail(ErrorKind::data, "[latency] ", path_, " is no latency table: ", e.what());
  }
  for (const auto& [key, ms] : layers_)
    if (!(ms > 0) || std::isinf(ms)) fail(ErrorKind::data, "[latency] ", path_, ": ", key, " takes ", ms, " ms");
}

double LatencyTable::node(const LayerShape& layer, int64_t in, int64_t out) {
  const std::string key = key_of(layer, in, out, batch_);
  const auto found = layers_.find(key);
  if (found != layers_.end()) return found->second;
  double ms = time_layer(layer, in, out, batch_);
  // A narrower layer takes no longer than a wider one did: what seems so is a neighbour's noise, behind which a search
  // would see nothing to save.
  const std::string geometry = key.substr(0, key.rfind(' ') + 1);
  for (auto it = layers_.lower_bound(geometry); it != layers_.end() && it->first.starts_with(geometry); ++it) {
    const std::string widths = it->first.substr(geometry.size());
    const size_t arrow = widths.find("->");
    if (arrow != std::string::npos && std::atoll(widths.c_str()) >= in && std::atoll(widths.c_str() + arrow + 2) >= out)
      ms = std::min(ms, it->second);
  }
  layers_[key] = ms;
  if (tell_) tell_(++measured_);
  return ms;
}

double LatencyTable::layer(const LayerShape& layer) {
  const auto* conv = dynamic_cast<const Conv2dOp*>(layer.op);
  const int64_t groups = conv ? conv->groups : 1;
  const bool depthwise = groups > 1 && layer.weight[1] == 1;
  const int64_t step = depthwise || groups == 1 ? grid : grid * groups;
  const Around in = around(layer.input[conv ? 1 : -1], step),
               out = depthwise ? Around{0, 0, 0} : around(layer.weight[0], step);
  const auto at = [&](int64_t i) {
    const double low = node(layer, i, depthwise ? i : out.low);
    return out.part > 0 ? low + out.part * (node(layer, i, out.high) - low) : low;
  };
  const double low = at(in.low);
  return in.part > 0 ? low + in.part * (at(in.high) - low) : low;
}

double LatencyTable::sum(const std::vector<LayerShape>& layers) {
  double ms = 0;
  for (const LayerShape& l : layers) ms += layer(l);
  return ms;
}

Timing LatencyTable::network(const std::string& name, const std::function<Timing()>& measure) {
  const auto found = networks_.find(name);
  if (found != networks_.end()) return found->second;
  const Timing t = networks_[name] = measure();
  save();
  if (tell_) tell_(++measured_);
  return t;
}

void LatencyTable::save() const {
  if (path_.empty()) return;
  nlohmann::ordered_json file{{"cpu", processor()}, {"threads", num_threads()}, {"isa", isa_name()}};
  file["layers"] = layers_;
  file["networks"] = nlohmann::ordered_json::object();
  for (const auto& [name, t] : networks_)
    file["networks"][name] = {{"median", t.median}, {"low", t.low}, {"high", t.high}, {"n", t.n}};
  write_file(path_, file.dump(1) + "\n");
}

}  // namespace espalier
