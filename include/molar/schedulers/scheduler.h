/// Noise schedulers: immutable plans of model evaluations and a pure step.
/// Reference behaviour: diffusers' scheduler of the same name, number by number.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "molar/core/random.h"
#include "molar/core/tensor.h"
#include "molar/io/json_config.h"

namespace molar {

/// scheduler_config.json of every class we have; names and defaults as diffusers'.
struct SchedulerConfig {
  std::string class_name;  ///< "PNDMScheduler", ...
  int64_t num_train_timesteps = 1000;
  double beta_start = 0.0001, beta_end = 0.02;
  std::string beta_schedule = "linear";      ///< linear, scaled_linear, squaredcos_cap_v2
  std::string prediction_type = "epsilon";   ///< epsilon, v_prediction, sample
  std::string timestep_spacing = "leading";  ///< leading, trailing, linspace
  int64_t steps_offset = 0;
  bool rescale_betas_zero_snr = false;
  Json raw;            ///< the whole file, for the classes' own fields
  std::string source;  ///< names the file in messages; empty: "scheduler_config.json"

  /// Fields that the file lacks take the defaults of its class. A class that is not ours is
  /// accepted here (`--sampler` may replace it) and refused by make_scheduler. Throws FileError for
  /// a value that no class of ours has, naming `source` and the field.
  static SchedulerConfig from_json(const Json& json, const std::string& source);
};

/// The diffusers pipeline whose constructor edits the scheduler's config.
enum class PipelineKind {
  kTextToImage,   ///< StableDiffusionPipeline
  kImageToImage,  ///< StableDiffusionImg2ImgPipeline
  kInpaint,       ///< StableDiffusionInpaintPipeline
  kXl,            ///< every SDXL pipeline: edits nothing
};

/// What diffusers' pipeline constructors change in the model's own scheduler config before any
/// sampler replaces it: steps_offset becomes 1; clip_sample false (not when inpainting);
/// skip_prk_steps true (inpainting only). A field that the file lacks is mended for the model's own
/// class alone and does not pass to another sampler, as in diffusers.
/// Call order: from_json -> apply_pipeline_fixes -> (config_for_sampler)? -> make_scheduler.
SchedulerConfig apply_pipeline_fixes(SchedulerConfig config, PipelineKind kind);

/// What a multistep scheduler remembers between steps; a value, owned by the loop. Empty at the
/// first evaluation, wherever in the schedule that is.
struct StepState {
  std::vector<Tensor> history;  ///< meaning belongs to the scheduler
  Tensor held_sample;           ///< second-order methods: the sample before the trial step
  int64_t num_evaluations = 0;  ///< steps taken since the state was empty
};

struct StepResult {
  Tensor sample;  ///< [B, C, H, W]
  StepState state;
};

/// Noise for stochastic steps: standard normal of the asked shape, float32 CPU, in diffusers'
/// order. One source per picture; draws are stacked along the batch.
using NoiseDraw = std::function<Tensor(at::IntArrayRef shape)>;

/// A schedule for one number of steps. Immutable.
class Scheduler {
 public:
  virtual ~Scheduler() = default;

  /// The timestep of each model evaluation, noisiest first; may be longer than the steps asked for
  /// (heun, pndm evaluate twice). Fractional for euler and lms with linspace spacing.
  virtual const std::vector<double>& timesteps() const = 0;
  /// Factor for the initial standard-normal latents.
  virtual double init_noise_sigma() const = 0;
  /// x: [B, C, H, W], what the model sees at evaluation i.
  virtual Tensor scale_model_input(const Tensor& x, size_t i) const = 0;
  /// One update after evaluation i. Pure: everything remembered travels in `state`.
  /// model_output, x: [B, C, H, W], float32. `noise` is called only by stochastic schedulers.
  virtual StepResult step(size_t i, const Tensor& model_output, const Tensor& x, StepState state,
                          const NoiseDraw& noise) const = 0;
  /// x_0 noised to the level of evaluation i (img2img starts there). [B, C, H, W].
  virtual Tensor add_noise(const Tensor& x_0, const Tensor& noise, size_t i) const = 0;
  /// Evaluations per step: 2 for second-order methods (img2img counts starts in it).
  virtual int64_t order() const = 0;
};

struct SchedulerOptions {
  int64_t num_steps = 30;
  double eta = 0.0;  ///< ddim only
};

/// Img2img: the evaluation to start from, so that about `strength` of the steps remain. Start there
/// with add_noise(x_0, noise, i) and an empty StepState.
/// Throws ConfigError where no step would remain, or strength is outside (0, 1].
size_t first_evaluation(const Scheduler& scheduler, int64_t num_steps, double strength);

/// The names of `--sampler`, in the order of the table.
std::vector<std::string> sampler_names();
/// The config of `base` as the sampler would have it: class and fixed fields replaced
/// (dpmpp_2m_karras: use_karras_sigmas), the rest kept. Throws ConfigError for an unknown name and
/// suggests the nearest.
SchedulerConfig config_for_sampler(std::string_view sampler, const SchedulerConfig& base);
/// The `--sampler` name that gives a scheduler of this config's class and fixed fields, for
/// records; the class name where no sampler does.
std::string sampler_name(const SchedulerConfig& config);
/// Throws ConfigError where `num_steps` or `eta` does not fit, FileError where the class is not
/// ours or cannot have one of the config's values.
std::unique_ptr<const Scheduler> make_scheduler(const SchedulerConfig& config,
                                                const SchedulerOptions& options);

}  // namespace molar
