#include "molar/pipeline/denoise_loop.h"

#include <cmath>

#include "pipeline_goldens.h"

namespace molar {
namespace {

using test::CaseSchedule;
using test::LoadedModel;

// Latents are of size 1 to 70. Guidance multiplies the UNet's rounding by its scale at every step;
// other processors end within 1e-4 of each other.
constexpr Tolerance kRoundingGrownByGuidance{.atol = 2e-3, .rtol = 1e-3};

/// A loop over a case's own golden conditioning and start, so that only the loop can be wrong.
struct CaseLoop {
  LoadedModel model;
  CaseSchedule schedule;
  RandomSource random;
  DenoiseLoop loop;

  CaseLoop(const test::PipelineCase& c, int64_t picture)
      : model(fused(c)),
        schedule(model.checkpoint, c.request),
        random(c.seed(picture)),
        loop(model.unet, *schedule.scheduler, conditioning(c),
             {.guidance_scale = c.request.guidance_scale,
              .guidance_rescale = c.request.guidance_rescale,
              .first_evaluation = schedule.first_evaluation},
             c.latents(picture).narrow(0, 0, 1), inpaint(c), random) {
    // Stochastic samplers go on where the start's noise ended; the goldens have them only from
    // noise.
    random.randn(c.latents(picture).narrow(0, 0, 1).sizes());
  }

  static LoadedModel fused(const test::PipelineCase& c) {
    LoadedModel model(c.model);
    model.fuse(c.request.adapters);
    return model;
  }
  static Tensor part(const test::PipelineCase& c, const std::string& name) {
    const auto found = c.golden.find(name);
    return found == c.golden.end() ? Tensor() : found->second;
  }
  static UNetConditioning conditioning(const test::PipelineCase& c) {
    UNetConditioning conditioning;
    conditioning.encoder_hidden_states = part(c, "encoder_hidden_states");
    conditioning.text_embeds = part(c, "text_embeds");
    conditioning.time_ids = part(c, "time_ids");
    return conditioning;
  }
  static std::optional<InpaintInputs> inpaint(const test::PipelineCase& c) {
    if (c.request.mask.empty()) return std::nullopt;
    return InpaintInputs{.mask = part(c, "mask"),
                         .masked_image_latents = part(c, "masked_image_latents"),
                         .image_latents = part(c, "image_latents"),
                         .noise = part(c, "noise")};
  }
};

class DenoiseLoopGolden : public test::PipelineGolden {};
MOLAR_FOR_EVERY_PIPELINE_CASE(DenoiseLoopGolden);

TEST_P(DenoiseLoopGolden, LatentsAreThoseOfDiffusersAfterEveryEvaluation) {
  for (int64_t picture = 0; picture < case_.request.count; ++picture) {
    const Tensor& wanted = case_.latents(picture);
    CaseLoop c(case_, picture);
    for (int64_t i = 1; i < wanted.size(0); ++i) {
      ASSERT_FALSE(c.loop.done()) << "after " << i - 1 << " of " << wanted.size(0) - 1;
      c.loop.advance();
      ASSERT_TRUE(is_close(c.loop.latents(), wanted.narrow(0, i, 1), kRoundingGrownByGuidance))
          << "picture " << picture << ", after evaluation " << i;
    }
    EXPECT_TRUE(c.loop.done());
  }
}

TEST(DenoiseLoop, InpaintingKeepsWhatTheMaskLeavesOut) {
  const at::NoGradGuard no_grad;
  const test::PipelineCase blended = test::pipeline_case("sdxl_inpaint_0_6_by_blending");
  CaseLoop c(blended, 0);
  const InpaintInputs inpaint = *CaseLoop::inpaint(blended);
  const Tensor kept = (inpaint.mask == 0).expand_as(c.loop.latents());
  ASSERT_TRUE(kept.any().item<bool>() && !kept.all().item<bool>());
  size_t next = c.schedule.first_evaluation;
  while (!c.loop.done()) {
    c.loop.advance();
    ++next;
    const Tensor wanted =
        c.loop.done() ? inpaint.image_latents
                      : c.schedule.scheduler->add_noise(inpaint.image_latents, inpaint.noise, next);
    EXPECT_TRUE(c.loop.latents().masked_select(kept).equal(wanted.masked_select(kept)))
        << "before evaluation " << next;
    EXPECT_FALSE(c.loop.latents().masked_select(~kept).equal(wanted.masked_select(~kept)));
  }
}

Tensor noise(uint64_t seed) { return RandomSource(seed).randn({1, 4, 6, 5}); }

TEST(GuidedPrediction, GoesFromTheNegativeThroughThePrompt) {
  const Tensor negative = noise(1), prompt = noise(2);
  const Tensor guided = guided_prediction(negative, prompt, 7.5, 0.0);
  const Tensor flat = guided.flatten(), n = negative.flatten(), p = prompt.flatten();
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const auto from = n[i].item<double>(), to = p[i].item<double>();
    EXPECT_NEAR(flat[i].item<double>(), from + 7.5 * (to - from), 1e-5);
  }
  EXPECT_TRUE(is_close(guided_prediction(negative, prompt, 1.0, 0.0), prompt));
  EXPECT_TRUE(guided_prediction(negative, prompt, 0.0, 0.0).equal(negative));
}

/// The unbiased deviation of all values, from its definition.
double deviation(const Tensor& t) {
  const Tensor values = t.flatten().to(at::kDouble);
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < values.numel(); ++i) sum += values[i].item<double>();
  const double mean = sum / static_cast<double>(values.numel());
  for (int64_t i = 0; i < values.numel(); ++i)
    squares += std::pow(values[i].item<double>() - mean, 2);
  return std::sqrt(squares / static_cast<double>(values.numel() - 1));
}

TEST(GuidedPrediction, RescalingBringsThePromptsDeviationBack) {
  const Tensor negative = noise(1), prompt = noise(2);
  const Tensor guided = guided_prediction(negative, prompt, 7.5, 0.0);
  const double factor = deviation(prompt) / deviation(guided);
  ASSERT_LT(factor, 0.5);
  for (const double rescale : {0.25, 0.7, 1.0})
    EXPECT_TRUE(is_close(guided_prediction(negative, prompt, 7.5, rescale),
                         guided * (rescale * factor + 1.0 - rescale)))
        << rescale;
  EXPECT_NEAR(deviation(guided_prediction(negative, prompt, 7.5, 1.0)), deviation(prompt), 1e-5);
}

}  // namespace
}  // namespace molar
