#include "molar/adapters/column_features.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <iterator>
#include <string_view>

namespace molar {
namespace {

constexpr double kTiny = 1e-20;  // against division by zero
constexpr double kLogLimit = 4;
constexpr double kRounding = 1e-6;  // against the mean of a Gram matrix's diagonal

constexpr const char* kColumnNames[] = {"subject norm",
                                        "style norm",
                                        "cosine",
                                        "subject in style's columns",
                                        "style in subject's columns",
                                        "leverage in style's rows",
                                        "leverage in subject's rows"};
constexpr const char* kLayerNames[] = {"norm ratio", "layer cosine", "row overlap",
                                       "column overlap"};
/// Kinds of layer, by the end of the name; a layer of none of them is "other".
constexpr std::string_view kKinds[] = {
    "attn1.to_q", "attn1.to_k", "attn1.to_v",     "attn1.to_out.0", "attn2.to_q",
    "attn2.to_k", "attn2.to_v", "attn2.to_out.0", "ff.net.0.proj",  "ff.net.2",
    "proj_in",    "proj_out",   "conv1",          "conv2"};
constexpr const char* kOther = "other";
constexpr std::string_view kPlaces[] = {"down_blocks", "mid_block", "up_blocks"};

Tensor limited_log(const Tensor& ratio) {
  return ratio.clamp_min(kTiny).log().clamp(-kLogLimit, kLogLimit);
}

/// (x^T x)^-1 of x^T x, [r, r]: what an orthogonal projection needs of a factor x. A little is
/// added to the diagonal, so that factors of lower rank do no harm.
Tensor inverse_gram(const Tensor& gram) {
  const Tensor wide = gram.to(at::kDouble);
  const Tensor ridge = wide.diagonal().mean() * kRounding + kTiny;
  return at::linalg_inv(wide + ridge * at::eye(wide.size(0), wide.options())).to(at::kFloat);
}

/// One side's Gram matrices. down: [r, in], up: [out, r].
struct Side {
  explicit Side(const LoraMatrices& matrices)
      : down(matrices.down),
        up(matrices.up),
        up_gram(at::matmul(up.t(), up)),
        up_inverse(inverse_gram(up_gram)),
        down_inverse(inverse_gram(at::matmul(down, down.t()))),
        squared_norms(quadratic(up_gram)) {}

  /// down_j^T m down_j for each column j: [in].
  Tensor quadratic(const Tensor& m) const {
    return (down * at::matmul(m, down)).sum(0).clamp_min(0);
  }

  Tensor down, up, up_gram, up_inverse, down_inverse;
  Tensor squared_norms;  // of the change's columns: [in]
};

/// Of each column of `of`, the share that lies in the column space of `in`.
Tensor column_share(const Side& of, const Side& in, const Tensor& cross) {  // cross: of.up^T in.up
  const Tensor inside = of.quadratic(at::matmul(at::matmul(cross, in.up_inverse), cross.t()));
  return (inside / (of.squared_norms + kTiny)).clamp(0, 1);
}

Tensor relative_leverage(const Side& side) {
  const Tensor leverage = side.quadratic(side.down_inverse);
  return limited_log(leverage / (leverage.mean() + kTiny));
}

Tensor relative_norm(const Side& side) {
  return limited_log(side.squared_norms / (side.squared_norms.mean() + kTiny)) / 2;
}

/// How much of the smaller space lies in the other: trace(P_a P_b) / min(rank).
Tensor overlap(const Tensor& a_inverse, const Tensor& cross, const Tensor& b_inverse) {
  const double rank = static_cast<double>(std::min(cross.size(0), cross.size(1)));
  const Tensor trace = (at::matmul(a_inverse, cross) * at::matmul(cross, b_inverse)).sum();
  return (trace / rank).clamp(0, 1);
}

std::vector<double> place_flags(const std::string& module) {
  std::vector<double> flags;
  for (const std::string_view kind : kKinds) flags.push_back(module.ends_with(kind) ? 1 : 0);
  const bool is_kind = std::ranges::find(flags, 1) != flags.end();
  flags.push_back(is_kind ? 0 : 1);
  for (const std::string_view place : kPlaces) flags.push_back(module.starts_with(place) ? 1 : 0);
  return flags;
}

}  // namespace

const std::vector<std::string>& column_feature_names() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> names(std::begin(kColumnNames), std::end(kColumnNames));
    names.insert(names.end(), std::begin(kLayerNames), std::end(kLayerNames));
    names.insert(names.end(), std::begin(kKinds), std::end(kKinds));
    names.push_back(kOther);
    names.insert(names.end(), std::begin(kPlaces), std::end(kPlaces));
    return names;
  }();
  return all;
}

Tensor column_features(const std::string& module, const LoraMatrices& subject,
                       const LoraMatrices& style) {
  const Side s(subject), t(style);
  const Tensor up_cross = at::matmul(s.up.t(), t.up);                      // [r_s, r_t]
  const Tensor down_cross = at::matmul(s.down, t.down.t());                // [r_s, r_t]
  const Tensor products = (s.down * at::matmul(up_cross, t.down)).sum(0);  // S_j . T_j
  const Tensor s_squared = s.squared_norms.sum(), t_squared = t.squared_norms.sum();
  const auto cosine = [](const Tensor& product, const Tensor& a, const Tensor& b) {
    return (product / ((a * b).sqrt() + kTiny)).clamp(-1, 1);
  };
  std::vector<Tensor> rows{relative_norm(s),
                           relative_norm(t),
                           cosine(products, s.squared_norms, t.squared_norms),
                           column_share(s, t, up_cross),
                           column_share(t, s, up_cross.t()),
                           relative_leverage(t),
                           relative_leverage(s)};
  const int64_t columns = s.down.size(1);
  const auto add = [&](const Tensor& value) { rows.push_back(value.expand({columns})); };
  add(limited_log((s_squared + kTiny) / (t_squared + kTiny)) / 2);
  add(cosine(products.sum(), s_squared, t_squared));
  // trace(P_S P_T) of orthogonal projections: (S S^T)^-1 (S T^T) against (S T^T) (T T^T)^-1.
  add(overlap(s.down_inverse, down_cross, t.down_inverse));
  add(overlap(s.up_inverse, up_cross, t.up_inverse));
  for (const double flag : place_flags(module)) add(at::scalar_tensor(flag, products.options()));
  return at::stack(rows);
}

}  // namespace molar
