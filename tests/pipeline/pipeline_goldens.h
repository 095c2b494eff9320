/// The cases of tests/goldens/pipeline, and what each of their stages needs.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "molar/io/checkpoint.h"
#include "molar/io/safetensors.h"
#include "molar/models/clip_tokenizer.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"
#include "molar/pipeline/adapter_stack.h"
#include "molar/pipeline/generation_request.h"
#include "molar/pipeline/initial_latents.h"
#include "molar/pipeline/picture_codec.h"
#include "molar/schedulers/scheduler.h"
#include "support/expect_close.h"

namespace molar::test {

inline std::filesystem::path goldens() { return MOLAR_TEST_DATA_DIR; }
inline const ComputeOptions kFloat32{.device = at::kCPU, .dtype = at::kFloat};

/// One case: what is asked of which model, and every stage's result as diffusers computed it.
struct PipelineCase {
  std::string name;
  std::filesystem::path model;
  GenerationRequest request;
  StateDict golden;  // names: scripts/reference/make_pipeline_goldens.py

  std::string picture_key(const char* stage, int64_t picture) const {
    return std::string(stage) + "/" + std::to_string(picture);
  }
  const Tensor& latents(int64_t picture) const {  // [S + 1, C, h, w]
    return golden.at(picture_key("latents", picture));
  }
  const Tensor& pixels(int64_t picture) const { return golden.at(picture_key("picture", picture)); }
  uint64_t seed(int64_t picture) const { return request.seed + static_cast<uint64_t>(picture); }
};

inline Json pipeline_manifest() { return read_json_file(goldens() / "pipeline/MANIFEST.json"); }

inline std::vector<std::string> pipeline_case_names() {
  const Json manifest = pipeline_manifest();
  std::vector<std::string> names;
  for (const Json& one : manifest.at("cases")) names.push_back(one.at("name"));
  return names;
}

inline PipelineCase pipeline_case(const std::string& name) {
  const Json manifest = pipeline_manifest();
  for (const Json& one : manifest.at("cases")) {
    if (one.at("name") != name) continue;
    PipelineCase found{
        name, goldens() / one.at("model").get<std::string>(),
        GenerationRequest::from_json(one.at("request")),
        SafetensorsFile::open(goldens() / "pipeline" / (name + ".safetensors")).state_dict()};
    GenerationRequest& request = found.request;
    for (std::filesystem::path* path : {&request.init_image, &request.mask})
      if (!path->empty()) *path = goldens() / *path;
    for (std::optional<LoraUse>* role : {&request.adapters.subject, &request.adapters.style})
      if (*role) (*role)->file = goldens() / (*role)->file;
    return found;
  }
  throw std::runtime_error("no golden of the pipeline is called " + name);
}

/// An opened model whose modules hold the case's LoRAs.
struct LoadedModel {
  Checkpoint checkpoint;
  UNet2DConditionModel unet{nullptr};
  std::vector<CLIPTextModel> encoders;
  std::vector<CLIPTokenizer> tokenizers;

  explicit LoadedModel(const std::filesystem::path& model)
      : checkpoint(open_checkpoint(model, {})),
        unet(load_unet(checkpoint.component("unet"), kFloat32)) {
    for (const std::string suffix : {"", "_2"}) {
      if (!checkpoint.has("text_encoder" + suffix)) continue;
      encoders.push_back(
          load_text_encoder(checkpoint.component("text_encoder" + suffix), kFloat32));
      tokenizers.push_back(CLIPTokenizer::load(checkpoint.tokenizers.at("tokenizer" + suffix)));
    }
  }

  bool is_sdxl() const { return checkpoint.family == ModelFamily::kSdxl; }

  ModelLayers layers() const {
    ModelLayers all{checkpoint.family, {{"unet", adaptable_layers(*unet)}}};
    for (size_t i = 0; i < encoders.size(); ++i)
      all.components[i == 0 ? "text_encoder" : "text_encoder_2"] = adaptable_layers(*encoders[i]);
    return all;
  }

  void fuse(const AdapterRequest& request) {
    const AdapterStack stack(request, layers());
    for (const auto& [component, index] : layers().components)
      stack.fuse_into(component, index, weights_from_checkpoint(checkpoint, kFloat32));
  }
};

/// The scheduler that the pipeline would take, and where it would start in it.
struct CaseSchedule {
  std::unique_ptr<const Scheduler> scheduler;
  size_t first_evaluation = 0;

  CaseSchedule(const Checkpoint& checkpoint, const GenerationRequest& request) {
    const PipelineKind kind = checkpoint.family == ModelFamily::kSdxl ? PipelineKind::kXl
                              : !request.mask.empty()                 ? PipelineKind::kInpaint
                              : !request.init_image.empty()           ? PipelineKind::kImageToImage
                                                                      : PipelineKind::kTextToImage;
    const SchedulerConfig own = apply_pipeline_fixes(
        SchedulerConfig::from_json(checkpoint.scheduler_config, "scheduler_config.json"), kind);
    scheduler =
        make_scheduler(request.sampler.empty() ? own : config_for_sampler(request.sampler, own),
                       {.num_steps = request.num_steps, .eta = request.eta});
    if (request.strength)
      first_evaluation = molar::first_evaluation(*scheduler, request.num_steps, *request.strength);
  }
};

/// Within one grey level, and equal nearly everywhere: numbers that differ in their last bits round
/// to two levels now and then, a wrong rounding does so in every other pixel.
inline testing::AssertionResult is_same_picture(const Tensor& pixels, const Tensor& wanted) {
  const auto close = is_close(pixels, wanted, {.atol = 1.0, .rtol = 0.0});
  if (!close) return close;
  const double share = pixels.ne(wanted).to(at::kDouble).mean().item<double>();
  if (share <= 0.1) return testing::AssertionSuccess();
  return testing::AssertionFailure() << share << " of all values differ by one grey level";
}

/// Runs once for every case of the manifest, under its name.
class PipelineGolden : public testing::TestWithParam<std::string> {
 protected:
  const at::NoGradGuard no_grad_;
  const PipelineCase case_ = pipeline_case(GetParam());
};

#define MOLAR_FOR_EVERY_PIPELINE_CASE(suite)                                                   \
  INSTANTIATE_TEST_SUITE_P(Case, suite, testing::ValuesIn(molar::test::pipeline_case_names()), \
                           [](const auto& row) { return row.param; })

}  // namespace molar::test
