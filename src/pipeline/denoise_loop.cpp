#include "molar/pipeline/denoise_loop.h"

#include <torch/torch.h>

#include <utility>

namespace molar {

Tensor guided_prediction(const Tensor& negative, const Tensor& prompt, double scale,
                         double rescale) {
  const Tensor guided = negative + scale * (prompt - negative);
  if (rescale == 0.0) return guided;
  const auto deviation = [](const Tensor& t) {
    return t.std({1, 2, 3}, /*unbiased=*/true, /*keepdim=*/true);
  };
  const Tensor rescaled = guided * (deviation(prompt) / deviation(guided));
  return rescale * rescaled + (1.0 - rescale) * guided;
}

DenoiseLoop::DenoiseLoop(UNet2DConditionModel unet, const Scheduler& scheduler,
                         UNetConditioning conditioning, const DenoiseOptions& options,
                         Tensor latents, std::optional<InpaintInputs> inpaint, RandomSource& random)
    : unet_(std::move(unet)),
      scheduler_(scheduler),
      conditioning_(std::move(conditioning)),
      options_(options),
      latents_(std::move(latents)),
      inpaint_(std::move(inpaint)),
      random_(random),
      next_(options.first_evaluation) {}

Tensor DenoiseLoop::predict() {
  const int64_t branches = conditioning_.encoder_hidden_states.size(0);
  Tensor input = scheduler_.scale_model_input(latents_, next_);  // [1, C, H, W]
  if (inpaint_ && inpaint_->masked_image_latents.defined())
    input = torch::cat({input, inpaint_->mask, inpaint_->masked_image_latents}, /*dim=*/1);
  input =
      input.expand({branches, -1, -1, -1}).to(conditioning_.encoder_hidden_states.scalar_type());
  const Tensor timesteps =
      torch::full({branches}, scheduler_.timesteps()[next_],
                  torch::TensorOptions().dtype(torch::kFloat32).device(latents_.device()));
  const Tensor output = unet_->forward(input, timesteps, conditioning_).to(torch::kFloat32);
  if (branches == 1) return output;
  return guided_prediction(output.narrow(0, 0, 1), output.narrow(0, 1, 1), options_.guidance_scale,
                           options_.guidance_rescale);
}

void DenoiseLoop::advance() {
  const NoiseDraw noise = [this](at::IntArrayRef shape) {
    return random_.randn(shape).to(latents_.device());
  };
  StepResult result = scheduler_.step(next_, predict(), latents_, std::move(state_), noise);
  latents_ = std::move(result.sample);
  state_ = std::move(result.state);
  ++next_;
  if (inpaint_ && inpaint_->image_latents.defined()) keep_unmasked();
}

void DenoiseLoop::keep_unmasked() {
  const Tensor kept = done()
                          ? inpaint_->image_latents
                          : scheduler_.add_noise(inpaint_->image_latents, inpaint_->noise, next_);
  latents_ = (1.0 - inpaint_->mask) * kept + inpaint_->mask * latents_;
}

}  // namespace molar
