#include "molar/training/lora_training_options.h"

#include <limits>

#include "molar/training/learning_rate.h"
#include "training_fixtures.h"

namespace molar {
namespace {

using namespace test;

LoraTrainingOptions valid() {
  LoraTrainingOptions options = quick_options();
  options.output = "dog.safetensors";
  return options;
}

TEST(LoraTrainingOptions, NameWhatIsWrong) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  using Change = void (*)(LoraTrainingOptions&);
  const std::pair<Change, const char*> kMistakes[] = {
      {[](auto& o) { o.instance.folder.clear(); }, "--instance-images"},
      {[](auto& o) { o.output.clear(); }, "-o FILE"},
      {[](auto& o) { o.output = "dog.pt"; }, ".safetensors"},
      {[](auto& o) { o.targets.clear(); }, "--target"},
      {[](auto& o) { o.rank = 0; }, "--rank 0: wanted 1 to"},
      {[](auto& o) { o.num_steps = 0; }, "--steps 0"},
      {[](auto& o) { o.batch_size = 0; }, "--batch-size 0"},
      {[](auto& o) { o.gradient_accumulation = -1; }, "--gradient-accumulation -1"},
      {[](auto& o) { o.warmup_steps = -1; }, "--warmup-steps -1"},
      {[](auto& o) { o.warmup_steps = o.num_steps; }, "--warmup-steps 6: wanted fewer"},
      {[](auto& o) { o.resolution_px = 0; }, "--resolution 0"},
      {[](auto& o) { o.checkpoint_every = -1; }, "--checkpoint-every -1"},
      {[](auto& o) { o.sample_every = -1; }, "--sample-every -1"},
      {[](auto& o) { o.alpha = 0; }, "--alpha 0: wanted a number above 0"},
      {[](auto& o) { o.learning_rate = -1; }, "--learning-rate -1: wanted a number of at least 0"},
      {[](auto& o) { o.learning_rate = kNan; }, "--learning-rate nan"},
      {[](auto& o) { o.beta1 = 1; }, "--beta1 1: wanted a number of at least 0 and below 1"},
      {[](auto& o) { o.beta2 = 2; }, "--beta2 2"},
      {[](auto& o) { o.weight_decay = -1; }, "--weight-decay -1"},
      {[](auto& o) { o.epsilon = 0; }, "--epsilon 0"},
      {[](auto& o) { o.max_grad_norm = -1; }, "--max-grad-norm -1"},
      {[](auto& o) { o.min_snr_gamma = 0; }, "--min-snr-gamma 0"},
      {[](auto& o) { o.proportion_empty_prompts = 1; },
       "--proportion-empty-prompts 1: wanted a number of at least 0 and below 1"},
      {[](auto& o) { o.prior_weight = -1; }, "--prior-weight -1"},
      {[](auto& o) { o.compute.dtype = at::kHalf; }, "--dtype f16"},
  };
  EXPECT_NO_THROW(valid().validate());
  for (const auto& [change, says] : kMistakes) {
    LoraTrainingOptions options = valid();
    change(options);
    expect_error<ConfigError>([&] { options.validate(); }, {says});
  }
}

TEST(LoraTrainingOptions, TargetsHaveNames) {
  for (const std::string& name : lora_target_names())
    EXPECT_EQ(lora_target_names()[static_cast<size_t>(parse_lora_target(name))], name);
  expect_error<ConfigError>([] { parse_lora_target("atention"); }, {"'atention'", "attention"});
}

/// Numbers of diffusers' get_scheduler("cosine", num_warmup_steps=2, num_training_steps=6).
TEST(LearningRate, IsDiffusersSchedule) {
  LoraTrainingOptions options = valid();
  options.learning_rate = 1.0;
  options.warmup_steps = 2;
  options.schedule = LearningRateSchedule::kCosine;
  const double cosine[] = {0.0, 0.5, 1.0, 0.8535533905932737, 0.5, 0.14644660940672627};
  for (int64_t step = 0; step < 6; ++step)
    EXPECT_NEAR(learning_rate_at(options, step), cosine[step], 1e-12);
  options.schedule = LearningRateSchedule::kConstant;
  const double constant[] = {0.0, 0.5, 1.0, 1.0, 1.0, 1.0};
  for (int64_t step = 0; step < 6; ++step)
    EXPECT_EQ(learning_rate_at(options, step), constant[step]);
}

}  // namespace
}  // namespace molar
