#include "molar/pipeline/generation_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "molar/core/error.h"
#include "molar/schedulers/scheduler.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

/// One field: its long option name, and how it travels to and from JSON. One table serves the
/// record,
/// `--from` and CSV columns alike.
struct Field {
  const char* name;
  std::function<void(const GenerationRequest&, Json&)> write;  // leaves the JSON null where unset
  std::function<void(GenerationRequest&, const Json&)> read;
};

template <typename T>
Field field(const char* name, T GenerationRequest::* member) {
  return {name, [member](const GenerationRequest& r, Json& j) { j = r.*member; },
          [member](GenerationRequest& r, const Json& j) { r.*member = j.get<T>(); }};
}

template <typename T>
Field optional_field(const char* name, std::optional<T> GenerationRequest::* member) {
  return {name,
          [member](const GenerationRequest& r, Json& j) {
            if (r.*member) j = *(r.*member);
          },
          [member](GenerationRequest& r, const Json& j) { r.*member = j.get<T>(); }};
}

Field path_field(const char* name, fs::path GenerationRequest::* member) {
  return {name,
          [member](const GenerationRequest& r, Json& j) {
            if (!(r.*member).empty()) j = (r.*member).string();
          },
          [member](GenerationRequest& r, const Json& j) { r.*member = j.get<std::string>(); }};
}

Json lora_json(const LoraUse& use) { return {{"file", use.file.string()}, {"weight", use.weight}}; }

LoraUse lora_from_json(const Json& json) {
  return {json.at("file").get<std::string>(), json.at("weight").get<double>()};
}

Field role_field(const char* name, std::optional<LoraUse> AdapterRequest::* member) {
  return {
      name,
      [member](const GenerationRequest& r, Json& j) {
        if (r.adapters.*member) j = lora_json(*(r.adapters.*member));
      },
      [member](GenerationRequest& r, const Json& j) { r.adapters.*member = lora_from_json(j); }};
}

const std::vector<Field>& fields() {
  using R = GenerationRequest;
  static const std::vector<Field> kFields = {
      field("prompt", &R::prompt),
      optional_field("negative-prompt", &R::negative_prompt),
      optional_field("prompt-2", &R::prompt_2),
      optional_field("negative-prompt-2", &R::negative_prompt_2),
      {"prompt-syntax",
       [](const R& r, Json& j) { j = r.prompt_syntax == PromptSyntax::kPlain ? "plain" : "a1111"; },
       [](R& r, const Json& j) {
         r.prompt_syntax =
             j.get<std::string>() == "plain" ? PromptSyntax::kPlain : PromptSyntax::kA1111;
       }},
      field("sampler", &R::sampler),
      field("steps", &R::num_steps),
      field("cfg-scale", &R::guidance_scale),
      field("guidance-rescale", &R::guidance_rescale),
      field("eta", &R::eta),
      optional_field("clip-skip", &R::clip_skip),
      optional_field("width", &R::width_px),
      optional_field("height", &R::height_px),
      field("seed", &R::seed),
      field("count", &R::count),
      path_field("init-image", &R::init_image),
      path_field("mask", &R::mask),
      optional_field("strength", &R::strength),
      field("vae-tiling", &R::vae_tiling),
      role_field("subject", &AdapterRequest::subject),
      role_field("style", &AdapterRequest::style),
      {"lora",
       [](const R& r, Json& j) {
         for (const LoraUse& use : r.adapters.loras) j.push_back(lora_json(use));
       },
       [](R& r, const Json& j) {
         for (const Json& use : j) r.adapters.loras.push_back(lora_from_json(use));
       }},
      {"merge", [](const R& r, Json& j) { j = r.adapters.merge; },
       [](R& r, const Json& j) { r.adapters.merge = j.get<std::string>(); }},
      {"allow-partial-lora", [](const R& r, Json& j) { j = r.adapters.allow_partial; },
       [](R& r, const Json& j) { r.adapters.allow_partial = j.get<bool>(); }},
  };
  return kFields;
}

/// Throws ConfigError unless lowest <= value <= highest.
void check_range(const char* option, double value, double lowest, double highest) {
  if (!(value >= lowest && value <= highest))
    throw ConfigError(
        fmt::format("--{}: wanted {} to {}, found {}", option, lowest, highest, value));
}

void check_size(const char* option, const std::optional<int64_t>& size_px) {
  if (!size_px) return;
  check_range(option, static_cast<double>(*size_px), 8, 16384);
  if (*size_px % 8 != 0)
    throw ConfigError(fmt::format("--{} {}: wanted a multiple of 8; {} or {} would do", option,
                                  *size_px, *size_px / 8 * 8, (*size_px / 8 + 1) * 8));
}

void check_weight(const char* option, const LoraUse& use) {
  if (!std::isfinite(use.weight))
    throw ConfigError(
        fmt::format("--{} '{}': the strength must be a finite number", option, use.file.string()));
}

}  // namespace

void GenerationRequest::validate() const {
  check_range("steps", static_cast<double>(num_steps), 1, 1000);
  check_range("cfg-scale", guidance_scale, 0, 1000);
  check_range("guidance-rescale", guidance_rescale, 0, 1);
  check_range("eta", eta, 0, 1);
  check_range("count", static_cast<double>(count), 1, 100000);
  if (clip_skip) check_range("clip-skip", static_cast<double>(*clip_skip), 0, 64);
  check_size("width", width_px);
  check_size("height", height_px);
  if (strength && !(*strength > 0 && *strength <= 1))
    throw ConfigError(
        fmt::format("--strength: wanted a number above 0 and at most 1, found {}", *strength));
  if (strength && init_image.empty())
    throw ConfigError(
        "--strength says how far a picture is drawn anew; wanted --init-image with it");
  if (!mask.empty() && init_image.empty())
    throw ConfigError("--mask marks what is drawn anew in a picture; wanted --init-image with it");
  if (!sampler.empty())
    config_for_sampler(sampler, SchedulerConfig{});  // throws for an unknown name
  if (adapters.subject) check_weight("subject", *adapters.subject);
  if (adapters.style) check_weight("style", *adapters.style);
  for (const LoraUse& use : adapters.loras) check_weight("lora", use);
}

Json GenerationRequest::to_json() const {
  Json json = Json::object();
  for (const Field& f : fields()) {
    Json value;
    f.write(*this, value);
    if (!value.is_null()) json[f.name] = std::move(value);
  }
  return json;
}

GenerationRequest GenerationRequest::from_json(const Json& json) {
  if (!json.is_object()) throw InputError("request: wanted a JSON object");
  GenerationRequest request;
  for (const auto& [key, value] : json.items()) {
    const auto& table = fields();
    const auto found =
        std::find_if(table.begin(), table.end(), [&](const Field& f) { return key == f.name; });
    if (found == table.end())
      throw InputError(fmt::format("request: unknown key '{}'; it may be of a newer version", key));
    try {
      found->read(request, value);
    } catch (const Json::exception&) {
      throw InputError(fmt::format("request: '{}' has an unexpected value {}", key, value.dump()));
    }
  }
  return request;
}

}  // namespace molar
