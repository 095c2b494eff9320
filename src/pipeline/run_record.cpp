#include "molar/pipeline/run_record.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "molar/core/error.h"
#include "molar/core/version.h"
#include "molar/schedulers/scheduler.h"
#include "record_text.h"

namespace molar {
namespace {

constexpr int64_t kSchema = 1;
constexpr const char* kChunk = "molar";

/// `--sampler` name -> what A1111 calls it (readers of `parameters` know these).
constexpr std::pair<std::string_view, std::string_view> kA1111Samplers[] = {
    {"ddim", "DDIM"},
    {"ddpm", "DDPM"},
    {"pndm", "PLMS"},
    {"lms", "LMS"},
    {"euler", "Euler"},
    {"euler_a", "Euler a"},
    {"heun", "Heun"},
    {"dpmpp_2m", "DPM++ 2M"},
    {"dpmpp_2m_karras", "DPM++ 2M Karras"},
    {"dpmpp_sde", "DPM++ SDE"},
    {"unipc", "UniPC"},
    {"lcm", "LCM"},
};

std::string_view a1111_sampler(std::string_view sampler) {
  const auto* found = std::find_if(std::begin(kA1111Samplers), std::end(kA1111Samplers),
                                   [&](const auto& row) { return row.first == sampler; });
  return found == std::end(kA1111Samplers) ? sampler : found->second;
}

/// Builds `key: value, key: value`; a value that the reader's grammar would split becomes a JSON
/// string.
class PairWriter {
 public:
  void add(std::string_view key, const std::string& value) {
    const bool quote = value.find_first_of(",:\n\"") != std::string::npos;
    if (!text_.empty()) text_ += ", ";
    text_ += fmt::format("{}: {}", key, quote ? dump_json(value) : value);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

Json model_json(const ModelRequest& model) {
  Json json = {{"path", write_path(model.model)},
               {"device", model.compute.device.str()},
               {"dtype", dtype_option(model.compute.dtype)}};
  if (!model.vae.empty()) json["vae"] = write_path(model.vae);
  if (!model.tokenizer.empty()) json["tokenizer"] = write_path(model.tokenizer);
  if (!model.prediction_type.empty()) json["prediction-type"] = model.prediction_type;
  return json;
}

ModelRequest model_from_json(const Json& json) {
  const JsonConfig config(json, "model");
  ModelRequest model;
  model.model = read_path(config, "path");
  if (config.has("vae")) model.vae = read_path(config, "vae");
  if (config.has("tokenizer")) model.tokenizer = read_path(config, "tokenizer");
  config.require_one_of("prediction-type", {"epsilon", "v_prediction", "sample"});
  model.prediction_type = config.get_or<std::string>("prediction-type", "");
  model.compute.dtype =
      parse_dtype(config.get_or<std::string>("dtype", "f32"), model.compute.device);
  config.ignore({"device", "family"});  // of the machine and of the file, found anew
  config.refuse_unread_keys();
  return model;
}

Json lora_json(const LoraRecord& lora) {
  Json json{{"file", write_path(lora.file)},
            {"role", lora.role},
            {"weight", lora.weight},
            {"sha256", lora.sha256},
            {"key_family", lora.key_family},
            {"num_layers", lora.num_layers},
            {"num_skipped_keys", lora.num_skipped_keys},
            {"trigger_words", lora.trigger_words},
            {"licence", lora.licence}};
  if (!lora.blocks.empty()) json["blocks"] = lora.blocks;
  return json;
}

Json expert_json(const ExpertRecord& expert) {
  return {{"name", expert.name},
          {"file", write_path(expert.file)},
          {"weight", expert.weight},
          {"sha256", expert.sha256}};
}

}  // namespace

Json RunTimings::to_json() const {
  return {{"timings",
           {{"load_s", load_s},
            {"text_encoding_s", text_encoding_s},
            {"first_step_s", first_step_s},
            {"steps_s", step_s},
            {"decode_s", decode_s}}},
          {"peak_memory_bytes", peak_memory_bytes}};
}

Json RunRecord::to_json() const {
  Json lora_list = Json::array();
  for (const LoraRecord& lora : loras) lora_list.push_back(lora_json(lora));
  Json expert_list = Json::array();
  for (const ExpertRecord& expert : experts) expert_list.push_back(expert_json(expert));
  Json model_object = model_json(model);
  model_object["family"] = model_family;
  return {{"schema", kSchema},
          {"request", request.to_json()},
          {"model", std::move(model_object)},
          {"sampler", sampler},
          {"scheduler", scheduler_class},
          {"merge", merge_method},
          {"loras", std::move(lora_list)},
          {"experts", std::move(expert_list)},
          {"prompt_chunks", num_chunks},
          {"prompt_tokens", num_tokens},
          {"rng", "cpu"},
          {"version",
           {{"molar", molar_version()}, {"git", git_version()}, {"torch", torch_version()}}}};
}

std::string RunRecord::parameters_text() const {
  PairWriter pairs;
  pairs.add("Steps", std::to_string(request.num_steps));
  pairs.add("Sampler", std::string(a1111_sampler(sampler)));
  pairs.add("CFG scale", fmt::format("{}", request.guidance_scale));
  pairs.add("Seed", std::to_string(request.seed));
  pairs.add("Size",
            fmt::format("{}x{}", request.width_px.value_or(0), request.height_px.value_or(0)));
  pairs.add("Model", model.model.stem().string());
  if (!model.vae.empty()) pairs.add("VAE", model.vae.stem().string());
  if (!request.init_image.empty())
    pairs.add("Denoising strength", fmt::format("{}", request.strength.value_or(1.0)));
  // A1111 counts the last layer as 1, diffusers as 0.
  if (request.clip_skip) pairs.add("Clip skip", std::to_string(*request.clip_skip + 1));
  pairs.add("RNG", "CPU");
  std::string hashes;
  for (const LoraRecord& lora : loras) {
    pairs.add(fmt::format("LoRA {}", lora.role),
              fmt::format("{}@{}{}{}", lora.file.stem().string(), lora.weight,
                          lora.blocks.empty() ? "" : ":", lora.blocks));
    hashes += fmt::format("{}{}: {}", hashes.empty() ? "" : ", ", lora.file.stem().string(),
                          lora.sha256.substr(0, 12));
  }
  if (!merge_method.empty()) pairs.add("LoRA merge", merge_method);
  std::vector<std::string> mole;
  for (const ExpertRecord& expert : experts) {
    if (expert.name != kGatesRecord)
      mole.push_back(fmt::format("{}@{}", expert.name, expert.weight));
    hashes += fmt::format("{}{}: {}", hashes.empty() ? "" : ", ", expert.file.stem().string(),
                          expert.sha256.substr(0, 12));
  }
  if (!mole.empty()) pairs.add("MoLE", fmt::format("{}", fmt::join(mole, " ")));
  if (!hashes.empty()) pairs.add("Lora hashes", hashes);
  pairs.add("Version", fmt::format("molar {}", molar_version()));

  std::string text = request.prompt;
  if (request.negative_prompt && !request.negative_prompt->empty())
    text += "\nNegative prompt: " + *request.negative_prompt;
  return text + "\n" + pairs.text();
}

PngText RunRecord::png_text() const {
  return {{"parameters", parameters_text()}, {kChunk, dump_json(to_json())}};
}

RecordedRequest read_recorded_request(const std::filesystem::path& png) {
  for (const auto& [keyword, text] : read_png_text(png)) {
    if (keyword != kChunk) continue;
    const std::string source = fmt::format("the molar record of '{}'", png.string());
    try {
      const Json json = parse_json(text, source);
      if (!json.is_object() || !json.contains("schema"))
        throw InputError("wanted a JSON object with a schema");
      if (json["schema"] != kSchema)
        throw InputError(
            fmt::format("schema {}, this version reads {}", dump_json(json["schema"]), kSchema));
      RecordedRequest recorded{GenerationRequest::from_json(json.at("request")),
                               model_from_json(json.at("model"))};
      // Drawn before there were experts: the picture has none, whatever lies beside the model now.
      if (!json.at("request").contains("no-mole")) recorded.request.mole.off = true;
      return recorded;
    } catch (const Json::exception&) {
      throw InputError(fmt::format("{} lacks the request or the model", source));
    } catch (const Error& error) {
      throw InputError(fmt::format("{}: {}", source, error.what()));
    }
  }
  throw InputError(
      fmt::format("'{}' carries no molar record; wanted a picture that molar made", png.string()));
}

}  // namespace molar
