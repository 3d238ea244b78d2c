// The normal equations of one layer: with G = Σ x·xᵀ over its inputs, K those that are left and D those that are gone,
// the best weights are W_K + W_D·G_DK·(G_KK + λI)⁻¹. The door to Eigen's Cholesky.
#include <espalier/compress/mask.h>
#include <espalier/compress/prune/sums.h>
#include <espalier/compress/reconstruct.h>
#include <espalier/core/tape.h>
#include <espalier/nn/layers.h>
#include <espalier/nn/trace.h>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <functional>
#include <map>

namespace espalier {

namespace {

using Matrix = Eigen::MatrixXd;

// Shows what layers read while it is there.
class Listening {
 public:
  using Heard = std::function<void(const std::string& name, Module& layer, const Tensor& x)>;

  Listening(Module& module, Heard heard) {
    for (auto& [name, m] : named_modules(module))
      if (m->type() == "Conv2d" || m->type() == "Linear") {
        ears_.emplace_back(m, std::make_shared<Ear>(name, *m, heard));
        m->input.chain.push_back(ears_.back().second);
      }
  }
  ~Listening() {
    for (auto& [m, ear] : ears_) std::erase(m->input.chain, ear);
  }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

 private:
  struct Ear : Transform {
    std::string layer;
    Module& module;
    Heard heard;
    Ear(std::string l, Module& m, Heard h) : layer(std::move(l)), module(m), heard(std::move(h)) {}
    std::string_view name() const override { return "listen"; }
    Tensor operator()(const Tensor& x) override {
      if (x.rank() == 4 || (x.rank() == 2 && module.type() == "Linear")) heard(layer, module, x.detach());
      return x;
    }
  };
  std::vector<std::pair<Module*, std::shared_ptr<Transform>>> ears_;
};

// The rows of a mask that are one; false where some weights of a row are masked and others are not.
bool living_rows(const Tensor& mask, std::vector<int64_t>& rows) {
  const auto v = mask.to_vector();
  const size_t n = size_t(mask.dim(0)), each = v.size() / std::max<size_t>(n, 1);
  for (size_t o = 0; o < n; ++o) {
    const auto begin = v.begin() + ptrdiff_t(o * each);
    const auto ones = size_t(std::count(begin, begin + ptrdiff_t(each), 1.f));
    if (ones != 0 && ones != each) return false;
    if (ones) rows.push_back(int64_t(o));
  }
  return true;
}

// Rows of `w`, each of the size of the gram, over inputs of which some are gone.
void reconstruct(Matrix& w, const Tensor& gram, const std::vector<char>& gone, double damping,
                 const std::string& name) {
  const auto n = Eigen::Index(gone.size());
  const auto values = gram.to_vector();
  const auto g = [&](Eigen::Index i, Eigen::Index j) { return double(values[size_t(i * n + j)]); };
  std::vector<Eigen::Index> left, lost;
  for (Eigen::Index j = 0; j < n; ++j) (gone[size_t(j)] ? lost : left).push_back(j);
  Matrix kept(left.size(), left.size()), both(left.size(), lost.size()), weights(w.rows(), lost.size());
  double mean = 0;
  for (size_t i = 0; i < left.size(); ++i) {
    for (size_t j = 0; j < left.size(); ++j) kept(Eigen::Index(i), Eigen::Index(j)) = g(left[i], left[j]);
    for (size_t j = 0; j < lost.size(); ++j) both(Eigen::Index(i), Eigen::Index(j)) = g(left[i], lost[j]);
    mean += g(left[i], left[i]) / double(left.size());
  }
  for (size_t j = 0; j < lost.size(); ++j) weights.col(Eigen::Index(j)) = w.col(lost[j]);
  // Sums of floats may be less definite than what they are sums of: then a little more is added.
  Eigen::LLT<Matrix> factors;
  for (double more = mean > 0 ? damping * mean : 1; more <= std::max(mean, 1.); more *= 10) {
    Matrix damped = kept;
    damped.diagonal().array() += more;
    if (factors.compute(damped); factors.info() == Eigen::Success) break;
  }
  if (factors.info() != Eigen::Success)
    fail(ErrorKind::other, "[reconstruct] ", name,
         ": the products of its inputs cannot be decomposed: are they finite?");
  const Matrix makes_up = factors.solve(both);  // [left, lost]
  const Matrix change = weights * makes_up.transpose();
  for (size_t i = 0; i < left.size(); ++i) w.col(left[i]) += change.col(Eigen::Index(i));
}

}  // namespace

Reconstruction::Reconstruction(Module& module, BatchSource& source, const ReconstructOptions& options)
    : damping_(options.damping) {
  if (options.batches < 1)
    fail(ErrorKind::usage, "[reconstruct] asked for ", options.batches, " batches, expected at least 1");
  const EvalMode eval(module);
  const NoGrad no_grad;
  Tensor one;
  {
    const Listening listening(module, [this](const std::string& name, Module& layer, const Tensor& x) {
      add_gram(layer, x, products_[name]);
    });
    Batch batch;
    source.start(0);
    for (int64_t n = 0; n < options.batches && source.next(batch); ++n) {
      if (options.stop && options.stop->load()) return;
      const Tensor images = batch.images.to(options.device);
      if (n == 0) one = images.narrow(0, 1).clone();
      module(images);
    }
  }
  if (!one.defined()) fail(ErrorKind::usage, "[reconstruct] the set is empty");
  channels_ = std::make_unique<Channels>(module, one);
}

int64_t Reconstruction::operator()(Module& module) const {
  if (!channels_) return 0;  // it was stopped
  const NoGrad no_grad;
  const Graph& graph = channels_->graph();
  std::vector<Marks> masked;
  for (size_t i = 0; i < graph.values.size(); ++i) masked.push_back(channels_->unmarked(int(i)));
  for (auto& [name, p] : named_parameters(module))
    if (const Mask* mask = mask_of(*p))
      if (const int leaf = channels_->leaf_of(p->value()); leaf >= 0)
        masked[size_t(leaf)] = masked_slices(mask->value(), channels_->tags(leaf));
  const std::vector<States> states = channels_->states(masked);
  std::map<std::string, Module*> modules;
  for (auto& [name, m] : named_modules(module)) modules[name] = m;
  int64_t layers = 0;
  for (const GraphValue& v : graph.values) {
    const auto products = products_.find(v.path);
    if (!v.op || (v.op->name() != "conv2d" && v.op->name() != "linear") || products == products_.end()) continue;
    const States& input = states[size_t(v.inputs[0])];
    Parameter& p = *weight_of(*modules.at(v.path));
    const Tensor value = p.value();
    const std::vector<Tensor>& grams = products->second.gram;
    const auto groups = int64_t(grams.size());
    const int64_t each = value.numel() / std::max<int64_t>(value.dim(0), 1);
    if (groups == 0 || input.size() < 2 || grams[0].dim(0) != each || value.dim(0) % groups != 0) continue;
    const int64_t channels = int64_t(input[1].size()), taps = each * groups / std::max<int64_t>(channels, 1);
    std::vector<int64_t> rows;
    const Mask* mask = mask_of(p);
    if (taps * channels != each * groups) continue;
    if (!living_rows(mask ? mask->value() : Tensor::ones(value.shape()), rows)) continue;
    auto w = value.to_vector();
    bool changed = false;
    for (int64_t group = 0; group < groups; ++group) {
      std::vector<char> gone(static_cast<size_t>(each), 0);
      for (int64_t j = 0; j < each; ++j)
        gone[size_t(j)] = input[1][size_t(group * channels / groups + j / taps)] == Slice::zero;
      const auto lost = std::count(gone.begin(), gone.end(), char(1));
      if (lost == 0 || lost == each) continue;
      std::vector<int64_t> here;
      for (const int64_t o : rows)
        if (o / (value.dim(0) / groups) == group) here.push_back(o);
      Matrix of_group(here.size(), each);
      for (size_t i = 0; i < here.size(); ++i)
        for (int64_t j = 0; j < each; ++j) of_group(Eigen::Index(i), j) = double(w[size_t(here[i] * each + j)]);
      reconstruct(of_group, grams[size_t(group)], gone, damping_, v.path);
      for (size_t i = 0; i < here.size(); ++i)
        for (int64_t j = 0; j < each; ++j) w[size_t(here[i] * each + j)] = float(of_group(Eigen::Index(i), j));
      changed = true;
    }
    if (!changed) continue;
    p.value().copy_from(Tensor::from(w, value.shape()).to(value.device()));
    ++layers;
  }
  return layers;
}

}  // namespace espalier
