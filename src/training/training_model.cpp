#include "training_model.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include "molar/core/error.h"
#include "molar/models/model_fit.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"

namespace molar {
namespace {

constexpr const char* kUNet = "unet";

AutoencoderKLConfig vae_config(const Checkpoint& checkpoint) {
  return AutoencoderKLConfig::from_json(checkpoint.component("vae").config, "vae/config.json");
}

void check_fit(const Checkpoint& checkpoint, const CaptionEncoder& captions) {
  const auto unet =
      UNet2DConditionConfig::from_json(checkpoint.component(kUNet).config, "unet/config.json");
  const int64_t channels = vae_config(checkpoint).latent_channels;
  if (unet.in_channels != channels)
    throw FileError(
        fmt::format("'{}': the UNet has {} input channels, an inpainting model; wanted one that "
                    "reads {} channels of latents",
                    checkpoint.path.string(), unet.in_channels, channels));
  std::vector<CLIPTextConfig> text_configs;
  for (const std::string& name : text_encoder_names(checkpoint.family))
    text_configs.push_back(captions.encoder(name)->config());
  check_parts_fit(unet, text_configs);
}

}  // namespace

TrainingModel::TrainingModel(const Checkpoint& checkpoint, const TrainingModelOptions& options,
                             const std::vector<std::string>& captions, ProgressSink& progress,
                             const CancellationToken& cancellation)
    : checkpoint_(checkpoint),
      options_(options),
      scaling_(vae_config(checkpoint)),
      captions_(checkpoint, options.compute, captions),
      objective_(SchedulerConfig::from_json(checkpoint.scheduler_config,
                                            "scheduler/scheduler_config.json"),
                 options.min_snr_gamma, options.compute.device) {
  check_fit(checkpoint, captions_);
  if (!options.trains_text) captions_.freeze(progress, cancellation);
}

void TrainingModel::load_unet() {
  unet_ = molar::load_unet(checkpoint_.component(kUNet), options_.compute);
  if (options_.gradient_checkpointing) unet_->set_activations(Activations::kRecomputed);
}

ModelLayers TrainingModel::layers() {
  ModelLayers layers{checkpoint_.family, {}};
  layers.components[kUNet] = adaptable_layers(*unet_);
  if (options_.trains_text)
    for (const std::string& name : text_encoder_names(checkpoint_.family))
      layers.components[name] = adaptable_layers(*captions_.encoder(name));
  return layers;
}

NoisyRows TrainingModel::draw(const std::vector<TrainingRow>& rows, bool flip,
                              RandomSource& random) const {
  return draw_noisy_rows(rows, flip, scaling_, objective_, options_.compute.device, random);
}

Tensor TrainingModel::predict(const NoisyRows& noisy, const std::vector<TrainingRow>& rows) {
  std::vector<std::string> captions;
  std::vector<Tensor> time_ids;
  for (const TrainingRow& row : rows) {
    captions.push_back(*row.caption);
    time_ids.push_back(row.latents->time_ids);
  }
  UNetConditioning conditioning = captions_.encode(captions);
  if (checkpoint_.family == ModelFamily::kSdxl) conditioning.time_ids = torch::stack(time_ids);
  return unet_->forward(noisy.noisy.to(options_.compute.dtype), noisy.timesteps, conditioning)
      .to(torch::kFloat32);
}

int64_t resolve_resolution(std::optional<int64_t> resolution_px, const Checkpoint& checkpoint) {
  const int64_t factor =
      AutoencoderKLConfig::from_json(checkpoint.component("vae").config, "vae/config.json")
          .scale_factor();
  const int64_t native =
      UNet2DConditionConfig::from_json(checkpoint.component("unet").config, "unet/config.json")
          .sample_size *
      factor;
  const int64_t side_px = resolution_px.value_or(native);
  if (side_px % factor != 0)
    throw ConfigError(
        fmt::format("--resolution {}: wanted a multiple of {}, the pixels that this model's VAE "
                    "makes one latent of",
                    side_px, factor));
  return side_px;
}

}  // namespace molar
