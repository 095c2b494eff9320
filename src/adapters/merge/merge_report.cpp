#include "molar/adapters/merge/merge_report.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>

#include "molar/adapters/low_rank.h"

namespace molar {
namespace {

constexpr int kSchema = 1;

std::string input_name(const MergeInput& input) {
  return fmt::format("{} {}", role_name(input.role), input.weights.path.stem().string());
}

Json number_or_null(double value) { return std::isnan(value) ? Json() : Json(value); }

/// Text between tags.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else
      out += c;
  }
  return out;
}

/// A row of the chart: one dot per layer in a band of its own height.
class Chart {
 public:
  explicit Chart(size_t num_layers) : num_layers_(num_layers) {}

  using Values = std::function<double(size_t layer)>;  // NaN: no dot
  struct Line {
    std::string label, colour;
    Values values;
  };

  void add_band(const std::string& title, double low, double high, const std::vector<Line>& lines) {
    const int top = kMargin + static_cast<int>(bands_) * (kBandPx + kGapPx);
    ++bands_;
    const auto y = [&](double value) {
      return top + kBandPx * (1 - (std::clamp(value, low, high) - low) / (high - low));
    };
    body_ += fmt::format("<text x=\"{}\" y=\"{}\" font-weight=\"bold\">{}</text>\n", kLeftPx,
                         top - 8, escaped(title));
    for (const double mark : {low, (low + high) / 2, high})
      body_ += fmt::format(
          "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ccc\"/>"
          "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.2g}</text>\n",
          kLeftPx, kLeftPx + kWidthPx, y(mark), y(mark), kLeftPx - 6, y(mark) + 4, mark);
    int label_x = kLeftPx + 420;
    for (const Line& line : lines) {
      body_ += fmt::format("<text x=\"{}\" y=\"{}\" fill=\"{}\">{}</text>\n", label_x, top - 8,
                           line.colour, escaped(line.label));
      label_x += 200;
      for (size_t i = 0; i < num_layers_; ++i) {
        const double value = line.values(i);
        if (std::isnan(value)) continue;
        const double x =
            kLeftPx + kWidthPx * (static_cast<double>(i) + 0.5) / static_cast<double>(num_layers_);
        body_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2\" fill=\"{}\"/>\n", x,
                             y(value), line.colour);
      }
    }
  }

  std::string svg() const {
    const int height = kMargin + static_cast<int>(bands_) * (kBandPx + kGapPx);
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" "
        "font-family=\"sans-serif\" font-size=\"12\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}"
        "<text x=\"{}\" y=\"{}\">layers, in the order of report.json</text>\n</svg>\n",
        kLeftPx + kWidthPx + 20, height + 10, body_, kLeftPx, height - 10);
  }

 private:
  static constexpr int kLeftPx = 60, kWidthPx = 900, kBandPx = 160, kGapPx = 50, kMargin = 40;
  size_t num_layers_, bands_ = 0;
  std::string body_;
};

}  // namespace

std::vector<LayerReport> report_merge(const std::vector<MergeInput>& inputs,
                                      const MergedLora& merged) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  std::vector<LayerReport> reports;
  for (const auto& [name, how] : merged.layers) {
    LayerReport report;
    report.name = name;
    report.rule = how.rule;
    std::vector<std::optional<LoraMatrices>> changes;
    for (const MergeInput& input : inputs) {
      const auto found = input.weights.layers.find(name);
      changes.push_back(found == input.weights.layers.end()
                            ? std::nullopt
                            : std::optional(found->second.matrices()));
      report.norms.push_back(
          changes.back() ? std::sqrt(std::max(0.0, inner_product(*changes.back(), *changes.back())))
                         : 0.0);
    }
    for (size_t i = 0; i < changes.size(); ++i)
      for (size_t j = i + 1; j < changes.size(); ++j) {
        const double norms = report.norms[i] * report.norms[j];
        report.cosines.push_back(norms > 0 ? inner_product(*changes[i], *changes[j]) / norms
                                           : kNone);
      }
    if (how.coefficients.defined()) {
      const Tensor means = how.coefficients.mean(1);
      report.mean_coefficients = {means[0].item<double>(), means[1].item<double>()};
    }
    if (how.projection.defined()) report.projection = how.projection.item<double>();
    reports.push_back(std::move(report));
  }
  return reports;
}

Json merge_report_json(const std::string& method, const std::vector<MergeInput>& inputs,
                       const std::vector<LayerReport>& layers) {
  Json report = {{"schema", kSchema},
                 {"method", method},
                 {"inputs", Json::array()},
                 {"layers", Json::array()}};
  for (const MergeInput& input : inputs)
    report["inputs"].push_back({{"role", role_name(input.role)},
                                {"file", input.weights.path.filename().string()},
                                {"strength", input.strength}});
  for (const LayerReport& layer : layers) {
    Json entry = {{"component", layer.name.component},
                  {"module", layer.name.module},
                  {"rule", layer.rule},
                  {"norms", layer.norms},
                  {"cosines", Json::array()}};
    for (const double cosine : layer.cosines) entry["cosines"].push_back(number_or_null(cosine));
    if (!layer.mean_coefficients.empty()) entry["mean_coefficients"] = layer.mean_coefficients;
    if (layer.projection) entry["projection"] = *layer.projection;
    report["layers"].push_back(std::move(entry));
  }
  return report;
}

std::string merge_report_svg(const std::string& method, const std::vector<MergeInput>& inputs,
                             const std::vector<LayerReport>& layers) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  Chart chart(layers.size());
  if (inputs.size() > 1)
    chart.add_band(
        fmt::format("cosine of the changes: {}, {}", input_name(inputs[0]), input_name(inputs[1])),
        -1, 1, {{"", "#444", [&](size_t i) { return layers[i].cosines.front(); }}});
  double highest = 1;
  for (const LayerReport& layer : layers)
    for (const double mean : layer.mean_coefficients) highest = std::max(highest, std::abs(mean));
  const auto coefficient = [&](size_t role) {
    return [&layers, role](size_t i) {
      return layers[i].mean_coefficients.empty() ? kNone : layers[i].mean_coefficients[role];
    };
  };
  if (std::ranges::any_of(layers, [](const auto& l) { return !l.mean_coefficients.empty(); }))
    chart.add_band(fmt::format("mean coefficient ({})", method), -highest, highest,
                   {{"subject", "#c33", coefficient(0)}, {"style", "#36c", coefficient(1)}});
  return chart.svg();
}

}  // namespace molar
