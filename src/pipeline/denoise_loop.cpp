#include "molar/pipeline/denoise_loop.h"

#include <torch/torch.h>

#include <utility>

namespace molar {
namespace {

/// Along the batch. One tensor stays itself: no copy, no other layout.
Tensor joined(const std::vector<Tensor>& parts) {
  return parts.size() == 1 || !parts.front().defined() ? parts.front() : torch::cat(parts);
}

UNetConditioning joined_conditioning(const std::vector<UNetConditioning>& parts) {
  UNetConditioning all;
  for (Tensor UNetConditioning::* field :
       {&UNetConditioning::encoder_hidden_states, &UNetConditioning::text_embeds,
        &UNetConditioning::time_ids, &UNetConditioning::timestep_cond}) {
    std::vector<Tensor> tensors;
    for (const UNetConditioning& part : parts) tensors.push_back(part.*field);
    all.*field = joined(tensors);
  }
  return all;
}

}  // namespace

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

/// [branches, channels of the UNet, H, W], in its dtype.
Tensor DenoiseLoop::unet_input() const {
  Tensor input = scheduler_.scale_model_input(latents_, next_);  // [1, C, H, W]
  if (inpaint_ && inpaint_->masked_image_latents.defined())
    input = torch::cat({input, inpaint_->mask, inpaint_->masked_image_latents}, /*dim=*/1);
  return input.expand({branches(), -1, -1, -1})
      .to(conditioning_.encoder_hidden_states.scalar_type());
}

std::vector<Tensor> DenoiseLoop::evaluate_together(const std::vector<const DenoiseLoop*>& loops) {
  const DenoiseLoop& first = *loops.front();
  std::vector<Tensor> inputs, timesteps;
  std::vector<int64_t> sizes;
  std::vector<UNetConditioning> conditionings;
  for (const DenoiseLoop* loop : loops) {
    inputs.push_back(loop->unet_input());
    sizes.push_back(loop->branches());
    conditionings.push_back(loop->conditioning_);
    timesteps.push_back(
        torch::full({loop->branches()}, loop->scheduler_.timesteps()[loop->next_],
                    torch::TensorOptions().dtype(torch::kFloat32).device(loop->latents_.device())));
  }
  const Tensor output =
      first.unet_->forward(joined(inputs), joined(timesteps), joined_conditioning(conditionings))
          .to(torch::kFloat32);
  return output.split_with_sizes(sizes);
}

void DenoiseLoop::take(const Tensor& evaluation) {
  const Tensor prediction =
      branches() == 1 ? evaluation
                      : guided_prediction(evaluation.narrow(0, 0, 1), evaluation.narrow(0, 1, 1),
                                          options_.guidance_scale, options_.guidance_rescale);
  const NoiseDraw noise = [this](at::IntArrayRef shape) {
    return random_.randn(shape).to(latents_.device());
  };
  StepResult result = scheduler_.step(next_, prediction, latents_, std::move(state_), noise);
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
