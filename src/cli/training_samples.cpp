#include "training_samples.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "molar/core/error.h"
#include "molar/io/image.h"
#include "molar/pipeline/stable_diffusion_pipeline.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMaxSampleSteps = 1000;

}  // namespace

SampleDrawer::SampleDrawer(const PictureTrainingFlags& flags, const PictureTrainingOptions& options,
                           fs::path place, const std::optional<std::string>& prompt)
    : place_(std::move(place)), prompts_(flags.sample_prompts) {
  take_model(flags.model, model_);
  model_.compute = options.compute;
  if (prompts_.empty() && prompt) prompts_ = {*prompt};
  if (prompts_.empty() && options.sample_every > 0)
    throw ConfigError("--sample-every without --sample-prompt TEXT or --instance-prompt TEXT");
  if (options.sample_every == 0 && !flags.sample_prompts.empty())
    throw ConfigError("--sample-prompt without --sample-every N");
  request_.num_steps = flags.sample_steps.value_or(kSampleSteps);
  if (request_.num_steps < 1 || request_.num_steps > kMaxSampleSteps)
    throw ConfigError(
        fmt::format("--sample-steps {}: wanted 1 to {}", request_.num_steps, kMaxSampleSteps));
  request_.seed = options.seed;
  request_.prompt_syntax = PromptSyntax::kPlain;  // as captions are read
  request_.width_px = request_.height_px = options.resolution_px;
}

void SampleDrawer::draw(int64_t step, const CancellationToken& cancellation,
                        const AttachSample& attach) try {
  const fs::path stem =
      place_.parent_path() / fmt::format("{}-step{:06}", place_.filename().string(), step);
  GenerationRequest request = request_;
  attach(stem, request);
  NoProgress no_progress;
  StableDiffusionPipeline pipeline = StableDiffusionPipeline::open(model_);
  for (size_t i = 0; i < prompts_.size(); ++i) {
    request.prompt = prompts_[i];
    pipeline.generate(request, {no_progress, cancellation}, [&](const Picture& picture) {
      const std::string ending = prompts_.size() > 1 ? fmt::format("-{}.png", i) : ".png";
      const std::string png = encode_png(picture.pixels, picture.record.png_text());
      const fs::path path = write_file_atomically(stem.string() + ending, OnExist::kOverwrite,
                                                  [&](const ByteSink& sink) { sink(png); })
                                .path;
      spdlog::info("step {}: drew '{}'", step, path.string());
    });
  }
} catch (const StoppedError&) {
  // A stop that was asked for leaves the rest out; the training then stops itself.
} catch (const PictureError& error) {
  spdlog::warn("step {}: no sample picture: {}", step, error.what());
}

}  // namespace molar::cli
