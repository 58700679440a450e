#include "client/report/plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "client/format.h"

namespace liger::client {
namespace {

constexpr double kLeft = 58;
constexpr double kRight = 14;
constexpr double kTop = 12;
constexpr double kBottom = 28;
constexpr double kTextHeight = 14;
constexpr double kCap = 4;
// About, of the style sheet's 11 px.
constexpr double kCharacter = 6.6;
constexpr int kMostDecimals = 7;
constexpr size_t kShortestLabel = 6;

std::string Pixel(double value) { return absl::StrFormat("%.2f", value); }

std::string TitleElement(const std::string& title) {
  return title.empty() ? "" : absl::StrCat("<title>", Escaped(title), "</title>");
}

// 12000 -> "12k"; decimals as the step between ticks needs them.
std::string TickLabel(double value, double step) {
  double scale = 1;
  const char* suffix = "";
  if (std::abs(value) >= 1e6 && step >= 1e4) {
    scale = 1e6;
    suffix = "M";
  } else if (std::abs(value) >= 1e4 && step >= 100) {
    scale = 1e3;
    suffix = "k";
  }
  // As many as the step has.
  int decimals = 0;
  double shown = step / scale;
  while (decimals < kMostDecimals && std::abs(shown - std::round(shown)) > 1e-6 * shown) {
    shown *= 10;
    ++decimals;
  }
  if (decimals == kMostDecimals) return absl::StrFormat("%.2g", value);
  return absl::StrFormat("%.*f%s", decimals, value / scale, suffix);
}

}  // namespace

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::vector<Plot::Tick> NiceTicks(double low, double high, int count) {
  const double raw = (high - low) / std::max(1, count);
  if (!(raw > 0) || !std::isfinite(raw)) return {{low, TickLabel(low, 1)}};
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= raw) {
      step = factor * power;
      break;
    }
  }
  std::vector<Plot::Tick> ticks;
  const double slack = step * 1e-6;
  for (double at = std::ceil((low - slack) / step) * step; at <= high + slack; at += step) {
    const double value = std::abs(at) < slack ? 0 : at;
    ticks.push_back({value, TickLabel(value, step)});
  }
  return ticks;
}

Plot::Plot(std::string title, double x_min, double x_max, std::vector<Tick> x_ticks, double y_min,
           double y_max)
    : title_(std::move(title)), x_min_(x_min), x_max_(x_max), y_min_(y_min), y_max_(y_max) {
  if (!(x_max_ > x_min_)) {
    x_min_ -= 0.5;
    x_max_ += 0.5;
  }
  if (!(y_max_ > y_min_)) {
    const double around = std::max(std::abs(y_min_) * 0.05, 1e-6);
    y_min_ -= around;
    y_max_ += around;
  }
  DrawYAxis();
  DrawXAxis(x_ticks);
}

double Plot::X(double x) const {
  return kLeft + (x - x_min_) / (x_max_ - x_min_) * (kWidth - kLeft - kRight);
}

double Plot::Y(double y) const {
  return kHeight - kBottom - (y - y_min_) / (y_max_ - y_min_) * (kHeight - kTop - kBottom);
}

void Plot::DrawYAxis() {
  for (const Tick& tick : NiceTicks(y_min_, y_max_, 5)) {
    const std::string y = Pixel(Y(tick.at));
    absl::StrAppend(&body_, "<line class=\"grid\" x1=\"", Pixel(kLeft), "\" x2=\"",
                    Pixel(kWidth - kRight), "\" y1=\"", y, "\" y2=\"", y, "\"/>",
                    "<text class=\"tick\" text-anchor=\"end\" x=\"", Pixel(kLeft - 6), "\" y=\"",
                    Pixel(Y(tick.at) + 4), "\">", Escaped(tick.label), "</text>");
  }
}

// As many labels as fit, the first always.
void Plot::DrawXAxis(const std::vector<Tick>& ticks) {
  absl::StrAppend(&body_, "<line class=\"axis\" x1=\"", Pixel(kLeft), "\" x2=\"",
                  Pixel(kWidth - kRight), "\" y1=\"", Pixel(kHeight - kBottom), "\" y2=\"",
                  Pixel(kHeight - kBottom), "\"/>");
  const double room =
      (kWidth - kLeft - kRight) / static_cast<double>(std::max<size_t>(1, ticks.size()));
  const size_t longest = std::max(kShortestLabel, static_cast<size_t>(room / kCharacter));
  double free_from = 0;
  for (const Tick& tick : ticks) {
    // The whole of it is in the tables.
    const bool cut = Width(tick.label) > longest;
    const std::string label = cut ? Cut(tick.label, longest - 1) + "…" : tick.label;
    const double half = static_cast<double>(Width(label)) * kCharacter / 2;
    const double at = std::clamp(X(tick.at), half + 2, kWidth - half - 2);
    if (at - half < free_from) continue;
    free_from = at + half + 6;
    absl::StrAppend(&body_, "<text class=\"tick\" text-anchor=\"middle\" x=\"", Pixel(at),
                    "\" y=\"", Pixel(kHeight - kBottom + 18), "\">", Escaped(label), "</text>");
  }
}

void Plot::Line(const std::vector<std::pair<double, double>>& points, const std::string& classes,
                double shift) {
  std::string path;
  bool pen_down = false;
  for (const auto& [x, y] : points) {
    if (!std::isfinite(y)) {
      pen_down = false;
      continue;
    }
    absl::StrAppend(&path, pen_down ? "L" : "M", Pixel(X(x) + shift), " ", Pixel(Y(y)));
    pen_down = true;
  }
  if (path.empty()) return;
  absl::StrAppend(&body_, "<path class=\"mark line ", classes, "\" d=\"", path, "\"/>");
}

void Plot::Dot(double x, double y, double radius, const std::string& classes,
               const std::string& title, double shift) {
  absl::StrAppend(&body_, "<circle class=\"mark dot ", classes, "\" cx=\"", Pixel(X(x) + shift),
                  "\" cy=\"", Pixel(Y(y)), "\" r=\"", Pixel(radius), "\">", TitleElement(title),
                  "</circle>");
}

void Plot::Whisker(double x, double low, double high, const std::string& classes, double shift) {
  const double at = X(x) + shift;
  const std::string path = absl::StrCat(
      "M", Pixel(at), " ", Pixel(Y(low)), "L", Pixel(at), " ", Pixel(Y(high)), "M",
      Pixel(at - kCap), " ", Pixel(Y(low)), "L", Pixel(at + kCap), " ", Pixel(Y(low)), "M",
      Pixel(at - kCap), " ", Pixel(Y(high)), "L", Pixel(at + kCap), " ", Pixel(Y(high)));
  absl::StrAppend(&body_, "<path class=\"whisker ", classes, "\" d=\"", path, "\"/>");
}

void Plot::Box(double x, double low, double high, double width, const std::string& classes,
               const std::string& title, double shift) {
  absl::StrAppend(&body_, "<rect class=\"mark box ", classes, "\" x=\"",
                  Pixel(X(x) + shift - width / 2), "\" y=\"", Pixel(Y(high)), "\" width=\"",
                  Pixel(width), "\" height=\"", Pixel(std::max(1.0, Y(low) - Y(high))), "\">",
                  TitleElement(title), "</rect>");
}

void Plot::Rule(double y, const std::string& classes) {
  absl::StrAppend(&body_, "<line class=\"rule ", classes, "\" x1=\"", Pixel(kLeft), "\" x2=\"",
                  Pixel(kWidth - kRight), "\" y1=\"", Pixel(Y(y)), "\" y2=\"", Pixel(Y(y)), "\"/>");
}

void Plot::Note(double x, int row, const std::string& text, const std::string& classes,
                const std::string& title) {
  const double half = static_cast<double>(text.size()) * kCharacter / 2;
  const double at = std::clamp(X(x), kLeft + half, kWidth - half - 2);
  absl::StrAppend(&body_, "<text class=\"mark note ", classes, "\" text-anchor=\"middle\" x=\"",
                  Pixel(at), "\" y=\"", Pixel(kHeight - kBottom - 6 - row * kTextHeight), "\">",
                  TitleElement(title), Escaped(text), "</text>");
}

std::string Plot::ToSvg() const {
  return absl::StrCat("<svg class=\"plot\" role=\"img\" viewBox=\"0 0 ", kWidth, " ", kHeight,
                      "\" aria-label=\"", Escaped(title_), "\">", body_, "</svg>");
}

}  // namespace liger::client
