#include "molar/pipeline/picture_codec.h"

#include <limits>

#include "pipeline_goldens.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Component tiny_vae() {
  return open_checkpoint(test::goldens() / "models/sd15-tiny", {}).component("vae");
}

/// A VAE whose decoder adds `bias` to every pixel.
Component vae_with_last_bias(double bias) {
  Component vae = tiny_vae();
  Tensor& last = vae.weights.at("decoder.conv_out.bias");
  last = at::full_like(last, bias);
  return vae;
}

Tensor decode(const Component& vae, const Tensor& latents, at::ScalarType dtype = at::kFloat,
              bool upcast = false) {
  const at::NoGradGuard no_grad;
  return PictureCodec(vae, {.compute = {.device = at::kCPU, .dtype = dtype}, .upcast = upcast})
      .decode(latents);
}

Tensor some_latents() { return RandomSource(3).randn({1, 4, 8, 8}); }

class PictureCodecGolden : public test::PipelineGolden {};
MOLAR_FOR_EVERY_PIPELINE_CASE(PictureCodecGolden);

TEST_P(PictureCodecGolden, LastLatentsAreDiffusersPicture) {
  const Checkpoint checkpoint = open_checkpoint(case_.model, {});
  const PictureCodec codec(checkpoint.component("vae"),
                           {.compute = test::kFloat32, .tiling = case_.request.vae_tiling});
  for (int64_t picture = 0; picture < case_.request.count; ++picture) {
    const Tensor& latents = case_.latents(picture);
    const Tensor pixels = codec.decode(latents.narrow(0, latents.size(0) - 1, 1));
    EXPECT_EQ(pixels.scalar_type(), at::kByte);
    EXPECT_TRUE(test::is_same_picture(pixels, case_.pixels(picture))) << "picture " << picture;
  }
}

TEST(PictureCodec, LatentsThatAreNoNumbersAreAPictureError) {
  for (const double spoiled : {kNaN, kInfinity, -kInfinity}) {
    Tensor latents = some_latents();
    latents[0][2][5][1] = spoiled;
    const auto decode_it = [&] { decode(tiny_vae(), latents); };
    expect_error<PictureError>(decode_it, {"the latents became NaN or infinite", "--dtype f32"});
  }
}

TEST(PictureCodec, PixelsThatAreNoNumbersAreAPictureError) {
  for (const double spoiled : {kNaN, kInfinity})
    for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
      const auto decode_it = [&] { decode(vae_with_last_bias(spoiled), some_latents(), dtype); };
      expect_error<PictureError>(decode_it, {"the VAE made NaN or infinite pixels", "--vae"});
    }
}

TEST(PictureCodec, APictureOfOneColourIsAPictureError) {
  for (const double bias : {1e4, -1e4}) {  // white, black
    const auto decode_it = [&] { decode(vae_with_last_bias(bias), some_latents()); };
    expect_error<PictureError>(decode_it, {"a single colour"});
  }
}

TEST(PictureCodec, HalfPrecisionThatOverflowsIsDecodedAgainInFloat32) {
  // 1e6 is infinite in float16. One channel is white then, the others stay as they were.
  Component vae = tiny_vae();
  Tensor& bias = vae.weights.at("decoder.conv_out.bias");
  bias = bias.clone();
  bias[1] = 1e6;
  const Tensor exact = decode(vae, some_latents());
  EXPECT_TRUE(exact.select(2, 1).eq(255).all().item<bool>());
  EXPECT_TRUE(decode(vae, some_latents(), at::kHalf).equal(exact));
}

TEST(PictureCodec, UpcastDecodesInFloat32WhateverTheModelsComputeIn) {
  const Tensor exact = decode(tiny_vae(), some_latents());
  EXPECT_FALSE(decode(tiny_vae(), some_latents(), at::kBFloat16).equal(exact));
  EXPECT_TRUE(decode(tiny_vae(), some_latents(), at::kBFloat16, /*upcast=*/true).equal(exact));
}

TEST(PictureCodec, EncodesInFloat32WhateverTheModelsComputeIn) {
  const at::NoGradGuard no_grad;
  const Component vae = tiny_vae();
  const Tensor image = RandomSource(4).randn({1, 3, 64, 64}).clamp(-1, 1), noise = some_latents();
  const PictureCodec exact(vae, {.compute = test::kFloat32});
  const PictureCodec half(vae, {.compute = {.device = at::kCPU, .dtype = at::kHalf}});
  EXPECT_TRUE(half.encode(image, noise).equal(exact.encode(image, noise)));
}

}  // namespace
}  // namespace molar
