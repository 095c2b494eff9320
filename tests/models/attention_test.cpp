#include "molar/models/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "molar/models/transformer_2d.h"
#include "support/expect_close.h"
#include "support/random_weights.h"

namespace molar {
namespace {

// The definition, head by head, in float64.
Tensor literal_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads,
                         const Tensor& mask = {}) {
  const int64_t dim_head = q.size(2) / heads;
  std::vector<Tensor> outputs;
  for (int64_t h = 0; h < heads; ++h) {
    const auto head = [&](const Tensor& x) {
      return x.slice(2, h * dim_head, (h + 1) * dim_head).to(at::kDouble);
    };
    Tensor scores =
        head(q).matmul(head(k).transpose(1, 2)) / std::sqrt(static_cast<double>(dim_head));
    if (mask.defined()) scores = scores + mask;
    outputs.push_back(scores.softmax(-1).matmul(head(v)));
  }
  return at::cat(outputs, 2);
}

// With autograd ATen's kernel, without it our own, which takes the queries in parts: with 5000 keys
// 209 queries at a time, so that 230 queries make a whole part and a rest.
TEST(MultiHeadAttention, AgreesWithItsDefinition) {
  struct Sizes {
    int64_t queries, keys, heads;
  };
  torch::manual_seed(1);
  for (const bool recording : {true, false}) {
    const c10::AutoGradMode mode(recording);
    for (const auto& [queries, keys, heads] :
         {Sizes{7, 5, 1}, {7, 5, 3}, {7, 5, 4}, {1, 1, 2}, {230, 5000, 3}, {300, 300, 4}}) {
      const Tensor q = at::randn({2, queries, 12}), k = 3 * at::randn({2, keys, 12});
      const Tensor v = at::randn({2, keys, 12});
      EXPECT_TRUE(is_close(multi_head_attention(q, k, v, heads), literal_attention(q, k, v, heads)))
          << queries << " queries, " << keys << " keys, recording: " << recording;
    }
  }
}

TEST(MultiHeadAttention, AddsTheMaskToTheScores) {
  torch::manual_seed(2);
  const Tensor q = at::randn({1, 4, 6}), k = at::randn({1, 4, 6}), v = at::randn({1, 4, 6});
  const Tensor causal = at::full({4, 4}, -INFINITY).triu(1);
  const Tensor out = multi_head_attention(q, k, v, 2, causal);
  EXPECT_TRUE(is_close(out, literal_attention(q, k, v, 2, causal)));
  EXPECT_TRUE(is_close(out[0][0], v[0][0]));  // the first token sees itself alone
}

TEST(Attention, ProjectsAttendsAndProjectsBack) {
  Attention attention(
      AttentionOptions{.query_dim = 6, .context_dim = 10, .heads = 2, .dim_head = 4});
  randomise(*attention, 3);
  EXPECT_EQ(attention->named_parameters().keys(),
            (std::vector<std::string>{"to_q.weight", "to_k.weight", "to_v.weight",
                                      "to_out.0.weight", "to_out.0.bias"}));
  const Tensor x = at::randn({2, 3, 6}), context = at::randn({2, 5, 10});
  const auto w = attention->named_parameters();
  const Tensor attended =
      literal_attention(x.matmul(w["to_q.weight"].t()), context.matmul(w["to_k.weight"].t()),
                        context.matmul(w["to_v.weight"].t()), 2);
  const Tensor wanted =
      attended.matmul(w["to_out.0.weight"].t().to(at::kDouble)) + w["to_out.0.bias"];
  EXPECT_TRUE(is_close(attention->forward(x, context), wanted));
}

TEST(Attention, HasBiasesOnlyWhereAsked) {
  const Attention attention(AttentionOptions{
      .query_dim = 4, .context_dim = 4, .heads = 1, .dim_head = 4, .qkv_bias = Bias::kLearned});
  EXPECT_TRUE(attention->named_parameters().contains("to_k.bias"));
}

TEST(FeedForward, IsTheGatedUnitAndALinearLayer) {
  FeedForward ff(3);
  randomise(*ff, 4);
  EXPECT_EQ(ff->named_parameters().keys(),
            (std::vector<std::string>{"net.0.proj.weight", "net.0.proj.bias", "net.2.weight",
                                      "net.2.bias"}));
  const Tensor x = at::randn({1, 2, 3});
  const auto w = ff->named_parameters();
  const Tensor wide = x.matmul(w["net.0.proj.weight"].t()) + w["net.0.proj.bias"];
  const Tensor gate = wide.slice(2, 12, 24);
  const Tensor gelu =
      gate * 0.5 * (1 + at::erf(gate / std::sqrt(2.0)));  // exact, not the tanh form
  const Tensor wanted =
      (wide.slice(2, 0, 12) * gelu).matmul(w["net.2.weight"].t()) + w["net.2.bias"];
  EXPECT_TRUE(is_close(ff->forward(x), wanted));
}

TEST(BasicTransformerBlock, OfZeroOutputWeightsIsTheIdentity) {
  BasicTransformerBlock block(
      BasicTransformerBlockOptions{.heads = 2, .dim_head = 4, .cross_attention_dim = 6});
  randomise(*block, 5);
  for (const auto& parameter : block->named_parameters())
    if (parameter.key().find("to_out") != std::string::npos ||
        parameter.key().starts_with("ff.net.2"))
      parameter.value().zero_();
  const Tensor x = at::randn({2, 3, 8});
  EXPECT_TRUE(at::equal(block->forward(x.clone(), at::randn({2, 5, 6})), x));
}

TEST(BasicTransformerBlock, ReadsTheTextTwiceWhenOnlyCrossAttending) {
  BasicTransformerBlock block(BasicTransformerBlockOptions{
      .heads = 2, .dim_head = 4, .cross_attention_dim = 6, .only_cross_attention = true});
  randomise(*block, 6);
  EXPECT_EQ(block->named_parameters()["attn1.to_k.weight"].size(1), 6);
  // Without self-attention no token sees another: permuting tokens permutes the result.
  const Tensor x = at::randn({1, 4, 8}), text = at::randn({1, 5, 6});
  const Tensor order = at::tensor({2, 0, 3, 1}, at::kLong);
  EXPECT_TRUE(is_close(block->forward(x.index_select(1, order), text),
                       block->forward(x.clone(), text).index_select(1, order)));
}

TEST(Transformer2DModel, GivesTheSameForLinearAndConvolutionProjections) {
  const auto make = [](bool linear) {
    return Transformer2DModel(Transformer2DOptions{.channels = 8,
                                                   .heads = 2,
                                                   .cross_attention_dim = 6,
                                                   .norm_num_groups = 4,
                                                   .use_linear_projection = linear});
  };
  Transformer2DModel conv = make(false), linear = make(true);
  randomise(*conv, 7);
  const auto weights = conv->named_parameters();
  EXPECT_EQ(weights["proj_in.weight"].dim(), 4);
  for (const auto& parameter : linear->named_parameters())
    parameter.value().set_data(weights[parameter.key()].reshape(parameter.value().sizes()));
  const Tensor x = at::randn({2, 8, 3, 5}), text = at::randn({2, 4, 6});
  const Tensor out = conv->forward(x, text);
  EXPECT_TRUE(is_close(linear->forward(x, text), out));
  EXPECT_TRUE(is_close(conv->forward(x.contiguous(at::MemoryFormat::ChannelsLast), text), out));
}

}  // namespace
}  // namespace molar
