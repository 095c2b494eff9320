#include "molar/models/resnet.h"

#include <gtest/gtest.h>

#include "support/expect_close.h"
#include "support/random_weights.h"

namespace molar {
namespace {

using Weights = torch::OrderedDict<std::string, Tensor>;

Tensor norm(const Tensor& x, const Weights& w, const std::string& name, double eps) {
  return at::group_norm(x, 2, w[name + ".weight"], w[name + ".bias"], eps);
}

Tensor conv(const Tensor& x, const Weights& w, const std::string& name, int64_t padding) {
  return at::conv2d(x, w[name + ".weight"], w[name + ".bias"], 1, padding);
}

// The block as diffusers' documentation of its options describes it, every step a new tensor.
Tensor literal_resnet(const Tensor& x, const Tensor& temb, const ResnetBlock2DOptions& o,
                      const Weights& w) {
  Tensor h = conv(at::silu(norm(x, w, "norm1", o.eps)), w, "conv1", 1);
  Tensor t;
  if (temb.defined())
    t = (temb.matmul(w["time_emb_proj.weight"].t()) + w["time_emb_proj.bias"])
            .unsqueeze(-1)
            .unsqueeze(-1);
  if (o.time_scale_shift == TimeScaleShift::kScaleShift) {
    const int64_t c = o.out_channels;
    h = norm(h, w, "norm2", o.eps) * (1 + t.slice(1, 0, c)) + t.slice(1, c, 2 * c);
  } else {
    h = norm(t.defined() ? h + t : h, w, "norm2", o.eps);
  }
  h = conv(at::silu(h), w, "conv2", 1);
  const bool same = o.in_channels == o.out_channels;
  return ((same ? x : conv(x, w, "conv_shortcut", 0)) + h) / o.output_scale_factor;
}

TEST(ResnetBlock2D, AgreesWithItsDefinition) {
  const std::vector<ResnetBlock2DOptions> cases = {
      {.in_channels = 4, .out_channels = 6, .temb_channels = 5, .groups = 2},
      {.in_channels = 4, .out_channels = 4, .temb_channels = 5, .groups = 2, .eps = 1e-2},
      {.in_channels = 4, .out_channels = 6, .groups = 2, .eps = 1e-6},
      {.in_channels = 4,
       .out_channels = 6,
       .temb_channels = 5,
       .groups = 2,
       .time_scale_shift = TimeScaleShift::kScaleShift,
       .output_scale_factor = 1.5},
  };
  for (const auto& options : cases) {
    ResnetBlock2D block(options);
    randomise(*block, 1);
    const Tensor x = at::randn({2, 4, 5, 3});
    const Tensor temb = options.temb_channels > 0 ? at::randn({2, 5}) : Tensor();
    const Tensor kept = x.clone(),
                 wanted = literal_resnet(x, temb, options, block->named_parameters());
    EXPECT_TRUE(is_close(block->forward(x, temb), wanted));
    EXPECT_TRUE(
        is_close(block->forward(x.contiguous(at::MemoryFormat::ChannelsLast), temb), wanted));
    EXPECT_TRUE(at::equal(x, kept));
  }
}

TEST(Downsample2D, HalvesAndRoundsUp) {
  Downsample2D down(4);
  randomise(*down, 2);
  EXPECT_EQ(down->forward(at::randn({1, 4, 9, 6})).sizes(), (std::vector<int64_t>{1, 4, 5, 3}));
}

TEST(Downsample2D, WithoutPaddingAddsZerosAtTheEndOnly) {
  Downsample2D down(2, /*padding=*/0);
  randomise(*down, 3);
  const Tensor x = at::randn({1, 2, 6, 4});
  const auto w = down->named_parameters();
  const Tensor wanted =
      at::conv2d(at::constant_pad_nd(x, {0, 1, 0, 1}), w["conv.weight"], w["conv.bias"], 2);
  EXPECT_EQ(wanted.sizes(), (std::vector<int64_t>{1, 2, 3, 2}));
  EXPECT_TRUE(is_close(down->forward(x), wanted));
}

TEST(Upsample2D, RepeatsPixelsThenConvolves) {
  Upsample2D up(2);
  randomise(*up, 4);
  const Tensor x = at::randn({1, 2, 3, 2});
  const auto w = up->named_parameters();
  const Tensor doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3);
  EXPECT_TRUE(is_close(up->forward(x, 6, 4), conv(doubled, w, "conv", 1)));
  // To an odd size: row i comes from row floor(i * 3 / 5).
  const Tensor rows =
      x.index_select(2, at::tensor({0, 0, 1, 1, 2}, at::kLong)).repeat_interleave(2, 3);
  EXPECT_TRUE(is_close(up->forward(x, 5, 4), conv(rows, w, "conv", 1)));
}

}  // namespace
}  // namespace molar
