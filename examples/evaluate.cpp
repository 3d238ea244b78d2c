// evaluate: how well a .pth file does on a set of images - dense, masked, shrunk or quantized, which is run in
// integers; files that espalier wrote need no model's name.
#include <espalier/compress/export/coded.h>
#include <espalier/compress/latency.h>
#include <espalier/core/io/pth.h>
#include <espalier/core/ops/ops.h>
#include <espalier/nn/state_dict.h>

#include <chrono>

#include "quantized.h"
#include "setup.h"
#include "tools.h"

using namespace espalier;

namespace {

void evaluate_file(tool::Context& c) {
  const Device device = c.device();
  if (!c.given("weights")) fail(ErrorKind::usage, "[--weights] expected a .pth file");
  LoadedModel loaded = tool::load_weights(c);
  const auto test_set = tool::test_loader(c, loaded.info);
  to(*loaded.module, device);
  const std::string logits_file = c.given("logits") ? c.output_file("logits") : "";
  const std::string codes_file = c.given("codes") ? c.output_file("codes") : "";
  tool::Running running(*loaded.module, loaded.info, device);
  if (!codes_file.empty() && !is_fake_quantized(running.graph()))
    fail(ErrorKind::usage, "[--codes] ", c.text("weights"), " is not quantized: it has no codes");
  const bool quantized = is_quantized(*loaded.module);
  tool::refuse_ignored(c, {{{"batch-sizes", "repeats", "exact-images"}, quantized, "with a quantized file"},
                           {{"latency"}, !quantized, "with floats (a quantized file is timed anyway)"}});
  std::vector<int64_t> timed;
  if (c.given("latency")) timed = c.integers("latency");
  for (const int64_t batch : timed)
    if (batch < 1 || batch > 4096) fail(ErrorKind::usage, "[--latency] expected 1 to 4096 images, got ", batch);
  const tool::ComparisonOptions compared(c);
  c.make_out({});

  std::vector<float> logits;  // collected on the way
  std::vector<int64_t> labels;
  const Loss loss = loss_of(loaded.info);
  const auto start = std::chrono::steady_clock::now();
  const Evaluation e = evaluate(running.module(), *test_set, Loss([&](const Tensor& output, const Tensor& target) {
                                  tool::check_finite(output, int64_t(labels.size()));
                                  for (float v : output.to_vector()) logits.push_back(v);
                                  for (int64_t v : target.to_vector<int64_t>()) labels.push_back(v);
                                  return loss(output, target);
                                }),
                                {.device = device, .stop = &tool::stop()});
  tool::leave_if_stopped("nothing was written");
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!logits_file.empty())
    pth::save(logits_file,
              pth::Dict{{"logits", Tensor::from(logits, {e.examples, int64_t(logits.size()) / e.examples})},
                        {"labels", Tensor::from(labels, {e.examples})}});
  if (!codes_file.empty()) pth::save(codes_file, tool::codes_of(running.engine(), *test_set, device));
  int64_t parameters = 0;
  for (auto& [name, p] : named_parameters(*loaded.module)) parameters += p->value().numel();
  c.say() << loaded.info.name << " with " << parameters << " parameters: accuracy " << 100 * e.accuracy << " %, loss "
          << e.loss << " on " << e.examples << " images of " << c.text("dataset") << ", "
          << double(e.examples) / seconds << " images/s" << std::endl;
  c.summary = {{"weights", c.text("weights")},
               {"model", loaded.info.name},
               {"dataset", c.text("dataset")},
               {"device", name_of(device)},
               {"parameters", parameters},
               {"test", tool::to_json(e)},
               {"seconds", seconds}};
  if (!timed.empty()) to(*loaded.module, Device{});
  for (const int64_t batch : timed) {
    const Shape& in = loaded.info.input;
    const Timing t = measure_latency(*loaded.module, Tensor::zeros({1, in[0], in[1], in[2]}), batch);
    tool::leave_if_stopped("nothing was written");
    c.say() << "batch " << batch << ": " << t.median << " ms (10th-90th percentile " << t.low << "-" << t.high << ", "
            << t.n << " runs of the quietest spell) on the CPU" << std::endl;
    c.summary["latency"]["batch_" + std::to_string(batch)] = {
        {"median_ms", t.median}, {"low_ms", t.low}, {"high_ms", t.high}, {"n", t.n}};
  }
  if (!quantized) return;
  LoadedModel real = tool::load_weights(c);
  remove_quantizers(*real.module);
  to(*real.module, device);
  tool::QuantizedComparison table =
      tool::compare_quantized(c, *real.module, *loaded.module, loaded.info, *test_set, compared, &e);
  table.sized = "tensors";
  const auto coded = coded_value(*loaded.module);
  for (const auto& [name, t] : state_dict(*real.module)) table.real.bytes += int64_t(t.bytes());
  for (const char* part : {"model", "ports"})
    for (const auto& [name, t] : pth::state_dict(*coded.find(part), part)) table.integer.bytes += int64_t(t.bytes());
  c.say() << table << std::flush;
  c.summary.update(tool::to_json(table));
}

}  // namespace

int tool::evaluate_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "evaluate",
       .what =
           "Measures the accuracy of a .pth file on test images. Files that espalier wrote say which model they hold,\n"
           "shrunk ones included; for a plain PyTorch file name it with --model. A quantized file is run in\n"
           "integers, and compared with the floats that its codes stand for: accuracy, bytes, milliseconds, codes.\n",
       .examples = "  evaluate --weights out/first/model.pth\n"
                   "  evaluate --weights out/pruned/model.pth --dataset cifar10 --data DIR --json\n"
                   "  evaluate --weights vgg16.pth --model vgg16 --dataset cifar10 --data DIR --logits logits.pth\n"
                   "    then in Python: torch.load('logits.pth')['logits']   [N,10], the images in the files' order\n"
                   "  evaluate --weights out/small/shrunk.pth --latency 1,64\n"
                   "  evaluate --weights out/q8/model.pth --test-images 4 --codes codes.pth",
       .needs_out = false},
      [](cxxopts::OptionAdder& add) {
        add("weights", "the .pth file", cxxopts::value<std::string>(), "FILE")(
            "model", "which model it is, where the file does not say", cxxopts::value<std::string>(), "NAME")(
            "logits", "write {\"logits\": [N,10], \"labels\": [N]} to FILE", cxxopts::value<std::string>(), "FILE")(
            "codes", "write every code of a quantized file to FILE: u8 [N,C,H,W] by the name of the ONNX tensor",
            cxxopts::value<std::string>(), "FILE")("latency",
                                                   "of a file of floats: time a forward pass of so many images, alone "
                                                   "on the CPU, through the engine",
                                                   cxxopts::value<std::string>(), "N,N,..");
        tool::add_key_option(add);
        tool::add_comparison_options(add);
        tool::add_data_options(add, "synthetic", {.train = false, .batches = false});
      },
      evaluate_file);
}
