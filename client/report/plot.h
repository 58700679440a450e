#ifndef LIGER_CLIENT_REPORT_PLOT_H_
#define LIGER_CLIENT_REPORT_PLOT_H_

#include <string>
#include <utility>
#include <vector>

namespace liger::client {

// Text for HTML and SVG, in elements and attributes.
std::string Escaped(const std::string& text);

// A plot as inline SVG: two axes with their grid, and marks on them. Colours come
// from the page's style sheet by class (s0, s1, ...), so that they follow the
// colour scheme. What carries data has the class "mark".
class Plot {
 public:
  struct Tick {
    double at = 0;
    std::string label;
  };

  // `title` is what screen readers say. Values outside of the ranges are not
  // expected; a range of no width is widened.
  Plot(std::string title, double x_min, double x_max, std::vector<Tick> x_ticks, double y_min,
       double y_max);

  // Shifted by so many pixels to the right, as all that takes a shift.
  void Line(const std::vector<std::pair<double, double>>& points, const std::string& classes,
            double shift = 0);
  // `title` appears when pointed at.
  void Dot(double x, double y, double radius, const std::string& classes, const std::string& title,
           double shift = 0);
  // From low to high at x, with caps.
  void Whisker(double x, double low, double high, const std::string& classes, double shift = 0);
  void Box(double x, double low, double high, double width, const std::string& classes,
           const std::string& title, double shift = 0);
  void Rule(double y, const std::string& classes);  // over the whole width
  // A word above the x axis, in the given row from below.
  void Note(double x, int row, const std::string& text, const std::string& classes,
            const std::string& title);

  std::string ToSvg() const;

  static constexpr double kWidth = 440;
  static constexpr double kHeight = 260;

 private:
  double X(double x) const;
  double Y(double y) const;
  void DrawXAxis(const std::vector<Tick>& ticks);
  void DrawYAxis();

  std::string title_;
  double x_min_, x_max_, y_min_, y_max_;
  std::string body_;
};

// Round steps that cover [low, high], about `count` of them.
std::vector<Plot::Tick> NiceTicks(double low, double high, int count);

}  // namespace liger::client

#endif  // LIGER_CLIENT_REPORT_PLOT_H_
