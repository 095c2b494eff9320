#include "molar/pipeline/stable_diffusion_pipeline.h"

#include <limits>

#include "pipeline_goldens.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar {
namespace {

using test::expect_error;

std::vector<Picture> draw(const std::filesystem::path& model, const GenerationRequest& request,
                          const CancellationToken& cancellation = {}) {
  NoProgress progress;
  std::vector<Picture> pictures;
  StableDiffusionPipeline::open({.model = model, .compute = test::kFloat32})
      .generate(request, {progress, cancellation},
                [&](Picture picture) { pictures.push_back(std::move(picture)); });
  return pictures;
}

GenerationRequest short_request() {
  GenerationRequest request;
  request.prompt = "a dog";
  request.num_steps = 2;
  return request;
}

/// A copy of the tiny SD 1.5 in which one tensor of one component is `value` throughout.
std::filesystem::path spoiled_model(const test::TempFolder& folder, const std::string& component,
                                    const std::string& tensor, double value) {
  const std::filesystem::path model = folder / "model";
  std::filesystem::copy(test::goldens() / "models/sd15-tiny", model,
                        std::filesystem::copy_options::recursive);
  const std::filesystem::path file = model / component / "diffusion_pytorch_model.safetensors";
  StateDict tensors =
      SafetensorsFile::open(test::goldens() / "models/sd15-tiny" / component / file.filename())
          .state_dict();
  tensors.at(tensor) = at::full_like(tensors.at(tensor), value);
  write_safetensors(file, OnExist::kOverwrite, tensors, {});
  return model;
}

class StableDiffusionPipelineGolden : public test::PipelineGolden {};
MOLAR_FOR_EVERY_PIPELINE_CASE(StableDiffusionPipelineGolden);

TEST_P(StableDiffusionPipelineGolden, DrawsDiffusersPictures) {
  const std::vector<Picture> pictures = draw(case_.model, case_.request);
  ASSERT_EQ(static_cast<int64_t>(pictures.size()), case_.request.count);
  for (int64_t i = 0; i < case_.request.count; ++i) {
    const Picture& picture = pictures[static_cast<size_t>(i)];
    EXPECT_TRUE(test::is_same_picture(picture.pixels, case_.pixels(i))) << "picture " << i;
    EXPECT_EQ(picture.record.request.seed, case_.seed(i));
    EXPECT_EQ(picture.record.num_chunks * 77, case_.golden.at("encoder_hidden_states").size(1));
    EXPECT_EQ(static_cast<int64_t>(picture.timings.step_s.size()), case_.latents(i).size(0) - 1);
  }
}

TEST(StableDiffusionPipeline, WeightsThatAreNoNumbersEndInAPictureError) {
  struct Row {
    const char *component, *tensor, *message;
  };
  for (const Row& row : {Row{"unet", "conv_out.bias", "the latents became NaN or infinite"},
                         Row{"vae", "decoder.conv_out.bias", "the VAE made NaN or infinite"}}) {
    const test::TempFolder folder;
    const auto model =
        spoiled_model(folder, row.component, row.tensor, std::numeric_limits<double>::quiet_NaN());
    NoProgress progress;
    const CancellationToken cancellation;
    auto pipeline = StableDiffusionPipeline::open({.model = model, .compute = test::kFloat32});
    const auto generate = [&] {
      pipeline.generate(short_request(), {progress, cancellation},
                        [](const Picture&) { ADD_FAILURE() << "the sink got a broken picture"; });
    };
    expect_error<PictureError>(generate, {row.message});  // exit code 7
  }
}

TEST(StableDiffusionPipeline, TooLongAPromptIsRefused) {
  GenerationRequest request = short_request();
  for (int i = 0; i < 300 * 75; ++i) request.prompt += " dog";
  expect_error<InputError>([&] { draw(test::goldens() / "models/sd15-tiny", request); },
                           {"--prompt", "256 chunks", "found 301"});
}

TEST(StableDiffusionPipeline, StopsWhenAsked) {
  CancellationToken cancellation;
  cancellation.request();
  EXPECT_THROW(draw(test::goldens() / "models/sd15-tiny", short_request(), cancellation),
               StoppedError);
}

TEST(StableDiffusionPipeline, PlanIsTheRequestWithItsDefaults) {
  const auto pipeline = StableDiffusionPipeline::open(
      {.model = test::goldens() / "models/sd21-tiny", .compute = test::kFloat32});
  GenerationRequest request = short_request();
  EXPECT_EQ(pipeline.plan(request).width_px, 64);  // 32 latents of 2 pixels
  EXPECT_FALSE(pipeline.plan(request).strength.has_value());
  request.init_image = test::goldens() / "pipeline/pictures/large.png";  // 90 x 120
  request.num_steps = 10;
  EXPECT_EQ(pipeline.plan(request).width_px, 88);
  EXPECT_EQ(pipeline.plan(request).height_px, 120);
  EXPECT_EQ(pipeline.plan(request).strength, 0.8);
  request.mask = test::goldens() / "pipeline/pictures/disc.png";
  EXPECT_EQ(pipeline.plan(request).strength, 1.0);
}

TEST(StableDiffusionPipeline, RefusesWhatTheModelCannotDo) {
  const auto open = [](const std::string& name) {
    return StableDiffusionPipeline::open(
        {.model = test::goldens() / "models" / name, .compute = test::kFloat32});
  };
  GenerationRequest request = short_request();
  expect_error<ConfigError>([&] { open("sd15-inpaint-tiny").plan(request); },
                            {"inpainting model", "--init-image and --mask"});
  request.prompt_2 = "a cat";
  expect_error<ConfigError>([&] { open("sd15-tiny").plan(request); }, {"--prompt-2", "SD 1.x"});
}

/// Pictures of `requests` drawn side by side by a pipeline that keeps its models.
std::vector<Tensor> draw_together(StableDiffusionPipeline& pipeline,
                                  const std::vector<GenerationRequest>& requests) {
  NoProgress progress;
  const CancellationToken cancellation;
  std::vector<Tensor> pixels(requests.size());
  pipeline.generate_together(
      requests, {progress, cancellation},
      [&](size_t index, Picture picture) { pixels[index] = std::move(picture.pixels); });
  return pixels;
}

TEST(StableDiffusionPipeline, SideBySideEveryPictureHasTheBitsThatItHasAlone) {
  for (const char* name : {"sd15_lora_pair", "sdxl_weights"}) {
    const test::PipelineCase golden = test::pipeline_case(name);
    auto pipeline =
        StableDiffusionPipeline::open({.model = golden.model, .compute = test::kFloat32},
                                      {.keep_loaded = true, .cache_bytes = int64_t{1} << 20});
    // With and without LoRAs in turn, so that the models that stay change hands; with guidance and
    // without; prompts of one chunk and of two.
    for (const bool with_loras : {true, false, true})
      for (const double scale : {7.5, 1.0}) {
        std::vector<GenerationRequest> requests;
        for (const std::string prompt : {"a dog", "a cat", "a red house BREAK at night", "a dog"}) {
          GenerationRequest request = short_request();
          request.prompt = prompt;
          request.seed = 5 + requests.size();
          request.guidance_scale = scale - 0.1 * static_cast<double>(requests.size());
          if (with_loras) request.adapters = golden.request.adapters;
          requests.push_back(std::move(request));
        }
        const std::vector<Tensor> together = draw_together(pipeline, requests);
        for (size_t i = 0; i < requests.size(); ++i)
          EXPECT_TRUE(together[i].equal(draw(golden.model, requests[i]).front().pixels))
              << golden.name << ", LoRAs " << with_loras << ", scale " << scale << ", picture "
              << i;
      }
  }
}

TEST(StableDiffusionPipeline, CheckFindsWhatPlanDoesWithoutTheMerge) {
  const test::PipelineCase golden = test::pipeline_case("sd15_lora_pair");
  const auto pipeline = StableDiffusionPipeline::open(
      {.model = golden.model, .compute = test::kFloat32}, {.cache_bytes = 1 << 20});
  const CheckedRequest checked = pipeline.check(golden.request);
  EXPECT_EQ(checked.request.to_json(), pipeline.plan(golden.request).to_json());
  ASSERT_EQ(checked.loras.size(), 2U);
  EXPECT_EQ(checked.loras[0].role, "subject");
  EXPECT_EQ(checked.loras[1].sha256.size(), 64U);
  GenerationRequest request = golden.request;
  request.adapters.style->file = "none.safetensors";
  expect_error<FileError>([&] { pipeline.check(request); }, {"none.safetensors"});
}

TEST(StableDiffusionPipeline, TheModelsHashIsOfItsFiles) {
  const test::TempFolder folder;
  const auto hash = [](const std::filesystem::path& model) {
    return StableDiffusionPipeline::open({.model = model, .compute = test::kFloat32})
        .model_sha256();
  };
  const std::string original = hash(test::goldens() / "models/sd15-tiny");
  EXPECT_EQ(original.size(), 64U);
  const auto model = spoiled_model(folder, "unet", "conv_out.bias", 0.5);
  EXPECT_NE(hash(model), original);
  EXPECT_EQ(hash(model), hash(model));
}

}  // namespace
}  // namespace molar
