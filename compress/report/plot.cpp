// From a figure to lines, boxes and words. A panel is laid out from the outside in: title, legend, labels, ticks, and
// what is left is the plot.
#include <espalier/compress/report/axes.h>
#include <espalier/compress/report/plot.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier {

namespace {

using Point = Canvas::Point;
using Anchor = Canvas::Anchor;

constexpr Color black{0.15, 0.15, 0.15}, grey{0.55, 0.55, 0.55}, pale{0.88, 0.88, 0.88};

// Eight colours that colour-blind readers tell apart (Okabe and Ito 2008, darkened for lines on white); more series
// than that run from violet over green to yellow, in their order.
Color color_of(const std::vector<Series>& all, size_t place) {
  static const Color palette[] = {{0.00, 0.35, 0.65}, {0.84, 0.37, 0.00}, {0.00, 0.58, 0.42}, {0.75, 0.40, 0.60},
                                  {0.25, 0.25, 0.25}, {0.85, 0.60, 0.00}, {0.30, 0.65, 0.88}, {0.55, 0.12, 0.15}};
  if (all[place].color) return *all[place].color;
  size_t k = 0, n = 0;  // among those that have no colour of their own
  for (size_t i = 0; i < all.size(); ++i)
    if (!all[i].color) {
      k += i < place;
      ++n;
    }
  if (n <= std::size(palette)) return palette[k];
  static const Color stops[] = {
      {0.27, 0.00, 0.33}, {0.23, 0.32, 0.55}, {0.13, 0.57, 0.55}, {0.37, 0.79, 0.38}, {0.87, 0.80, 0.10}};
  const double at = 4. * double(k) / double(n - 1);
  const size_t i = std::min<size_t>(size_t(at), 3);
  const double t = at - double(i);
  const auto mix = [&](double a, double b) { return a + t * (b - a); };
  return {mix(stops[i].r, stops[i + 1].r), mix(stops[i].g, stops[i + 1].g), mix(stops[i].b, stops[i + 1].b)};
}

// Blue below the middle, white there, red above; full colour at an eighth and at eight times.
Color heat_of(double value, double middle) {
  const double t = std::clamp(std::log2(value / middle) / 3, -1., 1.), s = std::abs(t);
  return t < 0 ? Color{1 - 0.75 * s, 1 - 0.5 * s, 1 - 0.15 * s} : Color{1 - 0.15 * s, 1 - 0.6 * s, 1 - 0.8 * s};
}

class PanelDrawer {
 public:
  PanelDrawer(const Panel& panel, Canvas& canvas, double left, double top, double width, double height)
      : p_(panel), c_(canvas), left_(left), top_(top), right_(left + width), bottom_(top + height) {}

  void draw() {
    if (!p_.title.empty()) {
      c_.text((left_ + right_) / 2, top_ + 14, p_.title, {.size = 13, .anchor = Anchor::middle, .bold = true});
      top_ += 26;
    }
    right_ -= 12;
    legend();
    find_ranges();
    axes();
    if (!p_.heat.cells.empty()) return heat();
    for (const double mark : p_.marks)
      if (mark >= y_.low && mark <= y_.high) c_.line({{x_.from, y_(mark)}, {x_.to, y_(mark)}}, grey, 1, true);
    for (size_t k = 0; k < p_.series.size(); ++k) bars_or_line(p_.series[k], k);
    names();
  }

 private:
  // Below the plot where the labels are few, in a column at its right where they are many.
  void legend() {
    std::vector<size_t> shown;
    double widest = 0, all = 0;
    for (size_t k = 0; k < p_.series.size(); ++k)
      if (!p_.series[k].label.empty()) {
        shown.push_back(k);
        const double width = c_.width_of(p_.series[k].label, {.size = 11}) + 34;
        widest = std::max(widest, width);
        all += width;
      }
    if (shown.empty()) return;
    const bool row = all <= right_ - left_;
    if (row)
      bottom_ -= 18;
    else
      right_ -= widest + 6;
    double x = row ? (left_ + right_ - all) / 2 : right_ + 10, y = row ? bottom_ + 12 : top_ + 10;
    const double step = row ? 0 : std::min(17., (bottom_ - top_ - 20) / double(shown.size()));
    for (const size_t k : shown) {
      const Series& s = p_.series[k];
      const Color color = color_of(p_.series, k);
      if (s.style == Series::bars)
        c_.rectangle(x, y - 9, 18, 9, color);
      else if (s.style != Series::points)
        c_.line({{x, y - 4}, {x + 18, y - 4}}, color, 2, s.dashed);
      if (s.style == Series::points || s.style == Series::both) c_.disc(x + 9, y - 4, 3.5, color);
      c_.text(x + 23, y, s.label, {.size = 11});
      if (row)
        x += c_.width_of(s.label, {.size = 11}) + 34;
      else
        y += step;
    }
  }

  void find_range(Scale& scale, const PlotAxis& axis, bool vertical) const {
    double low = std::numeric_limits<double>::infinity(), high = -low;
    const auto take = [&](double v) {
      if (!std::isfinite(v) || (axis.log && v <= 0)) return;
      low = std::min(low, v);
      high = std::max(high, v);
    };
    for (const Series& s : p_.series) {
      for (const double v : vertical ? s.y : s.x) take(v);
      if (s.style == Series::bars && vertical) take(0);
    }
    if (vertical)
      for (const double v : p_.marks) take(v);
    if (!axis.categories.empty()) {
      low = -0.5;
      high = double(axis.categories.size()) - 0.5;
    } else if (!(low <= high)) {
      low = axis.log ? 1 : 0;
      high = axis.log ? 10 : 1;
    } else if (axis.log) {
      const double pad = std::max(std::pow(high / low, 0.08), 1.1);
      low /= pad;
      high *= pad;
    } else {
      const double pad = high > low ? 0.05 * (high - low) : std::max(std::abs(high) * 0.05, 0.5);
      if (low != 0) low = low > 0 && low - pad < 0 ? 0 : low - pad;  // no room below zero for what is never negative
      high += pad;
    }
    scale.low = axis.low.value_or(low);
    scale.high = axis.high.value_or(high);
    scale.log = axis.log && axis.categories.empty();
    if (!(scale.high > scale.low)) scale.high = scale.low + 1;
  }

  void find_ranges() {
    find_range(x_, p_.x, false);
    find_range(y_, p_.y, true);
    double widest = 0, deepest = 14;
    for (const std::string& text : y_texts()) widest = std::max(widest, c_.width_of(text, {.size = 11}));
    for (const std::string& text : p_.x.categories)
      if (slanted()) deepest = std::max(deepest, 0.87 * c_.width_of(text, {.size = 10}) + 8);
    x_.from = left_ + 10 + widest + (p_.y.label.empty() ? 0 : 20);
    x_.to = right_;
    y_.from = bottom_ - deepest - 8 - (p_.x.label.empty() ? 0 : 20);
    y_.to = top_ + 6;
  }

  bool slanted() const {
    double all = 0;
    for (const std::string& text : p_.x.categories) all += c_.width_of(text, {.size = 10}) + 8;
    return all > right_ - left_ - 60;
  }

  std::vector<double> y_ticks() const { return ticks_of(y_.low, y_.high, 6, y_.log); }
  std::vector<std::string> y_texts() const {
    if (!p_.y.categories.empty()) return p_.y.categories;
    std::vector<std::string> texts;
    for (const double tick : y_ticks()) texts.push_back(tick_text(tick));
    return texts;
  }

  void axes() {
    const auto texts = y_texts();
    if (p_.y.categories.empty()) {
      const auto ticks = y_ticks();
      for (size_t i = 0; i < ticks.size(); ++i) {
        c_.line({{x_.from, y_(ticks[i])}, {x_.to, y_(ticks[i])}}, pale, 1, false);
        c_.text(x_.from - 6, y_(ticks[i]) + 4, texts[i], {.size = 11, .anchor = Anchor::end});
      }
    } else {
      y_.low = double(texts.size()) - 0.5;  // the first row on top
      y_.high = -0.5;
      for (size_t i = 0; i < texts.size(); ++i)
        c_.text(x_.from - 6, y_(double(i)) + 4, texts[i], {.size = 11, .anchor = Anchor::end});
    }
    if (p_.x.categories.empty()) {
      for (const double tick : ticks_of(x_.low, x_.high, std::max(3, int((x_.to - x_.from) / 80)), x_.log)) {
        c_.line({{x_(tick), y_.from}, {x_(tick), y_.to}}, pale, 1, false);
        c_.text(x_(tick), y_.from + 16, tick_text(tick), {.size = 11, .anchor = Anchor::middle});
      }
    } else {
      const bool slant = slanted();
      for (size_t i = 0; i < p_.x.categories.size(); ++i)
        c_.text(x_(double(i)) + (slant ? 4 : 0), y_.from + (slant ? 10 : 15), p_.x.categories[i],
                {.size = 10, .anchor = slant ? Anchor::end : Anchor::middle, .angle = slant ? 60. : 0.});
    }
    c_.line({{x_.from, y_.to}, {x_.from, y_.from}, {x_.to, y_.from}}, black, 1, false);
    c_.text((x_.from + x_.to) / 2, bottom_ - 4, p_.x.label, {.size = 12, .anchor = Anchor::middle});
    c_.text(left_ + 12, (y_.from + y_.to) / 2, p_.y.label, {.size = 12, .anchor = Anchor::middle, .angle = 90});
  }

  bool visible(const Series& s, size_t i) const {
    const double x = s.x[i], y = s.y[i];
    return std::isfinite(x) && std::isfinite(y) && !(x_.log && x <= 0) && !(y_.log && y <= 0) && x >= x_.low &&
           x <= x_.high && y >= y_.low && y <= y_.high;
  }

  void bars_or_line(const Series& s, size_t k) {
    const Color color = color_of(p_.series, k);
    std::vector<Point> path;
    const double half = 0.4 * std::abs(x_(1) - x_(0));
    for (size_t i = 0; i < std::min(s.x.size(), s.y.size()); ++i) {
      if (!visible(s, i)) continue;
      const Point at{x_(s.x[i]), y_(s.y[i])};
      if (s.style == Series::bars)
        c_.rectangle(at.x - half, at.y, 2 * half, y_(std::max(0., y_.low)) - at.y, color);
      else
        path.push_back(at);
    }
    if (path.size() > 1 && s.style != Series::points) {
      c_.line(path, color, 2, s.dashed);
      paths_.push_back(path);
    }
    if (s.style == Series::points || s.style == Series::both || path.size() == 1)
      for (const Point& at : path) c_.disc(at.x, at.y, s.style == Series::points ? 4 : 3, color);
  }

  // Beside the points, where no other name is yet: right, left, above, below.
  void names() {
    struct Box {
      double left, top, right, bottom;
    };
    std::vector<Box> taken;
    const auto free = [&](const Box& b) {
      return b.left >= x_.from && b.right <= x_.to + 8 && std::none_of(taken.begin(), taken.end(), [&](const Box& o) {
               return b.left < o.right && o.left < b.right && b.top < o.bottom && o.top < b.bottom;
             });
    };
    for (const Series& s : p_.series)
      for (size_t i = 0; i < std::min(s.x.size(), s.y.size()); ++i)
        if (s.style != Series::bars && visible(s, i))
          taken.push_back({x_(s.x[i]) - 4, y_(s.y[i]) - 4, x_(s.x[i]) + 4, y_(s.y[i]) + 4});
    if (std::any_of(p_.series.begin(), p_.series.end(), [](const Series& s) { return !s.names.empty(); })) {
      for (const auto& path : paths_)
        for (size_t i = 1; i < path.size(); ++i)
          for (double t = 0; t <= 1; t += 0.02) {
            const double x = path[i - 1].x + t * (path[i].x - path[i - 1].x);
            const double y = path[i - 1].y + t * (path[i].y - path[i - 1].y);
            taken.push_back({x - 1, y - 1, x + 1, y + 1});
          }
    }
    for (const Series& s : p_.series)
      for (size_t i = 0; i < std::min({s.x.size(), s.y.size(), s.names.size()}); ++i) {
        if (s.names[i].empty() || !visible(s, i)) continue;
        const double width = c_.width_of(s.names[i], {.size = 10}), x = x_(s.x[i]), y = y_(s.y[i]);
        const Box places[] = {
            {x + 7, y - 6, x + 7 + width, y + 6},          {x - 7 - width, y - 6, x - 7, y + 6},
            {x - width / 2, y - 18, x + width / 2, y - 6}, {x - width / 2, y + 6, x + width / 2, y + 18},
            {x + 5, y - 18, x + 5 + width, y - 6},         {x + 5, y + 6, x + 5 + width, y + 18},
            {x - 5 - width, y - 18, x - 5, y - 6},         {x - 5 - width, y + 6, x - 5, y + 18}};
        const auto found = std::find_if(std::begin(places), std::end(places), free);
        const Box& box = found == std::end(places) ? places[0] : *found;
        taken.push_back(box);
        c_.text(box.left, box.bottom - 2, s.names[i], {.size = 10});
      }
  }

  void heat() {
    for (size_t r = 0; r < p_.heat.cells.size(); ++r)
      for (size_t k = 0; k < p_.heat.cells[r].size(); ++k) {
        const double v = p_.heat.cells[r][k];
        if (!std::isfinite(v) || v <= 0) continue;
        const double x = x_(double(k) - 0.5), y = y_(double(r) - 0.5), width = x_(double(k) + 0.5) - x,
                     height = y_(double(r) + 0.5) - y;
        c_.rectangle(x, y, width - 1, height - 1, heat_of(v, p_.heat.middle));
        char text[16];
        std::snprintf(text, sizeof text, v < 10 ? "%.2f" : "%.1f", v);
        if (width > 26 && height > 11)
          c_.text(x + width / 2, y + height / 2 + 4, text, {.size = 10, .anchor = Anchor::middle});
      }
  }

  const Panel& p_;
  Canvas& c_;
  double left_, top_, right_, bottom_;
  Scale x_{}, y_{};
  std::vector<std::vector<Point>> paths_;  // lines that were drawn
};

}  // namespace

void draw(const Figure& figure, Canvas& canvas) {
  canvas.rectangle(0, 0, figure.width, figure.height, {1, 1, 1});
  double top = 8;
  if (!figure.title.empty()) {
    canvas.text(figure.width / 2, 24, figure.title, {.size = 16, .anchor = Anchor::middle, .bold = true});
    top = 36;
  }
  const double each = figure.width / double(std::max<size_t>(figure.panels.size(), 1));
  for (size_t i = 0; i < figure.panels.size(); ++i)
    PanelDrawer(figure.panels[i], canvas, double(i) * each + 6, top, each - 12, figure.height - top - 8).draw();
}

}  // namespace espalier
