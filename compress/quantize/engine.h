// Engine: a graph made ready to run many times, fast. Batch norms are folded, what is fake-quantized is lowered to
// integers (its codes are exact()'s), what stays float is fused, weights that are mostly zeros run as such where that
// pays (sparsify), weights are packed once, and all that is computed on the way lies in an arena that is planned from
// lifetimes. It serves float graphs too.
//
//     const Engine engine(trace(model, example));
//     const Tensor scores = engine(images);
#pragma once
#include <espalier/compress/passes/passes.h>
#include <espalier/core/graph.h>
#include <espalier/nn/module.h>

#include <iosfwd>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace espalier {

// How an engine runs.
struct EngineOptions {
  Device device{};                                                    // where
  bool sparse = true;                                                 // run zeros of weights as such, on the CPU
  std::shared_ptr<const SparseTable> table = SparseTable::shipped();  // which says where that pays
};

class ESPALIER_API Engine {
 public:
  // The graph of a model in eval mode; its weights are copied. Throws what lower() throws.
  explicit Engine(const Graph& graph, Device device = {});
  Engine(const Graph& graph, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Inputs f32 on the engine's device, of any batch size; the result's memory is the caller's. Several threads may call
  // at once. Beside the result nothing is allocated once a batch size has been met. Throws data, naming the value,
  // where numbers that become codes are not finite.
  Tensor operator()(std::vector<Tensor> inputs) const;
  Tensor operator()(const Tensor& x) const { return (*this)(std::vector<Tensor>{x}); }
  void run(Inputs inputs, Tensor& out) const;  // into memory of the result's shape

  // Every tensor of codes, under its value's name, in the graph's order: what exact() lists.
  std::vector<std::pair<std::string, Tensor>> codes(std::vector<Tensor> inputs) const;

  // An operation as it was run and timed.
  struct Layer {
    std::string name, kernel;  // the value's; the op and what it gives: "qconv2d -> u8"
    double ms = 0, share = 0;  // the median of some runs, and its part of them all
    std::string why;           // a layer of floats in a quantized network: why it is not integers
    std::string format;        // of a layer whose weights have zeros: lanes, blocks or dense
    double density = 1;        // the part of its weights that is not zero
    double gain = 1;           // the dense time over its own, as the table promises for this batch
  };
  // Runs so often on these inputs, and tells where the time goes.
  std::vector<Layer> report(std::vector<Tensor> inputs, int times = 10) const;

  const Graph& graph() const;      // as it is run
  const PassNotes& notes() const;  // what the passes did
  // What values on the way take at these input shapes.
  size_t arena_bytes(const std::vector<Shape>& inputs) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

ESPALIER_API std::ostream& operator<<(std::ostream& out, const std::vector<Engine::Layer>& report);  // a table

// An engine of one input as a module, for what takes modules: evaluate(). The engine must outlive it.
class EngineModule : public Module {
 public:
  explicit EngineModule(const Engine& engine) : engine_(engine) {}
  std::string_view type() const override { return "Engine"; }

 protected:
  Tensor forward(const Tensor& x) override { return engine_(x); }

 private:
  const Engine& engine_;
};

}  // namespace espalier
