#include "molar/pipeline/stable_diffusion_pipeline.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "component_pages.h"
#include "molar/adapters/layer_skeleton.h"
#include "molar/core/error.h"
#include "molar/core/process.h"
#include "molar/io/checkpoint.h"
#include "molar/models/model_fit.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"
#include "molar/pipeline/adapter_stack.h"
#include "molar/pipeline/denoise_loop.h"
#include "molar/pipeline/initial_latents.h"
#include "molar/pipeline/mole_experts.h"
#include "molar/pipeline/picture_codec.h"
#include "molar/pipeline/text_conditioning.h"
#include "molar/schedulers/scheduler.h"

namespace molar {
namespace {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Sinusoidal embedding of guidance_scale - 1 for distilled UNets (Luo et al. 2023,
/// arXiv:2310.04378): [1, width], float32.
Tensor guidance_embedding(double guidance_scale, int64_t width) {
  const int64_t half = width / 2;
  const Tensor frequencies = torch::exp(torch::arange(half, torch::kFloat32) *
                                        (-std::log(10000.0) / static_cast<double>(half - 1)));
  const Tensor angles = (guidance_scale - 1.0) * 1000.0 * frequencies;
  Tensor embedding = torch::cat({angles.sin(), angles.cos()});
  if (width % 2 == 1) embedding = torch::constant_pad_nd(embedding, {0, 1});
  return embedding.unsqueeze(0);
}

/// model_index.json of SDXL: whether an absent negative prompt is zeros. diffusers' default is
/// true.
bool zeros_for_empty_prompt(const Json& model_index) {
  constexpr const char* kKey = "force_zeros_for_empty_prompt";
  return !model_index.contains(kKey) ||
         JsonConfig(model_index, "model_index.json").get<bool>(kKey);  // null is an error
}

/// A hypernetwork can act.
bool predicts_merge(const AdapterRequest& adapters) {
  return adapters.merge == "auto" || adapters.merge == "lorarar";
}

/// Options that would do nothing are mistakes; a negative prompt is kept for other scales, so that
/// only gets a warning. `no_guidance` says why there is none, nullopt where it acts.
void refuse_idle_options(const GenerationRequest& request,
                         const std::optional<std::string>& no_guidance) {
  const AdapterRequest& adapters = request.adapters;
  if (adapters.merge != "auto" && !(adapters.subject && adapters.style))
    throw ConfigError(fmt::format("--merge {} merges --subject and --style; wanted both, found {}",
                                  adapters.merge,
                                  adapters.subject ? "only --subject"
                                  : adapters.style ? "only --style"
                                                   : "neither"));
  const bool has_pair = adapters.subject && adapters.style;
  if (!adapters.hypernetwork.empty() && !(predicts_merge(adapters) && has_pair))
    throw ConfigError(
        fmt::format("--hypernet '{}' predicts how --subject and --style are merged; wanted both "
                    "and --merge lorarar or auto",
                    adapters.hypernetwork.string()));
  if (!adapters.coefficients.empty() && !(adapters.merge == "ziplora" && has_pair))
    throw ConfigError(
        fmt::format("--coefficients '{}' weigh --subject and --style; wanted both and --merge "
                    "ziplora",
                    adapters.coefficients.string()));
  if (!no_guidance) return;
  if (request.guidance_rescale > 0)
    throw ConfigError(fmt::format("--guidance-rescale {} corrects guidance, but there is none: {}",
                                  request.guidance_rescale, *no_guidance));
  if (!request.negative_prompt.value_or("").empty() ||
      !request.negative_prompt_2.value_or("").empty())
    spdlog::warn("the negative prompt does nothing without guidance: {}", *no_guidance);
}

}  // namespace

class StableDiffusionPipeline::Impl {
 public:
  explicit Impl(const ModelRequest& request);

  /// A request with its defaults resolved and everything that it names read and checked.
  struct Plan {
    GenerationRequest request;
    SchedulerConfig scheduler_config;
    std::unique_ptr<const Scheduler> scheduler;
    size_t first_evaluation = 0;  // img2img starts later
    AdapterStack adapters;
    MoleExperts experts;
    SourcePictures pictures;
  };
  Plan make_plan(GenerationRequest request) const;
  void draw(const Plan& plan, RunContext context, const PictureSink& sink) const;

  /// The folder of the experts: of the request, or beside the model; or that there are none.
  void resolve_experts(MoleRequest& mole) const;

  ModelFamily family() const { return checkpoint_.family; }

 private:
  bool is_sdxl() const { return checkpoint_.family == ModelFamily::kSdxl; }
  PipelineKind kind_of(const GenerationRequest& request) const {
    if (is_sdxl()) return PipelineKind::kXl;
    if (!request.mask.empty()) return PipelineKind::kInpaint;
    return request.init_image.empty() ? PipelineKind::kTextToImage : PipelineKind::kImageToImage;
  }
  bool uses_guidance(const GenerationRequest& request) const {
    return request.guidance_scale > 1.0 && !unet_config_.time_cond_proj_dim;
  }
  void resolve_sizes(GenerationRequest& request, const SourcePictures& pictures) const;
  void add_bundled_hypernetwork(AdapterRequest& adapters) const;
  void check_clip_skip(const GenerationRequest& request) const;
  WeightSource weight_source() const { return weights_from_checkpoint(checkpoint_, compute()); }
  const ComputeOptions& compute() const { return model_.compute; }
  /// A UNet with the request's LoRAs in its weights and its experts beside them.
  struct LoadedUNet {
    UNet2DConditionModel model{nullptr};
    std::unique_ptr<FusedLoras> fused;
    std::unique_ptr<SampledExperts> experts;
  };
  LoadedUNet load_adapted_unet(const Plan& plan, MapSize latents, bool record_gates) const;
  UNetConditioning condition(const Plan& plan, const CancellationToken& cancellation,
                             RunRecord& record, RunTimings& timings) const;
  /// From the first evaluation to the last. Returns latents [1, C, H, W].
  Tensor sample(const Plan& plan, const LoadedUNet& unet, const UNetConditioning& conditioning,
                InitialLatents initial, RandomSource& random, RunContext context,
                RunTimings& timings) const;
  RunRecord start_record(const Plan& plan) const;

  ModelRequest model_;
  Checkpoint checkpoint_;
  UNet2DConditionConfig unet_config_;
  AutoencoderKLConfig vae_config_;
  bool zeros_for_absent_negative_ = false;
  std::vector<CLIPTokenizer> tokenizers_;   // one per text encoder
  std::vector<std::string> encoder_names_;  // "text_encoder"[, "text_encoder_2"]
  LayerSkeleton skeleton_;                  // names and shapes for LoRA files
};

StableDiffusionPipeline::Impl::Impl(const ModelRequest& request)
    : model_(request),
      checkpoint_(open_model(request)),
      unet_config_(UNet2DConditionConfig::from_json(checkpoint_.component("unet").config,
                                                    "unet/config.json")),
      vae_config_(
          AutoencoderKLConfig::from_json(checkpoint_.component("vae").config, "vae/config.json")),
      skeleton_(checkpoint_) {
  if (unet_config_.in_channels != 4 && unet_config_.in_channels != 9)
    throw FileError(
        fmt::format("'{}': the UNet has {} input channels; wanted 4 or, for inpainting, 9",
                    request.model.string(), unet_config_.in_channels));
  zeros_for_absent_negative_ = is_sdxl() && zeros_for_empty_prompt(checkpoint_.model_index);
  encoder_names_.push_back("text_encoder");
  if (is_sdxl()) encoder_names_.push_back("text_encoder_2");
  make_vae(checkpoint_.component("vae"));  // for its checks
  for (size_t i = 0; i < encoder_names_.size(); ++i)
    tokenizers_.push_back(
        CLIPTokenizer::load(checkpoint_.tokenizers.at(i == 0 ? "tokenizer" : "tokenizer_2")));
  check_parts_fit(unet_config_, skeleton_.text_configs());
}

void StableDiffusionPipeline::Impl::resolve_sizes(GenerationRequest& request,
                                                  const SourcePictures& pictures) const {
  const int64_t native_px = unet_config_.sample_size * vae_config_.scale_factor();
  const auto resolve = [&](std::optional<int64_t>& size_px, int64_t axis) {
    if (size_px) return;
    size_px = pictures.image.defined() ? std::max<int64_t>(pictures.image.size(axis) / 8 * 8, 8)
                                       : native_px;
  };
  resolve(request.height_px, 0);
  resolve(request.width_px, 1);
}

/// hypernet.safetensors beside the model, where the request's method can use one.
void StableDiffusionPipeline::Impl::add_bundled_hypernetwork(AdapterRequest& adapters) const {
  if (!predicts_merge(adapters) || !adapters.subject || !adapters.style ||
      !adapters.hypernetwork.empty())
    return;
  const std::filesystem::path beside = model_.model / "hypernet.safetensors";
  if (std::filesystem::exists(beside)) adapters.hypernetwork = beside;
}

/// mole/ beside the model, where the request does not say otherwise; then what the record needs to
/// draw the same picture whatever lies there later.
void StableDiffusionPipeline::Impl::resolve_experts(MoleRequest& mole) const {
  const std::filesystem::path beside = model_.model / "mole";
  if (mole.folder.empty() && !mole.off && is_expert_set(beside)) mole.folder = beside;
  if (!mole.folder.empty()) return;
  if (const auto option = mole.first_option())
    throw ConfigError(
        fmt::format("--{} says how experts act, but there are none: wanted --mole "
                    "DIR, or a folder 'mole' beside the model",
                    *option));
  mole.off = true;
}

void StableDiffusionPipeline::Impl::check_clip_skip(const GenerationRequest& request) const {
  if (!request.clip_skip) return;
  const int64_t always = hidden_state_choice(is_sdxl(), 0).layers_from_end;
  for (const CLIPTextConfig& encoder : skeleton_.text_configs()) {
    const int64_t highest = encoder.num_hidden_layers - always;
    if (*request.clip_skip > highest)
      throw ConfigError(fmt::format(
          "--clip-skip {}: wanted at most {}, as '{}' has a text encoder "
          "of {} layers",
          *request.clip_skip, highest, model_.model.string(), encoder.num_hidden_layers));
  }
}

StableDiffusionPipeline::Impl::Plan StableDiffusionPipeline::Impl::make_plan(
    GenerationRequest request) const {
  request.validate();
  if (!is_sdxl() && (request.prompt_2 || request.negative_prompt_2))
    throw ConfigError(fmt::format(
        "--prompt-2 and --negative-prompt-2 need a model with two text encoders (SDXL); '{}' is {}",
        model_.model.string(), family_name(family())));
  if (unet_config_.in_channels == 9 && request.mask.empty())
    throw ConfigError(fmt::format("'{}' is an inpainting model; wanted --init-image and --mask",
                                  model_.model.string()));

  std::optional<std::string> no_guidance;
  if (!uses_guidance(request))
    no_guidance = unet_config_.time_cond_proj_dim
                      ? "the model was distilled and takes the scale as an input"
                      : fmt::format("--cfg-scale is {}, wanted above 1", request.guidance_scale);
  refuse_idle_options(request, no_guidance);
  check_clip_skip(request);

  SourcePictures pictures = read_source_pictures(request);
  if (!request.init_image.empty() && !request.strength)
    request.strength = request.mask.empty() ? 0.8 : 1.0;
  resolve_sizes(request, pictures);

  const auto own = apply_pipeline_fixes(
      SchedulerConfig::from_json(checkpoint_.scheduler_config, "scheduler/scheduler_config.json"),
      kind_of(request));
  SchedulerConfig config = request.sampler.empty() ? own : config_for_sampler(request.sampler, own);
  auto scheduler = make_scheduler(config, {.num_steps = request.num_steps, .eta = request.eta});
  const size_t first =
      request.strength ? first_evaluation(*scheduler, request.num_steps, *request.strength) : 0;
  add_bundled_hypernetwork(request.adapters);
  AdapterStack adapters(request.adapters, skeleton_.layers());
  // What "auto" stood for: the record draws the same picture whatever lies beside the model then.
  if (!adapters.merge_method().empty()) request.adapters.merge = adapters.merge_method();
  // One that does not fit was left out: the record must not name it.
  if (request.adapters.merge != "lorarar") request.adapters.hypernetwork.clear();
  resolve_experts(request.mole);
  MoleExperts experts;
  if (!request.mole.folder.empty())
    experts = MoleExperts(request.mole, skeleton_.layers(), {*request.height_px, *request.width_px},
                          {.allow_partial = request.adapters.allow_partial});
  return {std::move(request),  std::move(config),  std::move(scheduler), first,
          std::move(adapters), std::move(experts), std::move(pictures)};
}

RunRecord StableDiffusionPipeline::Impl::start_record(const Plan& plan) const {
  RunRecord record;
  record.request = plan.request;
  record.request.count = 1;
  record.model = model_;
  record.model_family = family_name(family());
  record.sampler = sampler_name(plan.scheduler_config);
  record.scheduler_class = plan.scheduler_config.class_name;
  record.merge_method = plan.adapters.merge_method();
  record.loras = plan.adapters.records();
  record.experts = plan.experts.records();
  return record;
}

/// Text encoders live only here: their memory is free again before the UNet is read.
UNetConditioning StableDiffusionPipeline::Impl::condition(const Plan& plan,
                                                          const CancellationToken& cancellation,
                                                          RunRecord& record,
                                                          RunTimings& timings) const {
  const GenerationRequest& request = plan.request;
  std::vector<TextEncoder> encoders;
  std::vector<std::unique_ptr<FusedLoras>> fused;
  {
    const Stopwatch watch;
    for (size_t i = 0; i < encoder_names_.size(); ++i) {
      CLIPTextModel encoder =
          load_text_encoder(checkpoint_.component(encoder_names_[i]), compute());
      fused.push_back(
          plan.adapters.fuse_into(encoder_names_[i], adaptable_layers(*encoder), weight_source()));
      encoders.push_back({tokenizers_[i], encoder});
    }
    timings.load_s += watch.seconds();
  }
  const Stopwatch watch;
  const TextConditioning text =
      encode_prompts(encoders, request,
                     {.is_sdxl = is_sdxl(),
                      .with_negative = uses_guidance(request),
                      .zeros_for_absent_negative = zeros_for_absent_negative_},
                     cancellation);
  timings.text_encoding_s = watch.seconds();
  fused.clear();
  encoders.clear();
  for (const std::string& name : encoder_names_) release_pages(checkpoint_.component(name));
  record.num_chunks = text.num_chunks;
  record.num_tokens = text.num_tokens;
  spdlog::info("prompt: {} tokens in {} chunk(s) of 75", text.num_tokens, text.num_chunks);

  UNetConditioning conditioning;
  conditioning.encoder_hidden_states = text.encoder_hidden_states;
  const int64_t branches = text.encoder_hidden_states.size(0);
  if (is_sdxl()) {
    conditioning.text_embeds = text.pooled;
    // original size, crop offset, target size
    conditioning.time_ids = torch::tensor({*request.height_px, *request.width_px, int64_t{0},
                                           int64_t{0}, *request.height_px, *request.width_px},
                                          torch::kFloat32)
                                .to(text.pooled.options())
                                .expand({branches, -1});
  }
  if (unet_config_.time_cond_proj_dim)
    conditioning.timestep_cond =
        guidance_embedding(request.guidance_scale, *unet_config_.time_cond_proj_dim)
            .to(text.encoder_hidden_states.options())
            .expand({branches, -1});
  return conditioning;
}

StableDiffusionPipeline::Impl::LoadedUNet StableDiffusionPipeline::Impl::load_adapted_unet(
    const Plan& plan, MapSize latents, bool record_gates) const {
  LoadedUNet unet;
  unet.model = load_unet(checkpoint_.component("unet"), compute());
  unet.fused = plan.adapters.fuse_into("unet", adaptable_layers(*unet.model), weight_source());
  unet.experts = plan.experts.attach_to(unet.model, latents, record_gates);
  return unet;
}

Tensor StableDiffusionPipeline::Impl::sample(const Plan& plan, const LoadedUNet& unet,
                                             const UNetConditioning& conditioning,
                                             InitialLatents initial, RandomSource& random,
                                             RunContext context, RunTimings& timings) const {
  DenoiseLoop loop(unet.model, *plan.scheduler, conditioning,
                   {.guidance_scale = plan.request.guidance_scale,
                    .guidance_rescale = plan.request.guidance_rescale,
                    .first_evaluation = plan.first_evaluation},
                   std::move(initial.latents), std::move(initial.inpaint), random);
  timings.first_step_s = process_age_s();
  while (!loop.done()) {
    context.cancellation.stop_here_if_requested();
    const Stopwatch watch;
    if (unet.fused) unet.fused->reach(loop.share_done());
    if (unet.experts) unet.experts->begin_evaluation(loop.share_done());
    loop.advance();
    if (unet.experts) unet.experts->end_evaluation();
    timings.step_s.push_back(watch.seconds());
    context.progress.advance();
  }
  return loop.latents();
}

void StableDiffusionPipeline::Impl::draw(const Plan& plan, RunContext context,
                                         const PictureSink& sink) const {
  // Not InferenceMode: its tensors cannot become parameters, and weights are loaded between the
  // calls.
  const torch::NoGradGuard no_grad;
  const GenerationRequest& request = plan.request;
  RunRecord record = start_record(plan);
  RunTimings shared;  // load and text, reported with the first picture
  const UNetConditioning conditioning = condition(plan, context.cancellation, record, shared);

  const PictureCodec codec(checkpoint_.component("vae"),
                           {.compute = compute(),
                            .tiling = request.vae_tiling,
                            .upcast = is_sdxl() && vae_config_.force_upcast});
  const int64_t factor = vae_config_.scale_factor();
  const InitialLatentsOptions start = {
      .shape = {1, vae_config_.latent_channels, *request.height_px / factor,
                *request.width_px / factor},
      .unet_channels = unet_config_.in_channels,
      .first_evaluation = plan.first_evaluation,
      .device = compute().device};
  const auto num_evaluations =
      static_cast<int64_t>(plan.scheduler->timesteps().size() - plan.first_evaluation);
  std::optional<LoadedUNet> unet;
  for (int64_t i = 0; i < request.count; ++i) {
    context.cancellation.stop_here_if_requested();
    RunTimings timings = std::exchange(shared, RunTimings{});
    record.request.seed = request.seed + static_cast<uint64_t>(i);
    RandomSource random(record.request.seed);
    InitialLatents initial =
        make_initial_latents(request, plan.pictures, *plan.scheduler, codec, start, random);
    if (!unet) {
      const Stopwatch watch;
      unet = load_adapted_unet(plan, {start.shape[2], start.shape[3]}, context.record_gates);
      timings.load_s += watch.seconds();
    }
    context.progress.begin(fmt::format("picture {}/{}", i + 1, request.count), num_evaluations);
    if (unet->experts) unet->experts->begin_picture();
    const Tensor latents =
        sample(plan, *unet, conditioning, std::move(initial), random, context, timings);
    context.progress.end();
    std::optional<GateTrace> gates;
    if (unet->experts) gates = unet->experts->take_trace();
    if (i + 1 == request.count) {  // the UNet's memory is free again before the largest decode
      unet.reset();
      release_pages(checkpoint_.component("unet"));
    }
    const Stopwatch watch;
    Tensor pixels = codec.decode(latents);
    timings.decode_s = watch.seconds();
    timings.peak_memory_bytes = peak_memory_bytes();
    sink({std::move(pixels), record, std::move(timings), std::move(gates)});
  }
}

StableDiffusionPipeline::StableDiffusionPipeline(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}
StableDiffusionPipeline::~StableDiffusionPipeline() = default;
StableDiffusionPipeline::StableDiffusionPipeline(StableDiffusionPipeline&&) noexcept = default;
StableDiffusionPipeline& StableDiffusionPipeline::operator=(StableDiffusionPipeline&&) noexcept =
    default;

StableDiffusionPipeline StableDiffusionPipeline::open(const ModelRequest& request) {
  return StableDiffusionPipeline(std::make_unique<Impl>(request));
}

GenerationRequest StableDiffusionPipeline::plan(const GenerationRequest& request) const {
  return impl_->make_plan(request).request;
}

bool StableDiffusionPipeline::draws_with_experts(const GenerationRequest& request) const {
  MoleRequest mole = request.mole;
  impl_->resolve_experts(mole);
  return !mole.off;
}

void StableDiffusionPipeline::generate(const GenerationRequest& request, RunContext context,
                                       const PictureSink& sink) {
  impl_->draw(impl_->make_plan(request), context, sink);
}

std::string_view StableDiffusionPipeline::family() const { return family_name(impl_->family()); }

}  // namespace molar
