// The door to Cairo: its surfaces as a Canvas. Letters are drawn as outlines, so a picture needs no fonts where it is
// looked at.
#include <cairo-svg.h>
#include <cairo.h>
#include <espalier/compress/report/plot.h>
#include <espalier/core/error.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace espalier {

namespace {

cairo_status_t append(void* text, const unsigned char* data, unsigned int bytes) {
  static_cast<std::string*>(text)->append(reinterpret_cast<const char*>(data), bytes);
  return CAIRO_STATUS_SUCCESS;
}

void check(cairo_status_t status) {
  if (status != CAIRO_STATUS_SUCCESS) fail(ErrorKind::other, "[report] Cairo: ", cairo_status_to_string(status));
}

class CairoCanvas : public Canvas {
 public:
  explicit CairoCanvas(cairo_surface_t* surface, double zoom) : c_(cairo_create(surface)) {
    cairo_scale(c_, zoom, zoom);
    cairo_set_line_join(c_, CAIRO_LINE_JOIN_ROUND);
  }
  ~CairoCanvas() override { cairo_destroy(c_); }
  CairoCanvas(const CairoCanvas&) = delete;
  CairoCanvas& operator=(const CairoCanvas&) = delete;

  void line(const std::vector<Point>& points, Color color, double width, bool dashed) override {
    if (points.empty()) return;
    const double dashes[] = {5, 4};
    cairo_set_dash(c_, dashes, dashed ? 2 : 0, 0);
    cairo_set_line_width(c_, width);
    use(color);
    cairo_move_to(c_, points[0].x, points[0].y);
    for (const Point& p : points) cairo_line_to(c_, p.x, p.y);
    cairo_stroke(c_);
  }
  void rectangle(double x, double y, double width, double height, Color fill) override {
    use(fill);
    cairo_rectangle(c_, x, y, width, height);
    cairo_fill(c_);
  }
  void disc(double x, double y, double radius, Color fill) override {
    use(fill);
    cairo_arc(c_, x, y, radius, 0, 2 * std::numbers::pi);
    cairo_fill(c_);
  }
  void text(double x, double y, const std::string& text, const Text& how) override {
    if (text.empty()) return;
    const double width = width_of(text, how);
    use(how.color);
    cairo_save(c_);
    cairo_translate(c_, x, y);
    cairo_rotate(c_, -how.angle * std::numbers::pi / 180);
    cairo_move_to(c_, how.anchor == Anchor::begin ? 0 : how.anchor == Anchor::middle ? -width / 2 : -width, 0);
    cairo_show_text(c_, clean(text).c_str());
    cairo_restore(c_);
  }
  double width_of(const std::string& text, const Text& how) override {
    cairo_select_font_face(c_, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                           how.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(c_, how.size);
    cairo_text_extents_t extents;
    cairo_text_extents(c_, clean(text).c_str(), &extents);
    return extents.x_advance;
  }
  void check_status() const { check(cairo_status(c_)); }

 private:
  void use(Color c) { cairo_set_source_rgba(c_, c.r, c.g, c.b, c.alpha); }
  // A byte that is no ASCII might be no UTF-8 either, at which Cairo would stop for good.
  static std::string clean(std::string text) {
    std::replace_if(
        text.begin(), text.end(), [](char ch) { return ch < ' ' || ch > '~'; }, '?');
    return text;
  }

  cairo_t* c_;
};

struct Surface {
  cairo_surface_t* s;
  ~Surface() { cairo_surface_destroy(s); }
};

}  // namespace

bool has_cairo() { return true; }

std::string render(const Figure& figure, Picture kind) {
  std::string bytes;
  const double zoom = kind == Picture::png ? 2 : 1;
  Surface surface{kind == Picture::svg
                      ? cairo_svg_surface_create_for_stream(append, &bytes, figure.width, figure.height)
                      : cairo_image_surface_create(CAIRO_FORMAT_RGB24, int(std::lround(zoom * figure.width)),
                                                   int(std::lround(zoom * figure.height)))};
  check(cairo_surface_status(surface.s));
  {
    CairoCanvas canvas(surface.s, zoom);
    draw(figure, canvas);
    canvas.check_status();
  }
  if (kind == Picture::png) check(cairo_surface_write_to_png_stream(surface.s, append, &bytes));
  cairo_surface_finish(surface.s);
  check(cairo_surface_status(surface.s));
  return bytes;
}

}  // namespace espalier
