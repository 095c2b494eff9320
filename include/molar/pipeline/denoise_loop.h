/// The sampling loop: one UNet call and one scheduler step per evaluation, every latent visible.
#pragma once

#include <optional>
#include <vector>

#include "molar/core/random.h"
#include "molar/models/unet_2d_condition.h"
#include "molar/schedulers/scheduler.h"

namespace molar {

/// Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, eq. 6), then the rescaling of
/// Lin et al. 2023 (arXiv:2305.08891, eq. 14-16) by `rescale` in [0, 1].
/// negative, prompt: [1, C, H, W]. Returns the same shape.
Tensor guided_prediction(const Tensor& negative, const Tensor& prompt, double scale,
                         double rescale);

/// What inpainting adds. All [1, ., H, W] in latent size, float32.
struct InpaintInputs {
  Tensor mask;                  ///< [1, 1, H, W]: 1 where the picture is drawn anew
  Tensor masked_image_latents;  ///< 9-channel UNets only: concatenated to the input
  Tensor image_latents,
      noise;  ///< 4-channel UNets only: the kept part is blended in after each step
};

struct DenoiseOptions {
  double guidance_scale = 7.5;  ///< acts where `conditioning` has two rows: negative, prompt
  double guidance_rescale = 0.0;
  size_t first_evaluation = 0;  ///< img2img starts later
};

/// Denoises one picture. Call order: (advance | evaluate -> take)* until done.
class DenoiseLoop {
 public:
  /// latents: [1, C, H, W], float32, already at the noise level of the first evaluation.
  /// conditioning: batch 1 (no guidance) or 2 (negative first). References must outlive the loop.
  DenoiseLoop(UNet2DConditionModel unet, const Scheduler& scheduler, UNetConditioning conditioning,
              const DenoiseOptions& options, Tensor latents, std::optional<InpaintInputs> inpaint,
              RandomSource& random);

  /// Of all evaluations of the schedule; img2img starts above 0.
  double share_done() const {
    return static_cast<double>(next_) / static_cast<double>(scheduler_.timesteps().size());
  }
  bool done() const { return next_ == scheduler_.timesteps().size(); }
  /// One model evaluation and the step after it.
  void advance() { take(evaluate()); }
  /// The model evaluation alone: [branches, C, H, W], float32.
  Tensor evaluate() const { return evaluate_together({this}).front(); }
  /// The evaluations of several pictures as one call of the UNet: all of one UNet, one size, and
  /// as long prompts. Each picture's result is evaluate()'s, up to the rounding of kernels that
  /// depend on the number of rows.
  static std::vector<Tensor> evaluate_together(const std::vector<const DenoiseLoop*>& loops);
  /// The step after an evaluation.
  void take(const Tensor& evaluation);
  /// [1, C, H, W], float32, on the UNet's device.
  const Tensor& latents() const { return latents_; }
  /// Of what the UNet attends to: [branches, L, D].
  at::IntArrayRef context_shape() const { return conditioning_.encoder_hidden_states.sizes(); }

 private:
  Tensor unet_input() const;
  int64_t branches() const { return conditioning_.encoder_hidden_states.size(0); }
  void keep_unmasked();

  mutable UNet2DConditionModel unet_;  // its calls are not const
  const Scheduler& scheduler_;
  UNetConditioning conditioning_;
  DenoiseOptions options_;
  Tensor latents_;
  std::optional<InpaintInputs> inpaint_;
  RandomSource& random_;
  size_t next_;
  StepState state_;
};

}  // namespace molar
