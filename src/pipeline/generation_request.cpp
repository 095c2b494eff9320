#include "molar/pipeline/generation_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "molar/core/error.h"
#include "molar/schedulers/scheduler.h"
#include "record_text.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

/// One field: its long option name, and how it travels to and from JSON. One table serves the
/// record, `--from` and CSV columns alike.
struct Field {
  const char* name;
  std::function<void(const GenerationRequest&, Json&)> write;  // leaves the JSON null where unset
  std::function<void(GenerationRequest&, const JsonConfig&)> read;  // of the object that has it
};

template <typename T>
T read_value(const JsonConfig& json, const std::string& key) {
  return json.get<T>(key);
}

template <>
std::string read_value(const JsonConfig& json, const std::string& key) {
  return read_text(json, key);
}

template <>
fs::path read_value(const JsonConfig& json, const std::string& key) {
  return read_path(json, key);
}

template <>
uint64_t read_value(const JsonConfig& json, const std::string& key) {
  const Json& value = json.json().at(key);
  if (!value.is_number_unsigned())
    throw InputError(fmt::format("{}: '{}' must be a whole number from 0 to {}, is {}",
                                 json.source(), key, std::numeric_limits<uint64_t>::max(),
                                 value.dump()));
  return value.get<uint64_t>();
}

LoraUse read_lora(const Json& json, const std::string& source) {
  const JsonConfig config(json, source);
  LoraUse use{read_path(config, "file"), config.get<double>("weight")};
  if (json.contains("blocks")) use.blocks = parse_block_strengths(read_text(config, "blocks"));
  config.refuse_unread_keys();
  return use;
}

template <>
LoraUse read_value(const JsonConfig& json, const std::string& key) {
  return read_lora(json.json().at(key), fmt::format("{}: '{}'", json.source(), key));
}

Json lora_json(const LoraUse& use) {
  Json json{{"file", write_path(use.file)}, {"weight", use.weight}};
  if (!use.blocks.empty()) json["blocks"] = block_strengths_text(use.blocks);
  return json;
}

template <typename T>
Field field(const char* name, T GenerationRequest::* member) {
  return {name, [member](const GenerationRequest& r, Json& j) { j = r.*member; },
          [name, member](GenerationRequest& r, const JsonConfig& j) {
            r.*member = read_value<T>(j, name);
          }};
}

template <typename T>
Field optional_field(const char* name, std::optional<T> GenerationRequest::* member) {
  return {name,
          [member](const GenerationRequest& r, Json& j) {
            if (r.*member) j = *(r.*member);
          },
          [name, member](GenerationRequest& r, const JsonConfig& j) {
            r.*member = read_value<T>(j, name);
          }};
}

Field path_field(const char* name, fs::path GenerationRequest::* member) {
  return {name,
          [member](const GenerationRequest& r, Json& j) {
            if (!(r.*member).empty()) j = write_path(r.*member);
          },
          [name, member](GenerationRequest& r, const JsonConfig& j) {
            r.*member = read_value<fs::path>(j, name);
          }};
}

Field role_field(const char* name, std::optional<LoraUse> AdapterRequest::* member) {
  return {name,
          [member](const GenerationRequest& r, Json& j) {
            if (r.adapters.*member) j = lora_json(*(r.adapters.*member));
          },
          [name, member](GenerationRequest& r, const JsonConfig& j) {
            r.adapters.*member = read_value<LoraUse>(j, name);
          }};
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
       [](R& r, const JsonConfig& j) {
         j.require_one_of("prompt-syntax", {"a1111", "plain"});
         r.prompt_syntax = j.get<std::string>("prompt-syntax") == "plain" ? PromptSyntax::kPlain
                                                                          : PromptSyntax::kA1111;
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
       [](R& r, const JsonConfig& j) {
         const Json& list = j.json().at("lora");
         if (!list.is_array())
           throw InputError(
               fmt::format("{}: 'lora' must be a list, is {}", j.source(), list.dump()));
         for (const Json& use : list)
           r.adapters.loras.push_back(read_lora(use, fmt::format("{}: 'lora'", j.source())));
       }},
      {"merge", [](const R& r, Json& j) { j = r.adapters.merge; },
       [](R& r, const JsonConfig& j) { r.adapters.merge = read_text(j, "merge"); }},
      {"hypernet",
       [](const R& r, Json& j) {
         if (!r.adapters.hypernetwork.empty()) j = write_path(r.adapters.hypernetwork);
       },
       [](R& r, const JsonConfig& j) { r.adapters.hypernetwork = read_path(j, "hypernet"); }},
      {"coefficients",
       [](const R& r, Json& j) {
         if (!r.adapters.coefficients.empty()) j = write_path(r.adapters.coefficients);
       },
       [](R& r, const JsonConfig& j) { r.adapters.coefficients = read_path(j, "coefficients"); }},
      {"allow-partial-lora", [](const R& r, Json& j) { j = r.adapters.allow_partial; },
       [](R& r, const JsonConfig& j) {
         r.adapters.allow_partial = j.get<bool>("allow-partial-lora");
       }},
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
  constexpr double kHighest = std::numeric_limits<float>::max();  // weights are float32 or less
  if (!(std::abs(use.weight) <= kHighest))
    throw ConfigError(
        fmt::format("--{} '{}': the strength must be a number that fits float32 "
                    "(at most {:.2g}), found {}",
                    option, use.file.string(), kHighest, use.weight));
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

GenerationRequest GenerationRequest::from_json(const Json& json) try {
  const JsonConfig config(json, "request");
  GenerationRequest request;
  for (const auto& [key, value] : json.items()) {
    const auto& table = fields();
    const auto found =
        std::find_if(table.begin(), table.end(), [&](const Field& f) { return key == f.name; });
    if (found == table.end())
      throw InputError(fmt::format("request: unknown key '{}'; it may be of a newer version", key));
    found->read(request, config);
  }
  return request;
} catch (const FileError& error) {
  throw InputError(error.what());
}

std::string strength_text(const LoraUse& use) {
  return use.blocks.empty() ? fmt::format("{}", use.weight)
                            : fmt::format("{}:{}", use.weight, block_strengths_text(use.blocks));
}

Checkpoint open_model(const ModelRequest& request) {
  return open_checkpoint(request.model, {.vae = request.vae,
                                         .tokenizer = request.tokenizer,
                                         .clip_vocabulary = request.clip_vocabulary,
                                         .prediction_type = request.prediction_type});
}

}  // namespace molar
