#include "molar/training/lora_trainer.h"

#include <fmt/format.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>
#include <optional>

#include "molar/core/error.h"
#include "molar/core/random.h"
#include "molar/models/model_fit.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"
#include "molar/training/caption_encoder.h"
#include "molar/training/learning_rate.h"
#include "molar/training/noise_objective.h"
#include "molar/training/picture_latents.h"
#include "molar/training/trainable_lora.h"
#include "molar/training/training_order.h"

namespace molar {
namespace {

constexpr const char* kUNet = "unet";

UNet2DConditionConfig unet_config(const Checkpoint& checkpoint) {
  return UNet2DConditionConfig::from_json(checkpoint.component(kUNet).config, "unet/config.json");
}

AutoencoderKLConfig vae_config(const Checkpoint& checkpoint) {
  return AutoencoderKLConfig::from_json(checkpoint.component("vae").config, "vae/config.json");
}

/// Encoded pictures, their captions and the order in which they come.
struct PictureSet {
  std::vector<PictureLatents> latents;
  std::vector<std::string> captions;
  EpochOrder order;
};

std::vector<std::string> captions_of(const std::vector<TrainingPicture>& pictures) {
  std::vector<std::string> captions;
  for (const TrainingPicture& picture : pictures) captions.push_back(picture.caption);
  return captions;
}

/// One row of a pass.
struct Row {
  const PictureLatents* latents;
  const std::string* caption;
};

/// The latents' distributions of all rows, [B, C, h, w] each; mirrored where `mirror` (bool [B], or
/// undefined) says so.
LatentDistribution stacked(const std::vector<Row>& rows, const Tensor& mirror) {
  std::vector<Tensor> means, logvars;
  for (size_t i = 0; i < rows.size(); ++i) {
    const PictureLatents& latents = *rows[i].latents;
    const bool flipped = mirror.defined() && mirror[static_cast<int64_t>(i)].item<bool>();
    means.push_back(flipped ? latents.flipped_mean : latents.mean);
    logvars.push_back(flipped ? latents.flipped_logvar : latents.logvar);
  }
  return {torch::stack(means), torch::stack(logvars)};
}

std::string state_key(const char* what, const LayerName& name, const char* factor) {
  return fmt::format("{}/{}/{}/{}", what, name.component, name.module, factor);
}

}  // namespace

class LoraTrainer::Impl {
 public:
  Impl(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
       const TrainingPictures& pictures, ProgressSink& progress,
       const CancellationToken& cancellation);

  TrainingStep advance();
  int64_t num_steps_done() const { return num_steps_done_; }
  const TrainableLora& lora() const { return *lora_; }
  StateDict state() const;
  void restore(const StateDict& state, int64_t num_steps_done);

 private:
  ModelLayers trained_layers();
  bool trains_text() const { return options_.targets.contains(LoraTarget::kTextEncoder); }
  std::vector<Row> rows_of(int64_t pass);
  double run_pass(int64_t pass);
  Tensor predict(const Tensor& noisy, const Tensor& timesteps, const std::vector<Row>& rows);
  /// Factor by its name in state().
  template <typename Visit>
  void for_each_factor(const Visit& visit) const;

  LoraTrainingOptions options_;
  const Checkpoint& checkpoint_;
  UNet2DConditionModel unet_{nullptr};
  AutoencoderKL scaling_{nullptr};  // without weights: for to_scaled_latents alone
  std::optional<CaptionEncoder> captions_;
  std::optional<PictureSet> instance_, classes_;
  NoiseObjective objective_;
  std::unique_ptr<TrainableLora> lora_;  // after the modules: detaches from them first
  std::unique_ptr<torch::optim::AdamW> optimizer_;
  int64_t num_steps_done_ = 0;
};

LoraTrainer::Impl::Impl(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                        const TrainingPictures& pictures, ProgressSink& progress,
                        const CancellationToken& cancellation)
    : options_(options),
      checkpoint_(checkpoint),
      scaling_(vae_config(checkpoint)),
      objective_(SchedulerConfig::from_json(checkpoint.scheduler_config,
                                            "scheduler/scheduler_config.json"),
                 options.min_snr_gamma, options.compute.device) {
  const UNet2DConditionConfig config = unet_config(checkpoint);
  if (config.in_channels != vae_config(checkpoint).latent_channels)
    throw FileError(fmt::format(
        "'{}': the UNet has {} input channels, an inpainting model; wanted one that "
        "reads {} channels of latents",
        checkpoint.path.string(), config.in_channels, vae_config(checkpoint).latent_channels));

  std::vector<std::string> all_captions = captions_of(pictures.instance);
  for (const std::string& caption : captions_of(pictures.classes)) all_captions.push_back(caption);
  captions_.emplace(checkpoint, options.compute, all_captions);
  std::vector<CLIPTextConfig> text_configs;
  for (const std::string& name : text_encoder_names(checkpoint.family))
    text_configs.push_back(captions_->encoder(name)->config());
  check_parts_fit(config, text_configs);
  if (!trains_text()) captions_->freeze();

  const EncodePicturesOptions encode{.side_px = resolve_resolution(options, checkpoint),
                                     .flip = options.flip,
                                     .device = options.compute.device};
  const auto prepare = [&](const std::vector<TrainingPicture>& list, RandomStream stream) {
    return PictureSet{
        encode_pictures(list, checkpoint.component("vae"), encode, progress, cancellation),
        captions_of(list), EpochOrder(options.seed, stream, static_cast<int64_t>(list.size()))};
  };
  instance_ = prepare(pictures.instance, RandomStream::kInstances);
  if (!pictures.classes.empty()) classes_ = prepare(pictures.classes, RandomStream::kClasses);

  unet_ = load_unet(checkpoint.component(kUNet), options.compute);
  if (options.gradient_checkpointing) unet_->set_activations(Activations::kRecomputed);
  lora_ = std::make_unique<TrainableLora>(trained_layers(), options);
  optimizer_ = std::make_unique<torch::optim::AdamW>(
      lora_->parameters(), torch::optim::AdamWOptions(options.learning_rate)
                               .betas({options.beta1, options.beta2})
                               .eps(options.epsilon)
                               .weight_decay(options.weight_decay));
}

ModelLayers LoraTrainer::Impl::trained_layers() {
  ModelLayers layers{checkpoint_.family, {}};
  layers.components[kUNet] = adaptable_layers(*unet_);
  if (trains_text())
    for (const std::string& name : text_encoder_names(checkpoint_.family))
      layers.components[name] = adaptable_layers(*captions_->encoder(name));
  return layers;
}

std::vector<Row> LoraTrainer::Impl::rows_of(int64_t pass) {
  std::vector<Row> rows;
  for (auto* set : {&instance_, &classes_}) {
    if (!*set) continue;
    for (const int64_t i : (*set)->order.batch(pass, options_.batch_size)) {
      const auto at = static_cast<size_t>(i);
      rows.push_back({&(*set)->latents[at], &(*set)->captions[at]});
    }
  }
  return rows;
}

Tensor LoraTrainer::Impl::predict(const Tensor& noisy, const Tensor& timesteps,
                                  const std::vector<Row>& rows) {
  std::vector<std::string> captions;
  std::vector<Tensor> time_ids;
  for (const Row& row : rows) {
    captions.push_back(*row.caption);
    time_ids.push_back(row.latents->time_ids);
  }
  UNetConditioning conditioning = captions_->encode(captions);
  if (checkpoint_.family == ModelFamily::kSdxl) conditioning.time_ids = torch::stack(time_ids);
  return unet_->forward(noisy.to(options_.compute.dtype), timesteps, conditioning)
      .to(torch::kFloat32);
}

/// Adds the pass's share to the gradients. Returns its loss.
double LoraTrainer::Impl::run_pass(int64_t pass) {
  const std::vector<Row> rows = rows_of(pass);
  const auto num_rows = static_cast<int64_t>(rows.size());
  const at::Device device = options_.compute.device;

  RandomSource random(stream_seed(options_.seed, RandomStream::kPass, pass));
  Tensor mirror;
  if (options_.flip) mirror = random.uniform({num_rows}, 0, 1) < 0.5;
  const LatentDistribution distribution = stacked(rows, mirror);
  const at::IntArrayRef shape = distribution.mean.sizes();
  const Tensor latents = scaling_->to_scaled_latents(distribution.sample(random.randn(shape)));
  const Tensor noise = random.randn(shape).to(device);
  const Tensor timesteps = random.randint(objective_.num_train_timesteps(), {num_rows}).to(device);

  const Tensor prediction =
      predict(objective_.add_noise(latents, noise, timesteps), timesteps, rows);
  const Tensor losses = objective_.row_losses(prediction, latents, noise, timesteps);
  Tensor loss = losses.narrow(0, 0, options_.batch_size).mean();
  if (classes_)
    loss = loss + options_.prior_weight *
                      losses.narrow(0, options_.batch_size, options_.batch_size).mean();
  (loss / static_cast<double>(options_.gradient_accumulation)).backward();
  return loss.item<double>();
}

TrainingStep LoraTrainer::Impl::advance() {
  const int64_t passes = options_.gradient_accumulation;
  TrainingStep step{.step = num_steps_done_ + 1,
                    .learning_rate = learning_rate_at(options_, num_steps_done_)};
  optimizer_->zero_grad();
  for (int64_t k = 0; k < passes; ++k)
    step.loss += run_pass(num_steps_done_ * passes + k) / static_cast<double>(passes);
  const double limit =
      options_.max_grad_norm > 0 ? options_.max_grad_norm : std::numeric_limits<double>::infinity();
  step.grad_norm = torch::nn::utils::clip_grad_norm_(lora_->parameters(), limit);
  if (!std::isfinite(step.loss) || !std::isfinite(step.grad_norm))
    throw PictureError(fmt::format(
        "step {}: the loss is {} and its gradient {}; a lower --learning-rate or --dtype f32 may "
        "help",
        step.step, step.loss, step.grad_norm));
  for (auto& group : optimizer_->param_groups()) group.options().set_lr(step.learning_rate);
  optimizer_->step();
  ++num_steps_done_;
  return step;
}

template <typename Visit>
void LoraTrainer::Impl::for_each_factor(const Visit& visit) const {
  for (const auto& [name, factors] : lora_->factors()) {
    visit(name, "down", factors.down);
    visit(name, "up", factors.up);
  }
}

StateDict LoraTrainer::Impl::state() const {
  StateDict state;
  for_each_factor([&](const LayerName& name, const char* factor, const Tensor& parameter) {
    state[state_key("factor", name, factor)] = parameter.detach();
    const auto found = optimizer_->state().find(parameter.unsafeGetTensorImpl());
    if (found == optimizer_->state().end()) return;  // the loss does not reach this layer
    const auto& moments = static_cast<const torch::optim::AdamWParamState&>(*found->second);
    state[state_key("exp_avg", name, factor)] = moments.exp_avg();
    state[state_key("exp_avg_sq", name, factor)] = moments.exp_avg_sq();
  });
  return state;
}

void LoraTrainer::Impl::restore(const StateDict& state, int64_t num_steps_done) {
  const torch::NoGradGuard no_grad;
  const auto own_copy = [&](const std::string& key, const Tensor& like) {
    const auto found = state.find(key);
    if (found == state.end() || found->second.sizes() != like.sizes())
      throw FileError(fmt::format("the checkpoint's '{}' is missing or not {}", key,
                                  shape_string(like.sizes())));
    return torch::empty_like(like).copy_(found->second);
  };
  for_each_factor([&](const LayerName& name, const char* factor, const Tensor& parameter) {
    parameter.copy_(own_copy(state_key("factor", name, factor), parameter));
    if (!state.contains(state_key("exp_avg", name, factor))) return;
    auto moments = std::make_unique<torch::optim::AdamWParamState>();
    moments->step(num_steps_done);
    moments->exp_avg(own_copy(state_key("exp_avg", name, factor), parameter));
    moments->exp_avg_sq(own_copy(state_key("exp_avg_sq", name, factor), parameter));
    optimizer_->state()[parameter.unsafeGetTensorImpl()] = std::move(moments);
  });
  num_steps_done_ = num_steps_done;
}

LoraTrainer::LoraTrainer(const LoraTrainingOptions& options, const Checkpoint& checkpoint,
                         const TrainingPictures& pictures, ProgressSink& progress,
                         const CancellationToken& cancellation)
    : impl_(std::make_unique<Impl>(options, checkpoint, pictures, progress, cancellation)) {}
LoraTrainer::~LoraTrainer() = default;

TrainingStep LoraTrainer::advance() { return impl_->advance(); }
int64_t LoraTrainer::num_steps_done() const { return impl_->num_steps_done(); }
LoraWeights LoraTrainer::lora() const { return impl_->lora().weights(); }
StateDict LoraTrainer::state() const { return impl_->state(); }
void LoraTrainer::restore(const StateDict& state, int64_t num_steps_done) {
  impl_->restore(state, num_steps_done);
}

int64_t LoraTrainer::num_parameters() const {
  int64_t count = 0;
  for (const Tensor& parameter : impl_->lora().parameters()) count += parameter.numel();
  return count;
}

int64_t resolve_resolution(const LoraTrainingOptions& options, const Checkpoint& checkpoint) {
  const int64_t factor = vae_config(checkpoint).scale_factor();
  const int64_t side_px =
      options.resolution_px.value_or(unet_config(checkpoint).sample_size * factor);
  if (side_px % factor != 0)
    throw ConfigError(
        fmt::format("--resolution {}: wanted a multiple of {}, the pixels that this model's VAE "
                    "makes one latent of",
                    side_px, factor));
  return side_px;
}

}  // namespace molar
