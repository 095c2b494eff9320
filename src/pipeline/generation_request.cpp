#include "molar/pipeline/generation_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

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

LoraUse read_lora(const JsonConfig& json) {
  LoraUse use{read_path(json, "file"), json.get<double>("weight")};
  if (json.json().contains("blocks")) use.blocks = parse_block_strengths(read_text(json, "blocks"));
  return use;
}

template <>
LoraUse read_value(const JsonConfig& json, const std::string& key) {
  const JsonConfig object(json.json().at(key), fmt::format("{}: '{}'", json.source(), key));
  LoraUse use = read_lora(object);
  object.refuse_unread_keys();
  return use;
}

/// Every object of the list under `key`, read whole by `read`.
template <typename Read>
void read_objects(const JsonConfig& json, const std::string& key, const Read& read) {
  const Json& list = json.json().at(key);
  const std::string source = fmt::format("{}: '{}'", json.source(), key);
  if (!list.is_array())
    throw InputError(fmt::format("{} must be a list, is {}", source, list.dump()));
  for (const Json& one : list) {
    const JsonConfig object(one, source);
    read(object);
    object.refuse_unread_keys();
  }
}

Json region_json(const ExpertRegion& region) {
  Json json{{"expert", region.expert}};
  if (const auto* box = std::get_if<PixelBox>(&region.where))
    json["box"] = {box->x, box->y, box->width, box->height};
  else if (const auto* mask = std::get_if<fs::path>(&region.where))
    json["mask"] = write_path(*mask);
  else
    json["auto"] = true;
  return json;
}

ExpertRegion read_region(const JsonConfig& json) {
  ExpertRegion region{read_text(json, "expert"), FoundByGates{}};
  if (json.has("mask")) {
    region.where = read_path(json, "mask");
  } else if (json.has("box")) {
    const auto numbers = json.get<std::vector<int64_t>>("box");
    if (numbers.size() != 4)
      throw InputError(fmt::format("{}: 'box' must be [x, y, width, height], has {} numbers",
                                   json.source(), numbers.size()));
    region.where = PixelBox{numbers[0], numbers[1], numbers[2], numbers[3]};
  } else if (!json.get<bool>("auto")) {
    throw InputError(fmt::format("{}: wanted 'box', 'mask' or 'auto': true", json.source()));
  }
  return region;
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
         read_objects(j, "lora",
                      [&](const JsonConfig& use) { r.adapters.loras.push_back(read_lora(use)); });
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
      {"mole",
       [](const R& r, Json& j) {
         if (!r.mole.folder.empty()) j = write_path(r.mole.folder);
       },
       [](R& r, const JsonConfig& j) { r.mole.folder = read_path(j, "mole"); }},
      {"no-mole", [](const R& r, Json& j) { j = r.mole.off; },
       [](R& r, const JsonConfig& j) { r.mole.off = j.get<bool>("no-mole"); }},
      {"expert",
       [](const R& r, Json& j) {
         for (const ExpertStrength& one : r.mole.strengths)
           j.push_back({{"name", one.name}, {"weight", one.weight}});
       },
       [](R& r, const JsonConfig& j) {
         read_objects(j, "expert", [&](const JsonConfig& one) {
           r.mole.strengths.push_back({read_text(one, "name"), one.get<double>("weight")});
         });
       }},
      {"mole-cap",
       [](const R& r, Json& j) {
         if (r.mole.cap) j = *r.mole.cap;
       },
       [](R& r, const JsonConfig& j) { r.mole.cap = j.get<double>("mole-cap"); }},
      {"mole-start",
       [](const R& r, Json& j) {
         if (r.mole.start != 0) j = r.mole.start;
       },
       [](R& r, const JsonConfig& j) { r.mole.start = j.get<double>("mole-start"); }},
      {"mole-end",
       [](const R& r, Json& j) {
         if (r.mole.end != 1) j = r.mole.end;
       },
       [](R& r, const JsonConfig& j) { r.mole.end = j.get<double>("mole-end"); }},
      {"region",
       [](const R& r, Json& j) {
         for (const ExpertRegion& region : r.mole.regions) j.push_back(region_json(region));
       },
       [](R& r, const JsonConfig& j) {
         read_objects(j, "region",
                      [&](const JsonConfig& one) { r.mole.regions.push_back(read_region(one)); });
       }},
  };
  return kFields;
}

constexpr double kHighestStrength = std::numeric_limits<float>::max();  // of float32 or less

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
  if (!(std::abs(use.weight) <= kHighestStrength))
    throw ConfigError(
        fmt::format("--{} '{}': the strength must be a number that fits float32 "
                    "(at most {:.2g}), found {}",
                    option, use.file.string(), kHighestStrength, use.weight));
}

void check_mole(const MoleRequest& mole) {
  std::set<std::string> names;
  for (const auto& [name, weight] : mole.strengths) {
    if (!(std::abs(weight) <= kHighestStrength))
      throw ConfigError(
          fmt::format("--expert '{}': the strength must be a number that fits float32 (at most "
                      "{:.2g}), found {}",
                      name, kHighestStrength, weight));
    if (!names.insert(name).second)
      throw ConfigError(fmt::format("--expert '{}' has two strengths; give one of them", name));
  }
  if (mole.cap && !(*mole.cap > 0 && *mole.cap <= kHighestStrength))
    throw ConfigError(fmt::format("--mole-cap: wanted a number above 0, found {}", *mole.cap));
  check_range("mole-start", mole.start, 0, 1);
  check_range("mole-end", mole.end, 0, 1);
  if (mole.start >= mole.end)
    throw ConfigError(
        fmt::format("--mole-start {} and --mole-end {} leave the experts no step; wanted a start "
                    "below the end (--no-mole turns them off)",
                    mole.start, mole.end));
  for (const ExpertRegion& region : mole.regions)
    if (const auto* box = std::get_if<PixelBox>(&region.where);
        box && (box->x < 0 || box->y < 0 || box->width < 1 || box->height < 1))
      throw ConfigError(
          fmt::format("--region {}={},{},{},{}: wanted x,y,width,height in pixels, with x and y 0 "
                      "or more, width and height above 0",
                      region.expert, box->x, box->y, box->width, box->height));
  if (!mole.off) return;
  if (!mole.folder.empty())
    throw ConfigError(fmt::format("--mole '{}' and --no-mole exclude each other; give one of them",
                                  mole.folder.string()));
  if (const auto option = mole.first_option())
    throw ConfigError(fmt::format("--{} does nothing with --no-mole; give one of them", *option));
}

}  // namespace

std::optional<std::string> MoleRequest::first_option() const {
  if (!strengths.empty()) return "expert";
  if (cap) return "mole-cap";
  if (start != 0) return "mole-start";
  if (end != 1) return "mole-end";
  if (!regions.empty()) return "region";
  return std::nullopt;
}

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
  check_mole(mole);
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

std::string adapters_key(const GenerationRequest& request) {
  return GenerationRequest{.adapters = request.adapters}.to_json().dump();
}

std::string texts_key(const GenerationRequest& request) {
  return GenerationRequest{.prompt = request.prompt,
                           .negative_prompt = request.negative_prompt,
                           .prompt_2 = request.prompt_2,
                           .negative_prompt_2 = request.negative_prompt_2,
                           .prompt_syntax = request.prompt_syntax,
                           .clip_skip = request.clip_skip}
      .to_json()
      .dump();
}

}  // namespace molar
