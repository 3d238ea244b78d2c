// The plan is made on tags and only then written as masks: unit by unit (a group of coupled channels), cluster by
// cluster (layers whose channels share units and are therefore ranked together).
#include <espalier/compress/channels.h>
#include <espalier/compress/prune/allocation.h>
#include <espalier/compress/prune/groups.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <sstream>

namespace espalier {

namespace {

constexpr double nobody = -std::numeric_limits<double>::infinity();

struct Unit {
  double score = 0;
  int64_t channels = 0;  // of selected members
  int cluster = -1;
  bool pinned = false, dead = false;
  bool masked = true;  // all of its channels are already
};

class Planner {
 public:
  Planner(Module& model, const Examples& example, const std::vector<GroupMember>& members, const GroupOptions& options)
      : model_(model), members_(members), options_(options), channels_(model, example) {}

  GroupPlan plan(const std::vector<Protected>& others) {
    for (const Protected& other : others) protect(other);
    make_units();
    for (bool settled = false; !settled;) {
      plan_.notes.clear();
      revived_ = 0;
      note_pins();
      rank();
      keep_layers_alive();
      round_up();
      marks_.assign(channels_.graph().values.size(), {});
      for (auto& [name, p] : named_parameters(model_)) mark_makers(*p);
      settled = cover_readers();
    }
    write_masks();
    for (size_t m = 0; m < members_.size(); ++m) plan_.kept.push_back(kept(m));
    if (options_.ranking == Ranking::global) note_miss();
    return std::move(plan_);
  }

 private:
  // One unit per group; a member's channels name their units.
  void make_units() {
    Coupling layers;  // joins members that share a unit
    const Tags ids = layers.fresh(int64_t(members_.size()));
    std::map<int, int> first_member;
    for (size_t m = 0; m < members_.size(); ++m) {
      const Dims dims = channels_.tags_of(members_[m].weight->value());
      roots_.push_back(dims.empty() ? Tags{} : dims[0]);
      if (dims.empty()) unused_.push_back(members_[m].name);
      for (size_t i = 0; i < roots_[m].size(); ++i) {
        const int root = roots_[m][i] = channels_.coupling().root(roots_[m][i]);
        Unit& unit = units_[root];
        if (unit.channels == 0) order_.push_back(root);
        add(unit, members_[m].scores[i]);
        ++unit.channels;
        unit.masked = unit.masked && !members_[m].masked.empty() && members_[m].masked[i];
        const auto [it, first] = first_member.emplace(root, int(m));
        if (!first) layers.join({ids[m]}, {ids[size_t(it->second)]});
      }
    }
    for (const auto& [root, m] : first_member) units_[root].cluster = layers.root(ids[size_t(m)]);
    if (options_.reduce == Reduce::mean)
      for (auto& [root, unit] : units_) unit.score /= double(unit.channels);
    for (auto& [root, unit] : units_)
      if (unit.masked) unit.score = nobody;
    normalize_clusters();
    sparsity_.assign(members_.size(), 1);
    for (size_t m = 0; m < members_.size(); ++m) {
      double& least = sparsity_[size_t(layers.root(ids[m]))];
      least = std::min(least, members_[m].sparsity);
    }
  }

  void add(Unit& unit, double score) const {
    if (unit.channels == 0)
      unit.score = score;
    else if (options_.reduce == Reduce::max)
      unit.score = std::max(unit.score, score);
    else if (options_.reduce == Reduce::prod)
      unit.score *= score;
    else if (options_.reduce != Reduce::first)
      unit.score += score;
  }

  void normalize_clusters() {
    std::map<int, std::pair<std::vector<Unit*>, std::vector<double>>> clusters;
    for (auto& [root, unit] : units_) {
      clusters[unit.cluster].first.push_back(&unit);
      clusters[unit.cluster].second.push_back(unit.score);
    }
    for (auto& [cluster, all] : clusters) {
      normalize(all.second, options_.normalize);
      for (size_t i = 0; i < all.first.size(); ++i) all.first[i]->score = all.second[i];
    }
  }

  void protect(const Protected& other) {
    for (auto& [name, p] : own_parameters(*other.module)) {
      const int leaf = channels_.leaf_of(p->value());
      if (leaf < 0) continue;
      for (int d = 0; d < p->value().rank(); ++d)
        if (channels_.makes(leaf, d)) channels_.coupling().pin(channels_.tags(leaf)[size_t(d)], other.why);
    }
  }

  void note_pins() {
    for (auto& [root, unit] : units_) unit.pinned = channels_.coupling().pinned(root);
    for (const std::string& name : unused_) plan_.notes.push_back(name + " takes no part in the model's output");
    for (size_t m = 0; m < members_.size(); ++m) {
      std::map<std::string, int> pins;
      for (const int root : roots_[m])
        if (units_[root].pinned) ++pins[channels_.coupling().pinned_by(root)];
      for (const auto& [why, n] : pins)
        plan_.notes.push_back(members_[m].name + ": " + std::to_string(n) + " of " + std::to_string(roots_[m].size()) +
                              " channels are pinned by " + why);
    }
  }

  // Where all compete, a unit counts as many channels as it has; within a cluster every layer loses the same part.
  void rank() {
    std::map<int, std::vector<double>> scores;  // by cluster, of the free units
    std::vector<Ranked> all;
    for (const int root : order_)
      if (const Unit& unit = units_[root]; !unit.pinned) {
        scores[unit.cluster].push_back(unit.score);
        all.push_back({unit.score, unit.channels});
      }
    const bool global = options_.ranking == Ranking::global;
    Cut of_all = global ? Cut(std::move(all), members_[0].sparsity, options_.ties) : Cut();
    std::map<int, Cut> cuts;
    std::map<int, bool> shielded;  // clusters of which nothing may go
    for (const auto& [cluster, some] : scores) {
      const double sparsity = sparsity_[size_t(cluster)];
      const bool prunable = some.size() > 1 && prune_count(int64_t(some.size()), sparsity) > 0;
      cuts[cluster] = prunable && !global ? Cut(some, sparsity, options_.ties) : Cut();
      shielded[cluster] = !prunable;
    }
    for (const int root : order_) {
      Unit& unit = units_[root];
      Cut& cut = global && !shielded[unit.cluster] ? of_all : cuts[unit.cluster];
      unit.dead = !unit.pinned && cut.takes(unit.score);
    }
  }

  // By how much one sparsity of all channels together was missed, and why.
  void note_miss() {
    int64_t all = 0, gone = 0, pinned = 0;
    for (const auto& [root, unit] : units_) {
      all += unit.channels;
      if (unit.dead) gone += unit.channels;
      if (unit.pinned) pinned += unit.channels;
    }
    const double asked = members_[0].sparsity, got = double(gone) / double(all);
    if (std::abs(got - asked) < 0.0005) return;
    std::ostringstream note;
    note << std::fixed << std::setprecision(1) << options_.name << ": asked for " << 100 * asked << " % of all " << all
         << " channels, got " << 100 * got << " %: ";
    std::string why;
    const auto add = [&](int64_t n, const char* what) {
      if (n > 0) why += (why.empty() ? "" : ", ") + std::to_string(n) + what;
    };
    const bool coupled = std::any_of(units_.begin(), units_.end(), [](const auto& u) { return u.second.channels > 1; });
    add(pinned, " are pinned");
    add(revived_, " stay for their layers");
    if (gone > prune_count(all - pinned, asked))
      why += std::string(why.empty() ? "" : ", ") + "equal scores go together";
    else if (coupled)
      why += std::string(why.empty() ? "" : ", ") + "coupled channels go as one";
    note << (why.empty() ? "some layers have too few" : why);
    plan_.notes.push_back(note.str());
  }

  bool dead(int tag) {
    const auto it = units_.find(channels_.coupling().root(tag));
    return it != units_.end() && it->second.dead;
  }

  // Keeps the strongest dead channel among these. False: there is none but those that were masked before.
  bool revive_strongest(const Tags& tags) {
    Unit* best = nullptr;
    for (const int tag : tags)
      if (dead(tag)) {
        Unit& unit = units_[channels_.coupling().root(tag)];
        if (!unit.masked && (!best || unit.score > best->score)) best = &unit;
      }
    if (!best) return false;
    best->dead = false;
    revived_ += best->channels;
    return true;
  }

  void keep_layers_alive() {
    const auto revive = [&](const Tags& tags, const std::string& name) {
      if (tags.empty() || !std::all_of(tags.begin(), tags.end(), [&](int t) { return dead(t); })) return;
      if (!revive_strongest(tags)) return;
      plan_.notes.push_back(name + " would have lost all of its channels; the strongest was kept");
    };
    for (size_t m = 0; m < members_.size(); ++m) revive(roots_[m], members_[m].name);
    for (size_t i = 0; i < channels_.graph().values.size(); ++i)
      if (channels_.graph().values[i].kind == GraphValue::leaf)
        for (const Tags& tags : channels_.tags(int(i))) revive(tags, channels_.graph().values[i].name);
  }

  int64_t kept(size_t m) {
    if (roots_[m].empty()) return int64_t(members_[m].scores.size());
    return std::count_if(roots_[m].begin(), roots_[m].end(), [&](int t) { return !dead(t); });
  }

  void round_up() {
    for (size_t m = 0; options_.round_to > 1 && m < members_.size(); ++m)
      while (!roots_[m].empty() && kept(m) % options_.round_to && kept(m) < int64_t(roots_[m].size()))
        if (!revive_strongest(roots_[m])) break;
  }

  void mark_makers(const Parameter& p) {
    const int leaf = channels_.leaf_of(p.value());
    if (leaf < 0) return;
    Marks& marks = marks_[size_t(leaf)] = channels_.unmarked(leaf);
    for (size_t d = 0; d < marks.size(); ++d)
      for (size_t i = 0; channels_.makes(leaf, int(d)) && i < marks[d].size(); ++i)
        marks[d][i] = dead(channels_.tags(leaf)[d][i]);
  }

  // Where something on the way does not keep zeros at zero (a sigmoid), the weights that read the channel are masked
  // too. False: a channel is read in a way that no weight can mask; it was pinned, and the plan must be made anew.
  bool cover_readers() {
    const auto states = channels_.states(marks_);
    bool settled = true;
    for (const auto& read : channels_.all_reads()) {
      if (!dead(read.root) || Channels::harmless(read, states)) continue;
      bool covered = false;
      for (const auto& [place, slot] : read.slots)
        for (const int leaf : channels_.origins(place))
          if (!marks_[size_t(leaf)].empty()) {
            marks_[size_t(leaf)][size_t(slot.first)][size_t(slot.second)] = 1;
            covered = true;
          }
      if (covered) continue;
      const GraphValue& v = channels_.graph().values[size_t(read.result)];
      channels_.coupling().pin(
          {read.root}, std::string(v.op->name()) + (v.path.empty() ? "" : " in " + v.path) + ", which reads it");
      settled = false;
    }
    return settled;
  }

  void write_masks() {
    std::vector<const Parameter*> selected;
    for (const GroupMember& member : members_) selected.push_back(member.weight);
    for (auto& [name, module] : named_modules(model_)) {
      const auto own = own_parameters(*module);
      const bool is_member = std::any_of(own.begin(), own.end(), [&](const auto& o) {
        return std::find(selected.begin(), selected.end(), o.second) != selected.end();
      });
      for (const auto& [key, p] : own) write_mask(name + "." + key, *p, is_member);
    }
    for (const auto& [key, p] : own_parameters(model_)) write_mask(key, *p, false);
  }

  void write_mask(const std::string& name, const Parameter& p, bool always) {
    const int leaf = channels_.leaf_of(p.value());
    const Marks none;
    const Marks& marks = leaf < 0 ? none : marks_[size_t(leaf)];
    const auto any = [](const std::vector<char>& m) { return std::find(m.begin(), m.end(), 1) != m.end(); };
    if (!always && std::none_of(marks.begin(), marks.end(), any)) return;
    const Tensor mask = slice_mask(p.value().shape(), marks);
    plan_.masks.push_back({name, options_.regrow ? mask : with_older(mask, p)});
  }

  Module& model_;
  const std::vector<GroupMember>& members_;
  const GroupOptions& options_;
  Channels channels_;
  std::map<int, Unit> units_;     // by root
  std::vector<int> order_;        // roots, as members first have them: of equals the earlier goes
  std::vector<Tags> roots_;       // by member and channel
  std::vector<double> sparsity_;  // by cluster
  std::vector<std::string> unused_;
  int64_t revived_ = 0;       // channels of selected members that the ranking had given up
  std::vector<Marks> marks_;  // by place in the graph: the slices of parameters to be masked
  GroupPlan plan_;
};

}  // namespace

GroupPlan plan_groups(Module& model, const Examples& example, const std::vector<GroupMember>& members,
                      const std::vector<Protected>& others, const GroupOptions& options) {
  return Planner(model, example, members, options).plan(others);
}

}  // namespace espalier
