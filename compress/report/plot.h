// Figure: what a picture shows, as data - panels of series, bars or a map under titles, axes with units, a legend - and
// the one function that draws it. It draws on a Canvas; Cairo behind its door turns that into SVG and PNG.
#pragma once
#include <espalier/core/api.h>

#include <optional>
#include <string>
#include <vector>

namespace espalier {

// Red, green and blue, and alpha: 0 lets everything through, 1 nothing.
struct Color {
  double r, g, b;  // 0 to 1
  double alpha = 1;
};

// What a drawing asks of a surface. Lengths are in pixels, from the upper left corner.
class ESPALIER_API Canvas {
 public:
  enum class Anchor { begin, middle, end };  // which point of a text lies at (x, y); y is its base line
  // A place: x to the right, y down.
  struct Point {
    double x, y;
  };
  // How a text is written: its size in pixels, by which point (anchor), bold or not, in which color.
  struct Text {
    double size = 12;
    Anchor anchor = Anchor::begin;
    bool bold = false;
    double angle = 0;  // in degrees, counterclockwise
    Color color = {0.15, 0.15, 0.15};
  };
  virtual ~Canvas() = default;
  // A line() through points, so wide; a filled rectangle() and disc(); a text(), and how wide it would be, width_of().
  virtual void line(const std::vector<Point>& points, Color color, double width, bool dashed) = 0;
  virtual void rectangle(double x, double y, double width, double height, Color fill) = 0;
  virtual void disc(double x, double y, double radius, Color fill) = 0;
  virtual void text(double x, double y, const std::string& text, const Text& how) = 0;
  virtual double width_of(const std::string& text, const Text& how) = 0;
};

// An axis; log: its scale is logarithmic.
struct PlotAxis {
  std::string label = {};  // with its unit: "latency at batch 1, ms"
  bool log = false;
  std::optional<double> low = {}, high = {};  // default: what the series need
  std::vector<std::string> categories = {};   // names in the place of numbers, at 0, 1, ...
};

// One thing that is drawn and named in the legend.
struct Series {
  // A line, points, both, or bars.
  enum Style { line, points, both, bars };  // bars of one panel stand over one another, the first behind
  std::string label = {};                   // "": not in the legend
  Style style = line;                       // which of them
  std::vector<double> x = {}, y = {};       // as many of each; what is not finite is left out
  std::vector<std::string> names = {};      // written beside the points
  bool dashed = false;                      // the line
  std::optional<Color> color = {};          // default: the next of the palette
};

// A map of numbers: rows of cells, coloured from blue (below `middle`) over white to red (above), on a log scale.
struct HeatMap {
  std::vector<std::vector<double>> cells = {};  // [row][column]; NaN: empty
  double middle = 1;
};

// One diagram: a title, axes x and y, and series.
struct Panel {
  std::string title = {};
  PlotAxis x = {}, y = {};
  std::vector<Series> series = {};
  HeatMap heat = {};               // drawn where it has cells; axes are then categories
  std::vector<double> marks = {};  // horizontal lines across, as at the unpruned accuracy
};

// A title over its panels, width x height pixels.
struct Figure {
  std::string title = {};
  std::vector<Panel> panels = {};  // side by side
  double width = 900, height = 480;
};

// Draws all of a figure on a white canvas of figure.width x figure.height.
ESPALIER_API void draw(const Figure& figure, Canvas& canvas);

// ---- cairo.cpp; no_cairo.cpp where the library was not found
enum class Picture { svg, png };  // png at twice the size
ESPALIER_API bool has_cairo();    // can this build draw?
// The file's bytes, the same for the same figure and fonts; throws ErrorKind::other without Cairo.
ESPALIER_API std::string render(const Figure& figure, Picture kind);

}  // namespace espalier
