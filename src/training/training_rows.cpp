#include "training_rows.h"

#include <torch/torch.h>

#include <utility>

namespace molar {
namespace {

/// The latents' distributions of all rows, [B, C, h, w] each; mirrored where `mirror` (bool [B], or
/// undefined) says so.
LatentDistribution stacked(const std::vector<TrainingRow>& rows, const Tensor& mirror) {
  std::vector<Tensor> means, logvars;
  for (size_t i = 0; i < rows.size(); ++i) {
    const PictureLatents& latents = *rows[i].latents;
    const bool flipped = mirror.defined() && mirror[static_cast<int64_t>(i)].item<bool>();
    means.push_back(flipped ? latents.flipped_mean : latents.mean);
    logvars.push_back(flipped ? latents.flipped_logvar : latents.logvar);
  }
  return {torch::stack(means), torch::stack(logvars)};
}

}  // namespace

std::vector<std::string> captions_of(const std::vector<TrainingPicture>& pictures) {
  std::vector<std::string> captions;
  for (const TrainingPicture& picture : pictures) captions.push_back(picture.caption);
  return captions;
}

PictureSet::PictureSet(std::vector<PictureLatents> latents, std::vector<std::string> captions,
                       EpochOrder order)
    : latents_(std::move(latents)), captions_(std::move(captions)), order_(std::move(order)) {}

std::vector<TrainingRow> PictureSet::rows(int64_t pass, int64_t batch_size) {
  std::vector<TrainingRow> rows;
  for (const int64_t i : order_.batch(pass, batch_size)) {
    const auto at = static_cast<size_t>(i);
    rows.push_back({&latents_[at], &captions_[at]});
  }
  return rows;
}

NoisyRows NoisyRows::narrow(int64_t first, int64_t count) const {
  return {latents.narrow(0, first, count), noise.narrow(0, first, count),
          noisy.narrow(0, first, count), timesteps.narrow(0, first, count)};
}

NoisyRows draw_noisy_rows(const std::vector<TrainingRow>& rows, bool flip, AutoencoderKL scaling,
                          const NoiseObjective& objective, at::Device device,
                          RandomSource& random) {
  const auto num_rows = static_cast<int64_t>(rows.size());
  Tensor mirror;
  if (flip) mirror = random.uniform({num_rows}, 0, 1) < 0.5;
  const LatentDistribution distribution = stacked(rows, mirror);
  const at::IntArrayRef shape = distribution.mean.sizes();
  NoisyRows noisy;
  noisy.latents = scaling->to_scaled_latents(distribution.sample(random.randn(shape)));
  noisy.noise = random.randn(shape).to(device);
  noisy.timesteps = random.randint(objective.num_train_timesteps(), {num_rows}).to(device);
  noisy.noisy = objective.add_noise(noisy.latents, noisy.noise, noisy.timesteps);
  return noisy;
}

}  // namespace molar
