// Tables, and figures as what they ask of a canvas: every word and line that a reader needs is there, inside the
// picture.
#include <doctest/doctest.h>
#include <espalier/compress/report/axes.h>
#include <espalier/compress/report/figures.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "refusal.h"

using namespace espalier;

namespace {

// Notes what is drawn; letters are 0.6 em wide.
struct Notebook : Canvas {
  double width, height;
  std::vector<std::string> texts;
  std::vector<std::vector<Point>> lines;
  std::vector<Point> discs;
  int rectangles = 0;
  explicit Notebook(const Figure& f) : width(f.width), height(f.height) { draw(f, *this); }
  void inside(double x, double y) const {
    CHECK(std::isfinite(x));
    CHECK(std::isfinite(y));
    CHECK(x >= -0.5);
    CHECK(x <= width + 0.5);
    CHECK(y >= -0.5);
    CHECK(y <= height + 0.5);
  }
  void line(const std::vector<Point>& points, Color, double, bool) override {
    for (const Point& p : points) inside(p.x, p.y);
    lines.push_back(points);
  }
  void rectangle(double x, double y, double w, double h, Color) override {
    inside(x, y);
    inside(x + w, y + h);
    ++rectangles;
  }
  void disc(double x, double y, double, Color) override {
    inside(x, y);
    discs.push_back({x, y});
  }
  void text(double x, double y, const std::string& t, const Text&) override {
    inside(x, y);
    texts.push_back(t);
  }
  double width_of(const std::string& t, const Text& how) override { return 0.6 * how.size * double(t.size()); }
  bool says(const std::string& t) const { return std::find(texts.begin(), texts.end(), t) != texts.end(); }
};

Table table(const std::string& csv) { return parse_csv(csv, "t.csv"); }

}  // namespace

TEST_CASE("CSV: quotes, empty fields, short records; there and back") {
  const Table t = table("a,b,\"c,d\"\r\n1,,\"say \"\"x\"\"\"\n2,3\n");
  CHECK(t.columns == std::vector<std::string>{"a", "b", "c,d"});
  CHECK(t.rows.size() == 2);
  CHECK(t.rows[0][2] == "say \"x\"");
  CHECK(t.numbers("a") == std::vector<double>{1, 2});
  CHECK(std::isnan(t.numbers("b")[0]));
  CHECK(t.texts("c,d")[1] == "");
  CHECK(table(t.csv()).rows == t.rows);
  CHECK(refusal([] { table(""); }).find("is empty") != std::string::npos);
  CHECK(refusal([] { table("a\n1,2\n"); }).find("record 2 has 2 fields") != std::string::npos);
  CHECK(refusal([] { table("a\n\"1\n"); }).find("not closed") != std::string::npos);
  CHECK(refusal([&] { t.numbers("c,d"); }).find("expected a number") != std::string::npos);
  CHECK(refusal([&] { t.numbers("z"); }).find("no column") != std::string::npos);
}

TEST_CASE("ticks are round and cover the range") {
  CHECK(ticks_of(0, 1, 5, false) == std::vector<double>{0, 0.2, 0.2 * 2, 0.2 * 3, 0.2 * 4, 1});
  CHECK(ticks_of(3, 47, 5, false) == std::vector<double>{10, 20, 30, 40});
  CHECK(ticks_of(1, 100, 5, true) == std::vector<double>{1, 2, 5, 10, 20, 50, 100});
  CHECK(ticks_of(1, 1e8, 4, true).size() == 9);
  CHECK(tick_text(0.30000000000000004) == "0.3");
  CHECK(tick_text(20e6) == "20M");
  CHECK(tick_text(1e-13) == "0");
}

TEST_CASE("training curves: both sets, titles and units") {
  const Table metrics = table(
      "epoch,step,lr,train_loss,train_accuracy,test_loss,test_accuracy,seconds\n"
      "0,10,0.1,2.3,0.1,2.2,0.2,1\n1,20,0.1,1.5,0.5,1.7,0.4,1\n2,30,0.01,1,0.7,1.2,0.6,1\n");
  const Notebook n(figure_of(metrics, "", "VGG-19"));
  for (const char* word : {"VGG-19", "loss", "accuracy, %", "epochs", "training", "test", "learning rate"})
    CHECK(n.says(word));
  CHECK(std::count_if(n.lines.begin(), n.lines.end(), [](const auto& l) { return l.size() == 3; }) >= 5);
  // Accuracy is drawn upwards: the last training accuracy lies above the first.
  const auto curve = std::find_if(n.lines.begin(), n.lines.end(), [](const auto& l) {
    return l.size() == 3 && l[0].x > 400 && l[0].y > l[2].y && l[0].x < l[1].x && l[1].x < l[2].x;
  });
  CHECK(curve != n.lines.end());
  // Without a test set nothing is said of one.
  const Notebook bare(
      figure_of(table("epoch,lr,train_loss,train_accuracy,test_loss,test_accuracy\n0,0.1,2,0.5,,\n"), "", "x"));
  CHECK(!bare.says("test"));
}

TEST_CASE("what layers keep: a bar before and a bar after for each") {
  const Notebook n(figure_of(table("layer,total,kept\nfeature.0,64,12\nfeature.3,128,100\n"), "", "kept"));
  CHECK(n.rectangles == 1 + 2 + 4);  // paper, legend, bars
  CHECK(n.says("feature.3"));
  CHECK(n.says("112 of 192 kept (58.3 %)"));
  CHECK(n.says("channels"));
}

TEST_CASE("sensitivity: a line per layer from the unpruned metric on, short where it stopped") {
  const Table rows = table("layername,0.1,0.5,0.9\nconv1,0.98,0.9,0.2\nconv2,0.97\n");
  const Notebook n(sensitivity_figure(rows, "s", 0.99));
  CHECK(n.discs.size() == 4 + 2 + 2);  // and two in the legend
  CHECK(n.says("conv1"));
  CHECK(n.says("pruned away of this layer alone, %"));
  std::string many = "layername,0.5\n";
  for (int i = 0; i < 40; ++i) many += "features." + std::to_string(i) + ".conv.0.0,0.5\n";
  Notebook(sensitivity_figure(table(many), "many", 0.9));
}

TEST_CASE("Pareto: a panel per price, names, and the front of those that nobody beats") {
  const Table t = table(
      "label,accuracy,parameters,latency_ms,family\n"
      "dense,0.93,20000000,7,VGG\nslim,0.935,2000000,3,VGG\nl1,0.92,4000000,4,VGG\nint8,0.92,20000000,1.2,int8\n");
  const Figure f = figure_of(t, "", "p");
  REQUIRE(f.panels.size() == 2);
  const auto front = f.panels[0].series.front();
  CHECK(front.x == std::vector<double>{2000000});
  CHECK(f.panels[1].series.front().x == std::vector<double>{1.2, 3});
  const Notebook n(f);
  for (const char* word : {"dense", "slim", "int8", "VGG", "parameters", "test accuracy, %", "latency, ms per image"})
    CHECK(n.says(word));
  CHECK(refusal([] { figure_of(table("label,accuracy\na,0.5\n"), "pareto", "p"); }).find("no column") !=
        std::string::npos);
}

TEST_CASE("search history and break-even map; what tells of nothing is refused") {
  const Figure s = figure_of(table("sparsity,performance,config_list\n0.5,0.6,[]\n0.5,0.8,[]\n0.5,0.7,[]\n"), "", "s");
  CHECK(s.panels[0].series[1].y == std::vector<double>{0.6, 0.8, 0.8});
  Notebook{s};
  const Notebook m(figure_of(table("layer,0.5,0.7,0.9\n512 4x4,0.8,1.5,4\n64 32x32,0.4,,2\n"), "break-even", "m"));
  CHECK(m.says("4.00"));
  CHECK(m.says("512 4x4"));
  CHECK(m.says("0.9"));
  CHECK(m.rectangles == 1 + 5);
  const Figure lines =
      figure_of(table("avx512,batch,c,o,map,kernel,stride,lanes_fixed,lanes_slope,blocks_fixed,blocks_slope\n"
                      "True,64,512,512,4,3,1,0.1,1,0.05,1\nFalse,64,512,512,4,3,1,0.2,1,0.1,1\n"),
                "", "lines");
  REQUIRE(lines.panels.size() == 2);
  REQUIRE(lines.panels[0].heat.cells.size() == 1);
  CHECK(lines.panels[0].heat.cells[0][4] == doctest::Approx(5));  // 1 / (0.1 + 1 * 0.1)
  CHECK(Notebook(lines).says("512 to 512, 3x3/1 on 4, batch 64"));
  CHECK(refusal([] { figure_of(table("a,b\n1,2\n"), "", "x"); }).find("none of the pictures") != std::string::npos);
  Notebook{figure_of(table("epoch,lr,train_loss,train_accuracy,test_loss,test_accuracy\n"), "", "empty")};
}

TEST_CASE("Cairo: one figure, two kinds of file, the same bytes every time") {
  const Figure f = figure_of(table("layer,total,kept\na\xff"
                                   "b,64,12\n"),
                             "", "kept");
  if (!has_cairo()) {
    CHECK(refusal([&] { render(f, Picture::svg); }, ErrorKind::other).find("no Cairo") != std::string::npos);
    return;
  }
  const std::string svg = render(f, Picture::svg), png = render(f, Picture::png);
  CHECK(svg.find("<svg") != std::string::npos);
  CHECK(png.substr(1, 3) == "PNG");
  CHECK(png.size() > 2000);
  CHECK(render(f, Picture::png) == png);
}
