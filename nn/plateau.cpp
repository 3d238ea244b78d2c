// PyTorch's counting, epoch by epoch.
#include <espalier/nn/plateau.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <locale>
#include <sstream>

namespace espalier {

ReduceLROnPlateau::ReduceLROnPlateau(PlateauOptions options) : options_(options) {
  if (!(options.factor >= 0 && options.factor < 1))
    fail(ErrorKind::usage, "[ReduceLROnPlateau] a factor of ", options.factor, ", expected 0 to below 1");
  if (options.patience < 0 || options.cooldown < 0)
    fail(ErrorKind::usage, "[ReduceLROnPlateau] patience and cooldown must be 0 or more");
}

void ReduceLROnPlateau::step(double metric) {
  const double sign = options_.larger_is_better ? 1 : -1;
  const double bar = options_.absolute ? best_ + sign * options_.threshold : best_ * (1 + sign * options_.threshold);
  if (!seen_ || sign * metric > sign * bar) {
    best_ = metric;
    seen_ = !std::isnan(metric);
    bad_ = 0;
  } else {
    ++bad_;
  }
  if (cooling_ > 0) {
    --cooling_;
    bad_ = 0;
  }
  if (bad_ <= options_.patience) return;
  ++falls_;
  cooling_ = options_.cooldown;
  bad_ = 0;
}

Schedule ReduceLROnPlateau::schedule() const {
  std::ostringstream text;
  text << "reduce_lr_on_plateau(factor=" << options_.factor << ", patience=" << options_.patience << ")";
  return {.at =
              [this](int64_t, Rate base) {
                for (int64_t i = 0; i < falls_; ++i) {
                  const double next = std::max(base.lr * options_.factor, options_.min_lr);
                  if (base.lr - next > options_.eps) base.lr = next;
                }
                return base;
              },
          .text = text.str()};
}

void ReduceLROnPlateau::resumed(const TrainState& from) {
  *this = ReduceLROnPlateau(options_);
  for (const EpochRow& row : from.rows) epoch_ends(row);
}

void ReduceLROnPlateau::epoch_ends(const EpochRow& row) {
  step(std::isnan(row.test_loss) ? row.train_loss : row.test_loss);
}

std::unique_ptr<ReduceLROnPlateau> parse_plateau(const std::string& text) {
  if (text != "plateau" && !text.starts_with("plateau:")) return nullptr;
  PlateauOptions options;
  std::istringstream parts(text.substr(std::min<size_t>(8, text.size())));
  parts.imbue(std::locale::classic());
  char colon = ':';
  const bool read =
      text == "plateau" ||
      (parts >> options.factor && (parts.peek() == EOF || (parts >> colon >> options.patience && colon == ':')));
  if (!read || (text != "plateau" && parts.peek() != EOF))
    fail(ErrorKind::usage, "[schedule] \"", text, "\", expected plateau[:FACTOR[:PATIENCE]]");
  return std::make_unique<ReduceLROnPlateau>(options);
}

}  // namespace espalier
