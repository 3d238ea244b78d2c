// Reading encodings: all of the text is looked at before any transform changes.
#include <espalier/compress/quantize/encodings.h>
#include <espalier/core/io/file.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

namespace espalier {

namespace {

using nlohmann::json;

struct Reading {
  const std::string& file;

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ErrorKind::data, "[encodings] ", file, ": ", parts...);
  }

  double number(const json& entry, const std::string& layer, const std::string& key) const {
    const json& v = entry.at(key);
    if (!v.is_number() || !std::isfinite(v.get<double>()) || !std::isfinite(float(v.get<double>())))
      refuse(layer, ": ", key, " is ", v.dump(-1, ' ', false, json::error_handler_t::replace), ", expected a number");
    return v.get<double>();
  }
};

}  // namespace

void apply_encodings(Quantizer& quantizer, std::string_view text, const std::string& name) {
  const Reading in{name};
  const json all = json::parse(text, nullptr, false);
  if (!all.is_object()) in.refuse("expected {layer: {...}} in JSON");
  struct Found {
    FakeQuant* f;
    Tensor range;  // or
    float scale = 0, zero = 0;
  };
  std::vector<Found> found;
  std::map<std::string, std::set<std::string>> known;
  for (const auto& p : quantizer.placed()) {
    known[p.layer].insert(p.what);
    const auto entry = all.find(p.layer);
    const std::string bits = p.what + "_bits";
    if (entry == all.end() || !entry->is_object() || !entry->contains(bits))
      in.refuse("nothing about the ", p.what, " of ", p.layer, ": encodings of another model?");
    if (const double n = in.number(*entry, p.layer, bits); n != double(p.bits))
      in.refuse("the ", p.what, " of ", p.layer, " has ", n, " bits, expected ", p.bits);
    auto* f = dynamic_cast<FakeQuant*>(p.transform.get());
    if (f && p.what == "weight") {
      const size_t scales = size_t(f->qparams().scale.numel());
      const auto given = entry->find("weight_scale");
      if (given != entry->end() && (given->is_array() ? given->size() : 1) != scales)
        in.refuse("the weight of ", p.layer, " has ", given->is_array() ? given->size() : 1, " scales, expected ",
                  scales, ": encodings of another model?");
    }
    if (p.what == "weight") continue;
    if (!f && dynamic_cast<ScaledQuant*>(p.transform.get()))
      in.refuse("the ", p.what, " of ", p.layer, " learns its scale, which no encodings fix");
    if (!f) continue;
    const std::string scale = p.what + "_scale", zero = p.what + "_zero_point";
    const std::string least = "tracked_min_" + p.what, most = "tracked_max_" + p.what;
    if (entry->contains(scale) && entry->contains(zero)) {
      const double s = in.number(*entry, p.layer, scale), z = in.number(*entry, p.layer, zero);
      const QParams& q = f->qparams();
      if (!(float(s) > 0) || z != std::nearbyint(z) || z < double(q.qmin()) || z > double(q.qmax()))
        in.refuse("the ", p.what, " of ", p.layer, ": scale ", s, " and zero point ", z,
                  ", expected a positive number and a code of ", q.qmin(), " to ", q.qmax());
      found.push_back({f, {}, float(s), float(z)});
    } else if (entry->contains(least) && entry->contains(most)) {
      const double low = in.number(*entry, p.layer, least), high = in.number(*entry, p.layer, most);
      if (low > high) in.refuse("the ", p.what, " of ", p.layer, ": a range of ", low, " to ", high);
      found.push_back({f, Tensor::from(std::vector<float>{float(low), float(high)}, {2, 1})});
    } else {
      in.refuse("the ", p.what, " of ", p.layer, " has neither ", scale, " and ", zero, " nor a tracked range");
    }
  }
  for (const auto& [layer, entry] : all.items()) {
    if (!entry.is_object()) in.refuse(layer, ": expected {...}");
    for (const std::string what : {"weight", "input", "output"})
      if (entry.contains(what + "_bits") && !known[layer].contains(what))
        in.refuse("the ", what, " of ", layer, " is not quantized here: encodings of another model?");
  }
  for (const Found& one : found)
    if (one.range)
      one.f->fix(one.range);
    else
      one.f->fix(one.scale, one.zero);
}

void load_encodings(Quantizer& quantizer, const std::string& path) {
  const auto bytes = read_file(path, size_t(1) << 28);
  apply_encodings(quantizer, {bytes.data(), bytes.size()}, path);
}

}  // namespace espalier
