#include "molar/adapters/column_features.h"

#include "lora_fixtures.h"

namespace molar {
namespace {

using test::noise;

constexpr const char* kQuery = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
constexpr Tolerance kRounding{.atol = 1e-4, .rtol = 1e-4};

LoraMatrices change(int64_t out, int64_t in, int64_t rank, int seed) {
  return {.down = noise({rank, in}, seed), .up = noise({out, rank}, seed + 1)};
}

int64_t row_of(const std::string& name) {
  const std::vector<std::string>& names = column_feature_names();
  const auto found = std::ranges::find(names, name);
  EXPECT_NE(found, names.end()) << name;
  return found - names.begin();
}

/// The rows that are told of columns and layers, from whole changes in double precision.
std::map<std::string, Tensor> literal_features(const LoraMatrices& subject,
                                               const LoraMatrices& style) {
  const auto whole = [](const LoraMatrices& m) { return m.up.matmul(m.down).to(at::kDouble); };
  const Tensor s = whole(subject), t = whole(style);
  const auto pinv = [](const Tensor& x) { return at::linalg_pinv(x, /*rcond=*/1e-5); };
  const auto squares = [](const Tensor& x) { return x.pow(2).sum(0); };
  const auto log_norm = [&](const Tensor& x) {
    return (squares(x) / squares(x).mean()).log().clamp(-4, 4) / 2;
  };
  const auto rows = [&](const Tensor& x) { return pinv(x).matmul(x); };
  const auto columns = [&](const Tensor& x) { return x.matmul(pinv(x)); };
  const auto leverage = [&](const Tensor& x) {
    const Tensor diagonal = rows(x).diagonal();
    return (diagonal / diagonal.mean()).log().clamp(-4, 4);
  };
  const double rank = static_cast<double>(std::min(subject.down.size(0), style.down.size(0)));
  return {{"subject norm", log_norm(s)},
          {"style norm", log_norm(t)},
          {"cosine", at::cosine_similarity(s, t, 0)},
          {"subject in style's columns", squares(columns(t).matmul(s)) / squares(s)},
          {"style in subject's columns", squares(columns(s).matmul(t)) / squares(t)},
          {"leverage in style's rows", leverage(t)},
          {"leverage in subject's rows", leverage(s)},
          {"norm ratio", (s.norm() / t.norm()).log().clamp(-4, 4)},
          {"layer cosine", (s * t).sum() / (s.norm() * t.norm())},
          {"row overlap", rows(s).matmul(rows(t)).trace() / rank},
          {"column overlap", columns(s).matmul(columns(t)).trace() / rank}};
}

TEST(ColumnFeatures, AreThoseOfTheWholeChanges) {
  const LoraMatrices subject = change(12, 10, 3, 1), style = change(12, 10, 5, 3);
  const Tensor found = column_features(kQuery, subject, style);
  EXPECT_EQ(found.sizes(),
            (std::vector<int64_t>{static_cast<int64_t>(column_feature_names().size()), 10}));
  for (const auto& [name, wanted] : literal_features(subject, style))
    EXPECT_TRUE(is_close(found[row_of(name)],
                         wanted.to(at::kFloat).expand({found.size(1)}).contiguous(), kRounding))
        << name;
}

TEST(ColumnFeatures, TellKindAndPlaceOfTheLayer) {
  const auto flags = [](const std::string& module) {
    const Tensor found = column_features(module, change(6, 4, 1, 1), change(6, 4, 1, 3));
    std::vector<std::string> set;
    for (int64_t row = row_of("column overlap") + 1; row < found.size(0); ++row) {
      EXPECT_TRUE(at::equal(found[row], found[row][0].expand({4})));
      if (found[row][0].item<double>() == 1)
        set.push_back(column_feature_names()[static_cast<size_t>(row)]);
    }
    return set;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(flags(kQuery), (Names{"attn1.to_q", "down_blocks"}));
  EXPECT_EQ(flags("mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj"),
            (Names{"ff.net.0.proj", "mid_block"}));
  EXPECT_EQ(flags("up_blocks.1.resnets.0.conv2"), (Names{"conv2", "up_blocks"}));
  EXPECT_EQ(flags("conv_in"), Names{"other"});
}

TEST(ColumnFeatures, DoNotDependOnHowAChangeIsFactored) {
  const LoraMatrices subject = change(12, 10, 3, 1), style = change(12, 10, 4, 3);
  const Tensor mix = noise({3, 3}, 9);
  const LoraMatrices same{.down = mix.matmul(subject.down),
                          .up = subject.up.matmul(at::linalg_inv(mix))};
  EXPECT_TRUE(is_close(column_features(kQuery, same, style),
                       column_features(kQuery, subject, style), {.atol = 1e-3, .rtol = 1e-3}));
}

TEST(ColumnFeatures, OfALouderSubjectDifferInTheRatioAlone) {
  const LoraMatrices subject = change(12, 10, 3, 1), style = change(12, 10, 4, 3);
  const LoraMatrices louder{.down = subject.down * 3, .up = subject.up};
  Tensor found = column_features(kQuery, louder, style);
  const Tensor before = column_features(kQuery, subject, style);
  const int64_t ratio = row_of("norm ratio");
  EXPECT_TRUE(is_close(found[ratio], before[ratio] + std::log(3.0), kRounding));
  found[ratio] = before[ratio];
  EXPECT_TRUE(is_close(found, before, kRounding));
}

TEST(ColumnFeatures, OfEmptyAndOfDependentFactorsAreFinite) {
  LoraMatrices nothing = change(12, 10, 3, 1);
  nothing.up.zero_();
  LoraMatrices dependent = change(12, 10, 3, 3);
  dependent.down[2] = dependent.down[1];
  dependent.up.select(1, 0).zero_();
  for (const auto& [subject, style] : {std::pair{&nothing, &dependent}, {&dependent, &nothing}}) {
    const Tensor found = column_features(kQuery, *subject, *style);
    EXPECT_TRUE(at::isfinite(found).all().item<bool>());
    EXPECT_LE(found.abs().max().item<double>(), 4);
  }
}

}  // namespace
}  // namespace molar
