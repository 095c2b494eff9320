#include "molar/pipeline/initial_latents.h"

#include "molar/io/image.h"
#include "pipeline_goldens.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::CaseSchedule;
using test::expect_error;

// Noise is exact but for the starting sigma's last bit; pictures pass a VAE encoder in float32.
constexpr Tolerance kOneEncoder{.atol = 1e-4, .rtol = 1e-4};

class InitialLatentsGolden : public test::PipelineGolden {};
MOLAR_FOR_EVERY_PIPELINE_CASE(InitialLatentsGolden);

TEST_P(InitialLatentsGolden, SamplingStartsWhereDiffusersStarts) {
  const Checkpoint checkpoint = open_checkpoint(case_.model, {});
  const CaseSchedule schedule(checkpoint, case_.request);
  const PictureCodec codec(checkpoint.component("vae"),
                           {.compute = test::kFloat32, .tiling = case_.request.vae_tiling});
  const SourcePictures pictures = read_source_pictures(case_.request);
  for (int64_t picture = 0; picture < case_.request.count; ++picture) {
    const Tensor wanted = case_.latents(picture).narrow(0, 0, 1);
    RandomSource random(case_.seed(picture));
    const InitialLatents initial = make_initial_latents(
        case_.request, pictures, *schedule.scheduler, codec,
        {.shape = wanted.sizes().vec(),
         .unet_channels = checkpoint.component("unet").config.at("in_channels").get<int64_t>(),
         .first_evaluation = schedule.first_evaluation},
        random);
    EXPECT_TRUE(is_close(initial.latents, wanted, kOneEncoder)) << "picture " << picture;
    ASSERT_EQ(initial.inpaint.has_value(), case_.golden.contains("mask"));
    if (!initial.inpaint) continue;
    const std::pair<const char*, const Tensor&> parts[] = {
        {"mask", initial.inpaint->mask},
        {"masked_image_latents", initial.inpaint->masked_image_latents},
        {"image_latents", initial.inpaint->image_latents},
        {"noise", initial.inpaint->noise}};
    for (const auto& [name, part] : parts) {
      ASSERT_EQ(part.defined(), case_.golden.contains(name)) << name;
      if (!part.defined()) continue;
      EXPECT_TRUE(is_close(part, case_.golden.at(name), kOneEncoder)) << name;
    }
  }
}

TEST(InitialLatents, NoiseIsTheSeedsAtTheFirstSigma) {
  const test::PipelineCase c = test::pipeline_case("sdxl_negative_prompts_and_prompt_2");
  const Checkpoint checkpoint = open_checkpoint(c.model, {});
  const CaseSchedule schedule(checkpoint, c.request);
  const PictureCodec codec(checkpoint.component("vae"), {.compute = test::kFloat32});
  RandomSource random(7);
  const InitialLatents initial = make_initial_latents(c.request, {}, *schedule.scheduler, codec,
                                                      {.shape = {1, 4, 8, 9}}, random);
  ASSERT_GT(schedule.scheduler->init_noise_sigma(), 2.0);
  EXPECT_TRUE(initial.latents.equal(RandomSource(7).randn({1, 4, 8, 9}) *
                                    schedule.scheduler->init_noise_sigma()));
}

TEST(SourcePictures, AreReadWhereTheRequestNamesThem) {
  GenerationRequest request;
  EXPECT_FALSE(read_source_pictures(request).image.defined());
  request.init_image = test::goldens() / "pipeline/pictures/large.png";
  request.mask = test::goldens() / "pipeline/pictures/disc.png";
  const SourcePictures pictures = read_source_pictures(request);
  EXPECT_TRUE(pictures.image.equal(read_image(request.init_image)));
  EXPECT_TRUE(pictures.mask.equal(read_mask(request.mask)));
  const test::TempFolder folder;
  request.init_image = folder / "absent.png";
  expect_error<InputError>([&] { read_source_pictures(request); }, {"absent.png"});
}

}  // namespace
}  // namespace molar
