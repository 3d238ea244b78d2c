// The layers that own parameters or options, under PyTorch's names. A layer keeps no sizes: its tensors know them,
// and so a shrunk weight makes a shrunk layer. What a layer computes is said by the function of core/ops it calls.
#pragma once
#include <espalier/core/ops/ops.h>
#include <espalier/nn/module.h>

namespace espalier {

// The kernel's size, and how it lies: stride, padding and dilation as Window's. bias: has it one?
struct Conv2dOptions {
  Pair kernel = 1, stride = 1, padding = 0, dilation = 1;
  int64_t groups = 1;  // input and output channels must be multiples of it; as many as `in`: depthwise
  bool bias = true;
};

// conv2d() of its weight, bias and window: x [N,in,H,W] -> [N,out,OH,OW]. weight [out,in/groups,KH,KW] and bias [out]
// start uniform in ±1/sqrt(fan_in). A layer stays what it was made as: ordinary, in so many groups, or depthwise with
// so many filters per channel; only a depthwise one has as many groups as its weight, which may have shrunk, says:
// groups(). Other inputs are refused.
class ESPALIER_API Conv2d : public Module {
 public:
  Conv2d(int64_t in, int64_t out, Conv2dOptions options);
  std::string_view type() const override { return "Conv2d"; }
  void members(Members& m) override;
  std::string describe() const override;
  int64_t groups() const;

  Parameter weight, bias;
  Window window;

 protected:
  Tensor forward(const Tensor& x) override;

 private:
  int64_t groups_, multiplier_;  // the second is a depthwise layer's filters per channel, else 0
};

// The kernel's size, groups, and how the convolution that leads back lies, stride, padding and dilation as Window's;
// output_padding adds rows and columns, fewer than the stride. bias: has it one?
struct ConvTranspose2dOptions {
  Pair kernel = 1, stride = 1, padding = 0, output_padding = 0, dilation = 1;
  int64_t groups = 1;
  bool bias = true;
};

// conv_transpose2d() with its options: x [N,in,H,W] -> [N,out,OH,OW]. weight [in,out/groups,KH,KW] and bias [out] start
// uniform in ±1/sqrt(out/groups·KH·KW).
class ESPALIER_API ConvTranspose2d : public Module {
 public:
  ConvTranspose2d(int64_t in, int64_t out, ConvTranspose2dOptions options);
  std::string_view type() const override { return "ConvTranspose2d"; }
  void members(Members& m) override;
  std::string describe() const override;

  Parameter weight, bias;
  ConvTransposeOptions options;

 protected:
  Tensor forward(const Tensor& x) override;
};

// bias: has it one?
struct LinearOptions {
  bool bias = true;
};

// linear() of its weight and bias: x [N,in] -> [N,out]. weight [out,in] and bias [out] start uniform in ±1/sqrt(in).
class ESPALIER_API Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, LinearOptions options = {});
  std::string_view type() const override { return "Linear"; }
  void members(Members& m) override;
  std::string describe() const override;

  Parameter weight, bias;

 protected:
  Tensor forward(const Tensor& x) override;
};

// eps joins the variance; momentum is the new batch's part of the running statistics.
struct NormOptions {
  float eps = 1e-5f, momentum = 0.1f;
};

// Normalises each of `channels` over the batch (and the image), as its options say, then scales and shifts; in eval
// mode by the running statistics. weight 1, bias 0, running_mean 0, running_var 1 [channels]; num_batches_tracked s64
// [].
class ESPALIER_API BatchNorm : public Module {
 public:
  BatchNorm(int64_t channels, NormOptions options);
  void members(Members& m) override;
  std::string describe() const override;
  // relu(bn(x)) in one pass, under this module's name; the output port must be empty.
  Tensor with_relu(const Tensor& x);

  Parameter weight, bias;
  Tensor running_mean, running_var, num_batches_tracked;
  NormOptions options;
  bool frozen = false;  // uses its statistics, and leaves them as they are, in training too

 protected:
  Tensor forward(const Tensor& x) override { return normalise(x, false); }
  virtual int rank() const = 0;  // of its input

 private:
  Tensor normalise(const Tensor& x, bool relu);
};

class ESPALIER_API BatchNorm1d : public BatchNorm {  // x [N,channels]
 public:
  explicit BatchNorm1d(int64_t channels, NormOptions o = {}) : BatchNorm(channels, o) {}
  std::string_view type() const override { return "BatchNorm1d"; }

 protected:
  int rank() const override { return 2; }
};

class ESPALIER_API BatchNorm2d : public BatchNorm {  // x [N,channels,H,W]
 public:
  explicit BatchNorm2d(int64_t channels, NormOptions o = {}) : BatchNorm(channels, o) {}
  std::string_view type() const override { return "BatchNorm2d"; }

 protected:
  int rank() const override { return 4; }
};

// group_norm(): normalises groups of channels within each example, with eps in the variance, then scales and shifts: x
// [N,channels,H,W] or [N,channels]. weight
// 1, bias 0 [channels], or absent without `affine`.
class ESPALIER_API GroupNorm : public Module {
 public:
  GroupNorm(int64_t groups, int64_t channels, float eps = 1e-5f, bool affine = true);
  std::string_view type() const override { return "GroupNorm"; }
  void members(Members& m) override;
  std::string describe() const override;

  Parameter weight, bias;
  int64_t groups;
  float eps;

 protected:
  Tensor forward(const Tensor& x) override { return group_norm(x, groups, weight(), bias(), eps); }
};

// layer_norm(): normalises the last dimensions, which are `shape`, with eps in the variance, as weight 1 and bias 0
// are, absent without `affine`.
class ESPALIER_API LayerNorm : public Module {
 public:
  explicit LayerNorm(const Shape& shape, float eps = 1e-5f, bool affine = true);
  std::string_view type() const override { return "LayerNorm"; }
  void members(Members& m) override;
  std::string describe() const override;

  Parameter weight, bias;
  Shape shape;
  float eps;

 protected:
  Tensor forward(const Tensor& x) override { return layer_norm(x, shape, weight(), bias(), eps); }
};

// x where positive, else weight·x: see prelu(). weight [parameters], 1 or the channels, starts at `init`.
class ESPALIER_API PReLU : public Module {
 public:
  explicit PReLU(int64_t parameters = 1, float init = 0.25f) : weight(Tensor::full({parameters}, init)) {}
  std::string_view type() const override { return "PReLU"; }
  void members(Members& m) override { m("weight", weight); }

  Parameter weight;

 protected:
  Tensor forward(const Tensor& x) override { return prelu(x, weight()); }
};

// relu(bn(x)) for the functional style of writing: one pass unless a transform wants to see what bn puts out.
ESPALIER_API Tensor norm_relu(BatchNorm& bn, const Tensor& x);
// The same with an activation that is a module; what sits on its output port sees what it would see anyway. Only a ReLU
// makes one pass.
ESPALIER_API Tensor norm_act(BatchNorm& bn, Module& act, const Tensor& x);

// max_pool2d() with its options: x [N,C,H,W].
class ESPALIER_API MaxPool2d : public Module {
 public:
  explicit MaxPool2d(PoolOptions o) : options(o) {}
  std::string_view type() const override { return "MaxPool2d"; }
  PoolOptions options;

 protected:
  Tensor forward(const Tensor& x) override { return max_pool2d(x, options); }
};

// avg_pool2d() with its options: x [N,C,H,W].
class ESPALIER_API AvgPool2d : public Module {
 public:
  explicit AvgPool2d(PoolOptions o) : options(o) {}
  std::string_view type() const override { return "AvgPool2d"; }
  PoolOptions options;

 protected:
  Tensor forward(const Tensor& x) override { return avg_pool2d(x, options); }
};

// adaptive_avg_pool2d() to images of that size: x [N,C,H,W] -> [N,C,size.h,size.w].
class ESPALIER_API AdaptiveAvgPool2d : public Module {
 public:
  explicit AdaptiveAvgPool2d(Pair out) : size(out) {}
  std::string_view type() const override { return "AdaptiveAvgPool2d"; }
  Pair size;

 protected:
  Tensor forward(const Tensor& x) override { return adaptive_avg_pool2d(x, size); }
};

// Zeroes each element with probability p in training, and scales the others by 1/(1-p) (Srivastava et al. 2014).
// Each call takes one draw of the thread's random state (nn/init.h).
class ESPALIER_API Dropout : public Module {
 public:
  explicit Dropout(float p_ = 0.5f) : Dropout(p_, false) {}
  std::string_view type() const override { return "Dropout"; }
  std::string describe() const override;
  float p;

 protected:
  Dropout(float p_, bool channels);
  Tensor forward(const Tensor& x) override;

 private:
  bool channels_;
};

// Whole channels of an image at once (Tompson et al. 2015).
class ESPALIER_API Dropout2d : public Dropout {
 public:
  explicit Dropout2d(float p_ = 0.5f) : Dropout(p_, true) {}
  std::string_view type() const override { return "Dropout2d"; }
};

// Images of another size: interpolate() with its options.
class ESPALIER_API Upsample : public Module {
 public:
  explicit Upsample(InterpolateOptions o) : options(o) {}
  std::string_view type() const override { return "Upsample"; }
  InterpolateOptions options;

 protected:
  Tensor forward(const Tensor& x) override { return interpolate(x, options); }
};

// A border of one value around images, as wide as pads say: {left, right, top, bottom}.
class ESPALIER_API ConstantPad2d : public Module {
 public:
  ConstantPad2d(std::vector<int64_t> pads_, double value_) : pads(std::move(pads_)), value(value_) {}
  std::string_view type() const override { return "ConstantPad2d"; }
  std::vector<int64_t> pads;
  double value;

 protected:
  Tensor forward(const Tensor& x) override { return pad(x, pads, value); }
};

// A border of zeros: one width for all sides, or four.
class ESPALIER_API ZeroPad2d : public ConstantPad2d {
 public:
  explicit ZeroPad2d(int64_t all) : ZeroPad2d(std::vector<int64_t>{all, all, all, all}) {}
  explicit ZeroPad2d(std::vector<int64_t> pads_) : ConstantPad2d(std::move(pads_), 0) {}
  std::string_view type() const override { return "ZeroPad2d"; }
};

// Passes its input on: a place with ports, where a network has a value that no other layer gives.
class ESPALIER_API Identity : public Module {
 public:
  std::string_view type() const override { return "Identity"; }

 protected:
  Tensor forward(const Tensor& x) override { return x; }
};

// flatten() from start_dim on: x [N,C,H,W] -> [N,C·H·W].
class ESPALIER_API Flatten : public Module {
 public:
  explicit Flatten(int start = 1) : start_dim(start) {}
  std::string_view type() const override { return "Flatten"; }
  int start_dim;

 protected:
  Tensor forward(const Tensor& x) override { return flatten(x, start_dim); }
};

// Modules named "0", "1", ..., for the network that holds the list to call, list[0](x): a list itself has no forward().
class ESPALIER_API ModuleList : public Module {
 public:
  std::string_view type() const override { return "ModuleList"; }
  void members(Members& m) override;
  // add<Conv2d>(3, 64, {...}) gives the module back.
  template <class M, class... Arguments>
  M& add(Arguments&&... arguments) {
    auto made = std::make_unique<M>(std::forward<Arguments>(arguments)...);
    M& module = *made;
    children_.push_back(std::move(made));
    return module;
  }
  void add(std::unique_ptr<Module> module) { children_.push_back(std::move(module)); }
  // How many there are.
  size_t size() const { return children_.size(); }
  // One of them; throws std::out_of_range.
  Module& operator[](size_t i) { return *children_.at(i); }

 private:
  std::vector<std::unique_ptr<Module>> children_;
};

// Modules one after the other. BatchNorm followed by ReLU runs as one pass while no transform sits between the two;
// names and types stay.
class ESPALIER_API Sequential : public ModuleList {
 public:
  std::string_view type() const override { return "Sequential"; }

 protected:
  Tensor forward(const Tensor& x) override;
};

}  // namespace espalier
