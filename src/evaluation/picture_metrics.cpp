#include "molar/evaluation/picture_metrics.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "molar/models/model_loader.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kBatch = 32;

struct ModelFolder {
  Json config;
  StateDict weights;
};

/// preprocessor_config.json, or within what transformers 5 writes for a model of pictures and
/// texts.
ImageProcessor open_processor(const fs::path& folder) {
  const fs::path whole = folder / "processor_config.json";
  if (const fs::path own = folder / "preprocessor_config.json";
      fs::exists(own) || !fs::exists(whole))
    return ImageProcessor::from_json(read_json_file(own), own.string());
  const std::string source = whole.string();
  const Json json = read_json_file(whole);
  if (!json.is_object() || !json.contains("image_processor"))
    throw FileError(fmt::format("{}: 'image_processor' is missing", source));
  return ImageProcessor::from_json(json.at("image_processor"), source + ": image_processor");
}

ModelFolder open_folder(const fs::path& folder) {
  const fs::path config = folder / "config.json";
  if (!fs::exists(config))
    throw FileError(
        fmt::format("'{}' is no transformers model: config.json is missing", folder.string()));
  return {read_json_file(config), SafetensorsFile::open(folder / "model.safetensors").state_dict()};
}

/// The part of a whole model whose names start with one of `prefixes`.
Component part(const ModelFolder& model, const fs::path& folder, const std::string& name,
               const std::vector<std::string>& prefixes) {
  Component component{
      .name = name, .source = folder.string(), .config = model.config, .weights = {}};
  for (const auto& [key, tensor] : model.weights)
    if (std::ranges::any_of(prefixes, [&](const auto& prefix) { return key.starts_with(prefix); }))
      component.weights[key] = tensor;
  return component;
}

Tensor unit_length(const Tensor& embeddings) {
  return embeddings / embeddings.norm(2, /*dim=*/-1, /*keepdim=*/true);
}

/// Batch by batch: [N, D] of length 1, float32 on the CPU.
Tensor embed_in_batches(const std::vector<Tensor>& pictures, const ImageProcessor& processor,
                        at::Device device, const std::function<Tensor(const Tensor&)>& encode) {
  const c10::InferenceMode inference;
  std::vector<Tensor> embeddings;
  for (auto at = pictures.begin(); at != pictures.end();) {
    const auto count = std::min<std::ptrdiff_t>(kBatch, pictures.end() - at);
    std::vector<Tensor> batch;
    for (auto end = at + count; at != end; ++at) batch.push_back(processor.process(*at));
    embeddings.push_back(unit_length(encode(at::stack(batch).to(device)).to(at::kCPU)));
  }
  return at::cat(embeddings);
}

}  // namespace

ImageTextPair ImageTextPair::load(const fs::path& folder, at::Device device,
                                  PictureProtocol protocol) {
  const ModelFolder model = open_folder(folder);
  const std::string source = (folder / "config.json").string();
  const LoadOptions options{.device = device, .dtype = at::kFloat};
  const auto vision = CLIPVisionConfig::from_json(model.config, source);
  ImageTextPair pair(CLIPTokenizer::load({.folder = folder}),
                     protocol == PictureProtocol::kHpsV2 ? ImageProcessor::hps_v2(vision.image_size)
                                                         : open_processor(folder));
  pair.vision_ = CLIPVisionModel(vision);
  load_weights(*pair.vision_, part(model, folder, "clip", {"vision_model.", "visual_projection."}),
               options, {"vision_model.embeddings.position_ids"});
  Json text = model.config.value("text_config", Json::object());
  text["architectures"] = {"CLIPTextModelWithProjection"};
  text["projection_dim"] = model.config.value("projection_dim", 512);
  pair.text_ = CLIPTextModel(CLIPTextConfig::from_json(text, source + ": text_config"));
  load_weights(*pair.text_, part(model, folder, "clip", {"text_model.", "text_projection."}),
               options, {"text_model.embeddings.position_ids"});
  return pair;
}

Tensor ImageTextPair::embed_pictures(const std::vector<Tensor>& pictures) {
  return embed_in_batches(pictures, processor_, text_->device(),
                          [this](const Tensor& pixels) { return vision_(pixels); });
}

Tensor ImageTextPair::embed_texts(const std::vector<std::string>& texts) {
  const c10::InferenceMode inference;
  constexpr int64_t kLength = CLIPTokenizer::kModelMaxLength;
  std::vector<Tensor> rows;
  for (const std::string& text : texts) {
    std::vector<int64_t> ids = tokenizer_.encode(text);
    ids.resize(std::min<size_t>(ids.size(), kLength - 2));
    ids.insert(ids.begin(), tokenizer_.bos_token_id());
    ids.push_back(tokenizer_.eos_token_id());
    ids.resize(kLength, tokenizer_.pad_token_id());
    rows.push_back(at::tensor(ids, at::kLong));
  }
  return unit_length(text_->forward(at::stack(rows).to(text_->device())).text_embeds.to(at::kCPU));
}

SelfSupervisedEncoder SelfSupervisedEncoder::load(const fs::path& folder, at::Device device) {
  const ModelFolder model = open_folder(folder);
  SelfSupervisedEncoder encoder(open_processor(folder));
  encoder.device_ = device;
  encoder.model_ =
      DinoModel(DinoConfig::from_json(model.config, (folder / "config.json").string()));
  load_weights(*encoder.model_, part(model, folder, "dino", {""}),
               {.device = device, .dtype = at::kFloat},
               {"pooler.dense.weight", "pooler.dense.bias", "embeddings.mask_token"});
  return encoder;
}

Tensor SelfSupervisedEncoder::embed_pictures(const std::vector<Tensor>& pictures) {
  return embed_in_batches(pictures, processor_, device_,
                          [this](const Tensor& pixels) { return model_(pixels); });
}

}  // namespace molar
