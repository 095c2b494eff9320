#include "molar/adapters/merge/merge_report.h"

#include "lora_fixtures.h"
#include "molar/adapters/low_rank.h"

namespace molar {
namespace {

using test::kToK;
using test::kToQ;

MergeInput file_of(LoraRole role, const std::string& path,
                   const std::map<LayerName, Tensor>& changes) {
  MergeInput input{.role = role, .weights = {}, .strength = 3.0};
  input.weights.path = path;
  for (const auto& [name, change] : changes)
    input.weights.layers[name] =
        plain_layer({.down = torch::eye(change.size(1)), .up = change}, change.sizes().vec());
  return input;
}

std::vector<MergeInput> inputs() {
  const auto row = [](float a, float b) { return torch::tensor({{a, b}}); };
  return {
      file_of(LoraRole::kSubject, "dir/dog.safetensors", {{kToQ, row(3, 4)}, {kToK, row(1, 0)}}),
      file_of(LoraRole::kStyle, "ink & <b>.safetensors", {{kToQ, row(4, 3)}})};
}

TEST(MergeReport, MeasuresUnscaledChanges) {
  const auto files = inputs();
  const auto layers = report_merge(files, merge_loras("np", files));
  ASSERT_EQ(layers.size(), 2U);
  const LayerReport& keys = layers[0];
  EXPECT_EQ(keys.name, kToK);
  EXPECT_EQ(keys.rule, "subject");
  EXPECT_EQ(keys.norms, (std::vector<double>{1, 0}));
  ASSERT_EQ(keys.cosines.size(), 1U);
  EXPECT_TRUE(std::isnan(keys.cosines[0]));
  const LayerReport& queries = layers[1];
  EXPECT_EQ(queries.rule, "projected");
  EXPECT_NEAR(queries.norms[0], 5, 1e-5);
  EXPECT_NEAR(queries.cosines[0], 24.0 / 25.0, 1e-5);
  EXPECT_TRUE(queries.mean_coefficients.empty());
  EXPECT_NEAR(queries.projection.value(), 0.5 / 1.5, 1e-6);  // NP-LoRA's mu / (1 + mu)
}

TEST(MergeReport, JsonHasNullWhereThereIsNoCosine) {
  const auto files = inputs();
  const Json json = merge_report_json("np", files, report_merge(files, merge_loras("np", files)));
  EXPECT_EQ(json.at("method"), "np");
  EXPECT_EQ(json.at("inputs").at(0).at("file"), "dog.safetensors");
  EXPECT_EQ(json.at("inputs").at(1).at("role"), "style");
  EXPECT_TRUE(json.at("layers").at(0).at("cosines").at(0).is_null());
  EXPECT_EQ(json.at("layers").at(1).at("module"), kToQ.module);
}

TEST(MergeReport, SvgShowsADotPerLayerAndEscapesNames) {
  const auto files = inputs();
  const std::string svg =
      merge_report_svg("np", files, report_merge(files, merge_loras("np", files)));
  EXPECT_NE(svg.find("ink &amp; &lt;b>"), std::string::npos);
  size_t dots = 0;
  for (size_t at = svg.find("<circle"); at != std::string::npos; at = svg.find("<circle", at + 1))
    ++dots;
  EXPECT_EQ(dots, 1U) << "one layer has a cosine";
}

}  // namespace
}  // namespace molar
