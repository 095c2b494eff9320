#include "molar/pipeline/stable_diffusion_pipeline.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "component_pages.h"
#include "molar/adapters/layer_skeleton.h"
#include "molar/core/error.h"
#include "molar/core/lru_cache.h"
#include "molar/core/parallel_tasks.h"
#include "molar/core/process.h"
#include "molar/io/checkpoint.h"
#include "molar/io/hash.h"
#include "molar/models/model_fit.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"
#include "molar/pipeline/adapter_stack.h"
#include "molar/pipeline/denoise_loop.h"
#include "molar/pipeline/expert_files.h"
#include "molar/pipeline/initial_latents.h"
#include "molar/pipeline/lora_files.h"
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
  Impl(const ModelRequest& request, const PipelineOptions& options);

  /// A request with its defaults resolved and everything that it names read and checked.
  struct Plan {
    GenerationRequest request;
    SchedulerConfig scheduler_config;
    std::unique_ptr<const Scheduler> scheduler;
    size_t first_evaluation = 0;                   // img2img starts later
    std::shared_ptr<const AdapterStack> adapters;  // null until merged
    std::vector<LoraRecord> loras;
    MoleExperts experts;
    SourcePictures pictures;
  };
  /// Everything but the merge.
  Plan check(GenerationRequest request);
  Plan make_plan(GenerationRequest request);
  void draw(const Plan& plan, RunContext context, const PictureSink& sink);
  void draw_together(std::vector<Plan> plans, RunContext context, const IndexedPictureSink& sink);
  std::string model_sha256() const;

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
    std::string fused_state;  // adapters_key of what is fused
    std::unique_ptr<SampledExperts> experts;
    std::string experts_state;  // what MoleExperts' key was, and whether gates are recorded

    /// Around every call of the model; `share` of the sampling is done.
    void begin_evaluation(double share) const {
      if (fused) fused->reach(share);
      if (experts) experts->begin_evaluation(share);
    }
    void end_evaluation() const {
      if (experts) experts->end_evaluation();
    }
  };
  /// The text encoders likewise.
  struct LoadedEncoders {
    std::vector<CLIPTextModel> models;
    std::vector<std::unique_ptr<FusedLoras>> fused;
    std::string state;
  };
  /// adapters_key, empty where no LoRA acts on a text encoder.
  std::string encoder_key(const Plan& plan) const;
  std::shared_ptr<const AdapterStack> merged(const GenerationRequest& request);
  /// Loaded where `unet` (`encoders`) is empty, and made to hold the plan's LoRAs and experts.
  void prepare(LoadedUNet& unet, const Plan& plan, bool record_gates) const;
  void prepare(LoadedEncoders& encoders, const Plan& plan) const;
  TextConditioning encode(const Plan& plan, const CancellationToken& cancellation,
                          RunTimings& timings);
  UNetConditioning condition(const Plan& plan, const CancellationToken& cancellation,
                             RunRecord& record, RunTimings& timings);
  PictureCodec& codec_for(const Plan& plan, std::optional<PictureCodec>& own);
  InitialLatentsOptions start_options(const Plan& plan) const;
  static int64_t num_evaluations(const Plan& plan) {
    return static_cast<int64_t>(plan.scheduler->timesteps().size() - plan.first_evaluation);
  }
  RunRecord start_record(const Plan& plan) const;

  /// One picture on its way from noise to latents.
  struct Sampling {
    const Plan& plan;
    RandomSource random;
    DenoiseLoop loop;
    RunTimings timings;
    std::optional<GateTrace> gates;
    Sampling(const Plan& p, const LoadedUNet& unet, const UNetConditioning& conditioning,
             InitialLatents initial, RandomSource source, RunTimings so_far)
        : plan(p),
          random(std::move(source)),
          loop(unet.model, *p.scheduler, conditioning,
               {.guidance_scale = p.request.guidance_scale,
                .guidance_rescale = p.request.guidance_rescale,
                .first_evaluation = p.first_evaluation},
               std::move(initial.latents), std::move(initial.inpaint), random),
          timings(std::move(so_far)) {}
    Sampling(const Sampling&) = delete;
    Sampling& operator=(const Sampling&) = delete;
  };
  /// From the first evaluation to the last.
  static void sample(Sampling& picture, LoadedUNet& unet, RunContext context);
  void sample_together(const std::vector<Sampling*>& pictures, RunContext context);
  bool measure_batch(const std::vector<Sampling*>& pictures);

  ModelRequest model_;
  PipelineOptions options_;
  spdlog::level::level_enum chatter_;  // of what is said for every picture
  Checkpoint checkpoint_;
  UNet2DConditionConfig unet_config_;
  AutoencoderKLConfig vae_config_;
  bool zeros_for_absent_negative_ = false;
  std::vector<CLIPTokenizer> tokenizers_;   // one per text encoder
  std::vector<std::string> encoder_names_;  // "text_encoder"[, "text_encoder_2"]
  LayerSkeleton skeleton_;                  // names and shapes for LoRA files

  LoraFiles files_;
  ExpertFiles expert_files_;
  LruCache<AdapterStack> merges_;         // by adapters_key
  LruCache<TextConditioning> encodings_;  // by text and encoder_key
  // Only with keep_loaded.
  LoadedUNet unet_;
  LoadedEncoders encoders_;
  std::map<bool, PictureCodec> codecs_;         // by tiling
  std::map<std::string, bool> batch_verdicts_;  // by shapes and experts
};

StableDiffusionPipeline::Impl::Impl(const ModelRequest& request, const PipelineOptions& options)
    : model_(request),
      options_(options),
      chatter_(options.keep_loaded ? spdlog::level::debug : spdlog::level::info),
      checkpoint_(open_model(request)),
      unet_config_(UNet2DConditionConfig::from_json(checkpoint_.component("unet").config,
                                                    "unet/config.json")),
      vae_config_(
          AutoencoderKLConfig::from_json(checkpoint_.component("vae").config, "vae/config.json")),
      skeleton_(checkpoint_),
      files_(options.cache_bytes),
      expert_files_(options.cache_bytes),
      merges_(options.cache_bytes),
      encodings_(options.cache_bytes) {
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
    GenerationRequest request) {
  Plan plan = check(std::move(request));
  plan.adapters = merged(plan.request);
  return plan;
}

std::string StableDiffusionPipeline::Impl::encoder_key(const Plan& plan) const {
  return std::ranges::any_of(encoder_names_,
                             [&](const auto& name) { return plan.adapters->acts_on(name); })
             ? adapters_key(plan.request)
             : "";
}

std::shared_ptr<const AdapterStack> StableDiffusionPipeline::Impl::merged(
    const GenerationRequest& request) {
  const std::string key = adapters_key(request);
  if (auto kept = merges_.find(key)) return kept;
  auto stack = std::make_shared<const AdapterStack>(
      open_adapters(request.adapters, skeleton_.layers(), files_), skeleton_.layers());
  const int64_t bytes = stack->bytes();
  return merges_.insert(key, std::move(stack), bytes);
}

StableDiffusionPipeline::Impl::Plan StableDiffusionPipeline::Impl::check(
    GenerationRequest request) {
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
  const OpenedAdapters adapters = open_adapters(request.adapters, skeleton_.layers(), files_);
  // What "auto" stood for: the record draws the same picture whatever lies beside the model then.
  if (!adapters.merge_method.empty()) request.adapters.merge = adapters.merge_method;
  // One that does not fit was left out: the record must not name it.
  if (request.adapters.merge != "lorarar") request.adapters.hypernetwork.clear();
  resolve_experts(request.mole);
  MoleExperts experts;
  if (!request.mole.folder.empty())
    experts = MoleExperts(request.mole,
                          expert_files_.open(request.mole.folder, skeleton_.layers(),
                                             {.allow_partial = request.adapters.allow_partial}),
                          {*request.height_px, *request.width_px});
  return {std::move(request), std::move(config),  std::move(scheduler), first, nullptr,
          adapters.records(), std::move(experts), std::move(pictures)};
}

RunRecord StableDiffusionPipeline::Impl::start_record(const Plan& plan) const {
  RunRecord record;
  record.request = plan.request;
  record.request.count = 1;
  record.model = model_;
  record.model_family = family_name(family());
  record.sampler = sampler_name(plan.scheduler_config);
  record.scheduler_class = plan.scheduler_config.class_name;
  record.merge_method = plan.adapters->merge_method();
  record.loras = plan.adapters->records();
  record.experts = plan.experts.records();
  return record;
}

void StableDiffusionPipeline::Impl::prepare(LoadedEncoders& encoders, const Plan& plan) const {
  const std::string state = encoder_key(plan);
  const bool is_new = encoders.models.empty();
  if (!is_new && encoders.state == state) return;
  for (const auto& fused : encoders.fused)
    if (fused) fused->detach();
  encoders.fused.clear();
  encoders.state.clear();  // none, until all are fused
  for (size_t i = 0; i < encoder_names_.size(); ++i) {
    if (is_new)
      encoders.models.push_back(
          load_text_encoder(checkpoint_.component(encoder_names_[i]), compute()));
    encoders.fused.push_back(plan.adapters->fuse_into(
        encoder_names_[i], adaptable_layers(*encoders.models[i]), weight_source()));
  }
  encoders.state = state;
}

void StableDiffusionPipeline::Impl::prepare(LoadedUNet& unet, const Plan& plan,
                                            bool record_gates) const {
  const bool is_new = !unet.model;
  if (is_new) unet.model = load_unet(checkpoint_.component("unet"), compute());
  const std::string fused = plan.adapters->acts_on("unet") ? adapters_key(plan.request) : "";
  if (is_new || unet.fused_state != fused) {
    if (unet.fused) unet.fused->detach();
    unet.fused.reset();
    unet.fused_state.clear();
    unet.fused = plan.adapters->fuse_into("unet", adaptable_layers(*unet.model), weight_source());
    unet.fused_state = fused;
  }
  const std::string experts = fmt::format("{}{}", plan.experts.key(), record_gates ? "!" : "");
  if (is_new || unet.experts_state != experts) {
    unet.experts.reset();
    unet.experts_state.clear();
    const std::vector<int64_t> latents = start_options(plan).shape;  // [1, C, H, W]
    unet.experts = plan.experts.attach_to(unet.model, {latents[2], latents[3]}, record_gates);
    unet.experts_state = experts;
  }
}

/// Unless they are to stay, text encoders live only here: their memory is free again before the
/// UNet is read.
TextConditioning StableDiffusionPipeline::Impl::encode(const Plan& plan,
                                                       const CancellationToken& cancellation,
                                                       RunTimings& timings) {
  const GenerationRequest& request = plan.request;
  const TextConditioningOptions options{.is_sdxl = is_sdxl(),
                                        .with_negative = uses_guidance(request),
                                        .zeros_for_absent_negative = zeros_for_absent_negative_};
  const std::string key = Json{texts_key(request), options.with_negative, encoder_key(plan)}.dump();
  if (const auto kept = encodings_.find(key)) return *kept;

  LoadedEncoders own;
  LoadedEncoders& loaded = options_.keep_loaded ? encoders_ : own;
  const Stopwatch load_watch;
  prepare(loaded, plan);
  timings.load_s += load_watch.seconds();
  std::vector<TextEncoder> encoders;
  for (size_t i = 0; i < loaded.models.size(); ++i)
    encoders.push_back({tokenizers_[i], loaded.models[i]});
  const Stopwatch watch;
  TextConditioning text = encode_prompts(encoders, request, options, cancellation);
  timings.text_encoding_s = watch.seconds();
  if (!options_.keep_loaded) {
    encoders.clear();
    own = {};
    for (const std::string& name : encoder_names_) release_pages(checkpoint_.component(name));
  }
  const auto bytes = static_cast<int64_t>(text.encoder_hidden_states.nbytes() +
                                          (text.pooled.defined() ? text.pooled.nbytes() : 0));
  return *encodings_.insert(key, std::make_shared<TextConditioning>(std::move(text)), bytes);
}

UNetConditioning StableDiffusionPipeline::Impl::condition(const Plan& plan,
                                                          const CancellationToken& cancellation,
                                                          RunRecord& record, RunTimings& timings) {
  const GenerationRequest& request = plan.request;
  const TextConditioning text = encode(plan, cancellation, timings);
  record.num_chunks = text.num_chunks;
  record.num_tokens = text.num_tokens;
  spdlog::log(chatter_, "prompt: {} tokens in {} chunk(s) of 75", text.num_tokens, text.num_chunks);

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

PictureCodec& StableDiffusionPipeline::Impl::codec_for(const Plan& plan,
                                                       std::optional<PictureCodec>& own) {
  const bool tiling = plan.request.vae_tiling;
  const Component& vae = checkpoint_.component("vae");
  const PictureCodecOptions options{.compute = compute(),
                                    .tiling = tiling,
                                    .upcast = is_sdxl() && vae_config_.force_upcast,
                                    .keep_loaded = options_.keep_loaded};
  if (!options_.keep_loaded) return own.emplace(vae, options);
  return codecs_.try_emplace(tiling, vae, options).first->second;
}

InitialLatentsOptions StableDiffusionPipeline::Impl::start_options(const Plan& plan) const {
  const int64_t factor = vae_config_.scale_factor();
  return {.shape = {1, vae_config_.latent_channels, *plan.request.height_px / factor,
                    *plan.request.width_px / factor},
          .unet_channels = unet_config_.in_channels,
          .first_evaluation = plan.first_evaluation,
          .device = compute().device};
}

void StableDiffusionPipeline::Impl::sample(Sampling& picture, LoadedUNet& unet,
                                           RunContext context) {
  picture.timings.first_step_s = process_age_s();
  if (unet.experts) unet.experts->begin_picture();
  while (!picture.loop.done()) {
    context.cancellation.stop_here_if_requested();
    const Stopwatch watch;
    unet.begin_evaluation(picture.loop.share_done());
    picture.loop.advance();
    unet.end_evaluation();
    picture.timings.step_s.push_back(watch.seconds());
    context.progress.advance();
  }
  if (unet.experts) picture.gates = unet.experts->take_trace();
}

void StableDiffusionPipeline::Impl::draw(const Plan& plan, RunContext context,
                                         const PictureSink& sink) {
  // Not InferenceMode: its tensors cannot become parameters, and weights are loaded between the
  // calls.
  const torch::NoGradGuard no_grad;
  const GenerationRequest& request = plan.request;
  RunRecord record = start_record(plan);
  RunTimings shared;  // load and text, reported with the first picture
  const UNetConditioning conditioning = condition(plan, context.cancellation, record, shared);

  std::optional<PictureCodec> own_codec;
  const PictureCodec& codec = codec_for(plan, own_codec);
  std::optional<LoadedUNet> own_unet;
  if (!options_.keep_loaded) own_unet.emplace();
  for (int64_t i = 0; i < request.count; ++i) {
    context.cancellation.stop_here_if_requested();
    RunTimings timings = std::exchange(shared, RunTimings{});
    record.request.seed = request.seed + static_cast<uint64_t>(i);
    RandomSource random(record.request.seed);
    InitialLatents initial = make_initial_latents(request, plan.pictures, *plan.scheduler, codec,
                                                  start_options(plan), random);
    LoadedUNet& unet = own_unet ? *own_unet : unet_;
    const Stopwatch load_watch;
    prepare(unet, plan, context.record_gates);
    timings.load_s += load_watch.seconds();
    context.progress.begin(fmt::format("picture {}/{}", i + 1, request.count),
                           num_evaluations(plan));
    Tensor latents;
    std::optional<GateTrace> gates;
    {
      Sampling picture(plan, unet, conditioning, std::move(initial), std::move(random),
                       std::move(timings));
      sample(picture, unet, context);
      latents = picture.loop.latents();
      timings = std::move(picture.timings);
      gates = std::move(picture.gates);
    }
    context.progress.end();
    if (own_unet && i + 1 == request.count) {  // its memory is free again before the largest decode
      own_unet.reset();
      release_pages(checkpoint_.component("unet"));
    }
    const Stopwatch watch;
    Tensor pixels = codec.decode(latents);
    timings.decode_s = watch.seconds();
    timings.peak_memory_bytes = peak_memory_bytes();
    sink({std::move(pixels), record, std::move(timings), std::move(gates)});
  }
}

// Note [Bits of a batch]
// A row of a larger UNet call gets the same bits as alone only where every kernel sums in an order
// that does not depend on the number of rows. On the CPU that holds for two rows and more (guided
// pictures), not for one: products of a single row have a kernel of their own, and differ by 2e-6.
// Nobody promises either, so it is measured: the first evaluation of the first pictures of a shape
// is computed both ways and compared bit by bit. Orders of summation depend on shapes, not on
// values: what holds for one evaluation holds for all of that shape in this process. Experts that
// begin later would not be measured, and those whose gates are looked at are one picture's: they
// share nothing.

/// Advances all by one step; whether later ones may, and should, share their calls.
bool StableDiffusionPipeline::Impl::measure_batch(const std::vector<Sampling*>& pictures) {
  // On the CPU the processors' work, not the clock's time: a busy machine must not decide.
  const auto now_s = [device = compute().device] {
    if (device.is_cpu()) return process_cpu_s();
    wait_for(device);
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  std::vector<const DenoiseLoop*> loops;
  std::vector<Tensor> alone;
  double alone_s = std::numeric_limits<double>::infinity();  // the fastest: the first fills caches
  for (Sampling* picture : pictures) {
    const double start_s = now_s();
    alone.push_back(picture->loop.evaluate());
    alone_s = std::min(alone_s, now_s() - start_s);
    loops.push_back(&picture->loop);
  }
  bool same_bits = true, faster = false;
  double together_s = 0;
  for (int trial = 0; trial < 2 && same_bits && !faster; ++trial) {
    const double start_s = now_s();
    const std::vector<Tensor> together = DenoiseLoop::evaluate_together(loops);
    for (size_t i = 0; i < pictures.size(); ++i) same_bits &= together[i].equal(alone[i]);
    together_s = (now_s() - start_s) / static_cast<double>(pictures.size());
    faster = together_s < alone_s;
  }
  for (size_t i = 0; i < pictures.size(); ++i) {
    pictures[i]->loop.take(alone[i]);
    pictures[i]->timings.step_s.push_back(alone_s);
  }
  spdlog::debug("{} pictures in one UNet call: {} bits, {:.1f} ms a picture; alone {:.1f} ms",
                pictures.size(), same_bits ? "the same" : "other", together_s * 1e3, alone_s * 1e3);
  return same_bits && faster;
}

/// `pictures`: of equal shapes. Afterwards all are at the same step, or done.
void StableDiffusionPipeline::Impl::sample_together(const std::vector<Sampling*>& pictures,
                                                    RunContext context) {
  for (Sampling* picture : pictures) picture->timings.first_step_s = process_age_s();
  const auto advance_progress = [&] {
    for (size_t i = 0; i < pictures.size(); ++i) context.progress.advance();
  };
  const DenoiseLoop& first = pictures.front()->loop;
  const bool may_share =
      pictures.size() > 1 && (!unet_.experts || unet_.experts->can_share(first.share_done()));
  const std::string shape =
      fmt::format("{} of {} {}, {}", pictures.size(), shape_string(first.latents().sizes()),
                  shape_string(first.context_shape()), unet_.experts_state);
  auto verdict = batch_verdicts_.find(shape);
  if (unet_.experts) unet_.experts->begin_picture();
  if (verdict == batch_verdicts_.end() && may_share) {
    context.cancellation.stop_here_if_requested();
    unet_.begin_evaluation(first.share_done());
    verdict = batch_verdicts_.emplace(shape, measure_batch(pictures)).first;
    unet_.end_evaluation();
    advance_progress();
  }
  if (verdict == batch_verdicts_.end() || !verdict->second) {
    for (Sampling* picture : pictures) sample(*picture, unet_, context);
    return;
  }
  std::vector<const DenoiseLoop*> loops;
  for (Sampling* picture : pictures) loops.push_back(&picture->loop);
  while (!first.done()) {
    context.cancellation.stop_here_if_requested();
    const Stopwatch watch;
    unet_.begin_evaluation(first.share_done());
    const std::vector<Tensor> evaluations = DenoiseLoop::evaluate_together(loops);
    unet_.end_evaluation();
    for (size_t i = 0; i < pictures.size(); ++i) pictures[i]->loop.take(evaluations[i]);
    for (Sampling* picture : pictures)
      picture->timings.step_s.push_back(watch.seconds() / static_cast<double>(pictures.size()));
    advance_progress();
  }
}

void StableDiffusionPipeline::Impl::draw_together(std::vector<Plan> plans, RunContext context,
                                                  const IndexedPictureSink& sink) {
  const torch::NoGradGuard no_grad;
  struct Start {
    size_t index;
    RunRecord record;
    UNetConditioning conditioning;
    RunTimings timings;
  };
  // Prompts of one length share calls.
  std::map<int64_t, std::vector<Start>> by_length;
  for (size_t i = 0; i < plans.size(); ++i) {
    Start start{.index = i, .record = start_record(plans[i])};
    start.conditioning = condition(plans[i], context.cancellation, start.record, start.timings);
    by_length[start.conditioning.encoder_hidden_states.size(1)].push_back(std::move(start));
  }
  std::optional<PictureCodec> own_codec;
  for (auto& [length, starts] : by_length) {
    std::vector<std::unique_ptr<Sampling>> pictures;
    std::vector<Sampling*> pointers;
    for (Start& start : starts) {
      const Plan& plan = plans[start.index];
      const Stopwatch watch;
      prepare(unet_, plan, context.record_gates);
      start.timings.load_s += watch.seconds();
      RandomSource random(plan.request.seed);
      InitialLatents initial =
          make_initial_latents(plan.request, plan.pictures, *plan.scheduler,
                               codec_for(plan, own_codec), start_options(plan), random);
      pictures.push_back(std::make_unique<Sampling>(plan, unet_, start.conditioning,
                                                    std::move(initial), std::move(random),
                                                    std::move(start.timings)));
      pointers.push_back(pictures.back().get());
    }
    context.progress.begin(
        starts.size() == 1 ? "picture" : fmt::format("{} pictures", starts.size()),
        num_evaluations(plans[starts.front().index]) * std::ssize(starts));
    sample_together(pointers, context);
    context.progress.end();
    for (size_t i = 0; i < starts.size(); ++i) {
      Sampling& picture = *pictures[i];
      const Stopwatch watch;
      Tensor pixels = codec_for(picture.plan, own_codec).decode(picture.loop.latents());
      picture.timings.decode_s = watch.seconds();
      picture.timings.peak_memory_bytes = peak_memory_bytes();
      sink(starts[i].index, {std::move(pixels), std::move(starts[i].record),
                             std::move(picture.timings), std::move(picture.gates)});
    }
  }
}

std::string StableDiffusionPipeline::Impl::model_sha256() const {
  std::vector<std::filesystem::path> files = checkpoint_.weight_files;
  for (const auto& [name, tokenizer] : checkpoint_.tokenizers) {
    if (!tokenizer.vocabulary.empty()) files.push_back(tokenizer.vocabulary);
    for (const char* file : {"tokenizer.json", "vocab.json", "merges.txt"})
      if (const auto path = tokenizer.folder / file;
          !tokenizer.folder.empty() && std::filesystem::exists(path))
        files.push_back(path);
  }
  std::vector<std::string> hashes(files.size());
  parallel_tasks(std::ssize(files), [&](int64_t i) {
    hashes[static_cast<size_t>(i)] = sha256_file(files[static_cast<size_t>(i)]);
  });
  std::string all = model_.prediction_type;
  for (const std::string& hash : hashes) all += "\n" + hash;
  return sha256_hex(all);
}

StableDiffusionPipeline::StableDiffusionPipeline(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}
StableDiffusionPipeline::~StableDiffusionPipeline() = default;
StableDiffusionPipeline::StableDiffusionPipeline(StableDiffusionPipeline&&) noexcept = default;
StableDiffusionPipeline& StableDiffusionPipeline::operator=(StableDiffusionPipeline&&) noexcept =
    default;

StableDiffusionPipeline StableDiffusionPipeline::open(const ModelRequest& request,
                                                      const PipelineOptions& options) {
  return StableDiffusionPipeline(std::make_unique<Impl>(request, options));
}

GenerationRequest StableDiffusionPipeline::plan(const GenerationRequest& request) const {
  return impl_->make_plan(request).request;
}

CheckedRequest StableDiffusionPipeline::check(const GenerationRequest& request) const {
  Impl::Plan plan = impl_->check(request);
  return {std::move(plan.request), std::move(plan.loras), plan.experts.records()};
}

void StableDiffusionPipeline::generate_together(const std::vector<GenerationRequest>& requests,
                                                RunContext context,
                                                const IndexedPictureSink& sink) {
  std::vector<Impl::Plan> plans;
  for (const GenerationRequest& request : requests) plans.push_back(impl_->make_plan(request));
  impl_->draw_together(std::move(plans), context, sink);
}

std::string StableDiffusionPipeline::model_sha256() const { return impl_->model_sha256(); }

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
