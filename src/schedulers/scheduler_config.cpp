#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "molar/schedulers/scheduler.h"
#include "own_fields.h"
#include "scheduler_classes.h"

namespace molar {
namespace {

constexpr int64_t kMostTrainTimesteps = 1'000'000;
/// In a config in memory, diffusers' word for "fields that the file did not have".
constexpr const char* kDefaulted = "_use_default_values";

/// Every field that a scheduler class of diffusers 0.42 can write; another one is a slip of the
/// pen.
constexpr std::string_view kKnownFields[] = {"algorithm_type",
                                             "beta_end",
                                             "beta_schedule",
                                             "beta_start",
                                             "clip_sample",
                                             "clip_sample_range",
                                             "disable_corrector",
                                             "dynamic_thresholding_ratio",
                                             "euler_at_final",
                                             "final_sigmas_type",
                                             "flow_shift",
                                             "interpolation_type",
                                             "lambda_min_clipped",
                                             "lower_order_final",
                                             "noise_sampler_seed",
                                             "num_train_timesteps",
                                             "original_inference_steps",
                                             "predict_x0",
                                             "prediction_type",
                                             "rescale_betas_zero_snr",
                                             "rho",
                                             "sample_max_value",
                                             "set_alpha_to_one",
                                             "shift_terminal",
                                             "sigma_data",
                                             "sigma_max",
                                             "sigma_min",
                                             "sigma_schedule",
                                             "skip_prk_steps",
                                             "solver_order",
                                             "solver_p",
                                             "solver_type",
                                             "steps_offset",
                                             "thresholding",
                                             "time_shift_type",
                                             "timestep_scaling",
                                             "timestep_spacing",
                                             "timestep_type",
                                             "trained_betas",
                                             "use_beta_sigmas",
                                             "use_dynamic_shifting",
                                             "use_exponential_sigmas",
                                             "use_flow_sigmas",
                                             "use_karras_sigmas",
                                             "use_lu_lambdas",
                                             "variance_type"};

struct FixedField {
  const char* key;
  Json value;
};

/// `--sampler`: a class, and what the name promises whatever the model's file says.
struct Sampler {
  std::string_view name, class_name;
  std::vector<FixedField> fixed;
};

/// dpmpp_sde is the singlestep solver with noise from the picture's own generator. diffusers also
/// has DPMSolverSDEScheduler, whose Brownian tree (torchsde) draws from a generator of its own: a
/// picture would not follow from its seed alone.
const std::vector<Sampler>& samplers() {
  static const std::vector<Sampler> kSamplers = {
      {"ddim", "DDIMScheduler", {}},
      {"ddpm", "DDPMScheduler", {}},
      {"pndm", "PNDMScheduler", {}},
      {"lms", "LMSDiscreteScheduler", {}},
      {"euler", "EulerDiscreteScheduler", {}},
      {"euler_a", "EulerAncestralDiscreteScheduler", {}},
      {"heun", "HeunDiscreteScheduler", {}},
      {"dpmpp_2m",
       "DPMSolverMultistepScheduler",
       {{"algorithm_type", "dpmsolver++"}, {"solver_order", 2}}},
      {"dpmpp_2m_karras",
       "DPMSolverMultistepScheduler",
       {{"algorithm_type", "dpmsolver++"},
        {"solver_order", 2},
        {"use_karras_sigmas", true},
        {"use_exponential_sigmas", false},
        {"use_beta_sigmas", false}}},
      {"dpmpp_sde",
       "DPMSolverSinglestepScheduler",
       {{"algorithm_type", "sde-dpmsolver++"}, {"solver_order", 2}}},
      {"unipc", "UniPCMultistepScheduler", {}},
      {"lcm", "LCMScheduler", {}},
  };
  return kSamplers;
}

/// "DPM++ 2M Karras" as we spell it.
std::string normalised(std::string_view name) {
  std::string text;
  for (const char c : name) {
    if (c == '+')
      text += 'p';
    else if (c == ' ' || c == '-')
      text += '_';
    else
      text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return text;
}

const Sampler& find_sampler(std::string_view name) {
  for (const Sampler& sampler : samplers())
    if (sampler.name == name) return sampler;
  throw ConfigError(fmt::format("there is no sampler '{}'{} There are {}", name,
                                suggestion_or_stop(normalised(name), sampler_names()),
                                fmt::join(sampler_names(), ", ")));
}

void check_beta(const OwnFields& fields, const char* key, double value) {
  if (!(value > 0 && value < 1)) fields.refuse(key, fmt::format("must be in (0, 1), is {}", value));
}

void warn_of_unknown_fields(const Json& json, const std::string& source) {
  for (const auto& [key, value] : json.items()) {
    if (key.starts_with('_') ||
        std::find(std::begin(kKnownFields), std::end(kKnownFields), key) != std::end(kKnownFields))
      continue;
    spdlog::warn("{}: '{}' is no field of a scheduler; ignored, as diffusers does", source, key);
  }
}

SchedulerConfig parse(const Json& json, const std::string& source) {
  SchedulerConfig config;
  config.raw = json;
  config.source = source;
  const JsonConfig view(json, source);
  config.class_name = view.get_or<std::string>("_class_name", "");
  if (const SchedulerClass* const row = find_scheduler_class(config.class_name)) {
    config.beta_start = row->beta_start;
    config.beta_end = row->beta_end;
    config.beta_schedule = row->beta_schedule;
    config.timestep_spacing = row->timestep_spacing;
  }
  const OwnFields fields(config);
  config.num_train_timesteps =
      fields.whole("num_train_timesteps", config.num_train_timesteps, 2, kMostTrainTimesteps);
  config.beta_start = fields.number("beta_start", config.beta_start);
  config.beta_end = fields.number("beta_end", config.beta_end);
  check_beta(fields, "beta_start", config.beta_start);
  check_beta(fields, "beta_end", config.beta_end);
  config.beta_schedule =
      fields.word("beta_schedule", config.beta_schedule,
                  {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp"});
  std::vector<std::string> predictions = {"epsilon", "v_prediction", "sample"};
  const bool is_euler = config.class_name == "EulerDiscreteScheduler";
  if (is_euler) predictions.emplace_back("original_sample");  // its old name for sample
  config.prediction_type = fields.word("prediction_type", config.prediction_type, predictions);
  if (config.prediction_type == "original_sample") config.prediction_type = "sample";
  config.timestep_spacing =
      fields.word("timestep_spacing", config.timestep_spacing, {"leading", "trailing", "linspace"});
  config.steps_offset =
      fields.whole("steps_offset", config.steps_offset, 0, config.num_train_timesteps - 1);
  config.rescale_betas_zero_snr =
      fields.flag("rescale_betas_zero_snr", config.rescale_betas_zero_snr);
  return config;
}

/// The fields as the file has them, and those that the caller set on the struct since.
Json edited_fields(const SchedulerConfig& config) {
  Json fields = config.raw.is_null() ? Json::object() : config.raw;
  fields["_class_name"] = config.class_name;
  const SchedulerConfig read = parse(fields, source_of(config));
  const auto carry = [&](const char* key, const auto& now, const auto& then) {
    if (now == then) return;
    fields[key] = now;
    if (fields.contains(kDefaulted)) {  // set outright, so no longer a default
      Json kept = Json::array();
      for (const Json& name : fields[kDefaulted])
        if (name != key) kept.push_back(name);
      fields[kDefaulted] = kept;
    }
  };
  carry("num_train_timesteps", config.num_train_timesteps, read.num_train_timesteps);
  carry("beta_start", config.beta_start, read.beta_start);
  carry("beta_end", config.beta_end, read.beta_end);
  carry("beta_schedule", config.beta_schedule, read.beta_schedule);
  carry("prediction_type", config.prediction_type, read.prediction_type);
  carry("timestep_spacing", config.timestep_spacing, read.timestep_spacing);
  carry("steps_offset", config.steps_offset, read.steps_offset);
  carry("rescale_betas_zero_snr", config.rescale_betas_zero_snr, read.rescale_betas_zero_snr);
  return fields;
}

/// Sets a field for the model's own class; see apply_pipeline_fixes.
void mend(SchedulerConfig& config, const char* key, const Json& value) {
  if (!config.raw.contains(key)) config.raw[kDefaulted].push_back(key);
  config.raw[key] = value;
}

}  // namespace

SchedulerConfig SchedulerConfig::from_json(const Json& json, const std::string& source) {
  SchedulerConfig config = parse(json, source);
  warn_of_unknown_fields(json, source);
  return config;
}

SchedulerConfig apply_pipeline_fixes(SchedulerConfig config, PipelineKind kind) {
  if (kind == PipelineKind::kXl) return config;
  if (config.raw.is_null()) config.raw = Json::object();
  // The singlestep solver has neither field; the others below have what diffusers' signatures list.
  const std::string& name = config.class_name;
  const auto has = [&](const char* key, std::initializer_list<const char*> classes) {
    return config.raw.contains(key) ||
           std::find(classes.begin(), classes.end(), name) != classes.end();
  };
  const bool has_offset =
      config.raw.contains("steps_offset") || name != "DPMSolverSinglestepScheduler";
  if (has_offset && config.steps_offset != 1) {
    mend(config, "steps_offset", 1);
    config.steps_offset = 1;
  }
  const OwnFields fields(config);
  const bool clips_by_default = name == "DDIMScheduler" || name == "DDPMScheduler";
  if (kind != PipelineKind::kInpaint && fields.flag("clip_sample", clips_by_default))
    mend(config, "clip_sample", false);
  if (kind == PipelineKind::kInpaint && has("skip_prk_steps", {"PNDMScheduler"}) &&
      !fields.flag("skip_prk_steps", false))
    mend(config, "skip_prk_steps", true);
  return config;
}

std::vector<std::string> sampler_names() {
  std::vector<std::string> names;
  for (const Sampler& sampler : samplers()) names.emplace_back(sampler.name);
  return names;
}

SchedulerConfig config_for_sampler(std::string_view sampler, const SchedulerConfig& base) {
  const Sampler& row = find_sampler(sampler);
  Json fields = edited_fields(base);
  if (fields.contains(kDefaulted)) {
    for (const Json& key : fields[kDefaulted])
      if (key.is_string()) fields.erase(key.get<std::string>());
    fields.erase(kDefaulted);
  }
  for (const FixedField& fixed : row.fixed) fields[fixed.key] = fixed.value;
  fields["_class_name"] = row.class_name;
  return parse(fields, source_of(base));
}

std::string sampler_name(const SchedulerConfig& config) {
  std::string found = config.class_name;
  size_t most = 0;
  for (const Sampler& sampler :
       samplers()) {  // dpmpp_2m_karras over dpmpp_2m: the one that says more
    if (sampler.class_name != config.class_name) continue;
    const bool same =
        std::all_of(sampler.fixed.begin(), sampler.fixed.end(), [&](const FixedField& fixed) {
          if (config.raw.is_object() && config.raw.contains(fixed.key) &&
              !config.raw.at(fixed.key).is_null())
            return config.raw.at(fixed.key) == fixed.value;
          return fixed.value == false || fixed.value == "dpmsolver++" ||
                 fixed.value == 2;  // the class's defaults
        });
    if (!same || sampler.fixed.size() < most) continue;
    most = sampler.fixed.size();
    found = sampler.name;
  }
  return found;
}

}  // namespace molar
