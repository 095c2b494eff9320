#include "molar/training/lora_trainer.h"

#include "training_fixtures.h"
#include "training_model.h"

namespace molar {
namespace {

using namespace test;

/// Options of a case of tests/goldens/training/cases.json.
LoraTrainingOptions golden_options(const Json& fields) {
  LoraTrainingOptions o = quick_options();
  if (fields.at("classes").get<bool>())
    o.classes = PictureSource{golden("training/class"), "a photo of a dog"};
  o.rank = fields.at("rank");
  o.num_steps = fields.at("steps");
  o.learning_rate = fields.at("learning_rate");
  o.targets.clear();
  for (const Json& name : fields.at("target"))
    o.targets.insert(parse_lora_target(name.get<std::string>()));
  if (fields.contains("alpha")) o.alpha = fields.at("alpha").get<double>();
  if (fields.contains("min_snr_gamma")) o.min_snr_gamma = fields.at("min_snr_gamma").get<double>();
  if (fields.value("lr_scheduler", "constant") == "cosine")
    o.schedule = LearningRateSchedule::kCosine;
  o.batch_size = fields.value("batch_size", o.batch_size);
  o.gradient_accumulation = fields.value("gradient_accumulation", o.gradient_accumulation);
  o.warmup_steps = fields.value("warmup_steps", o.warmup_steps);
  o.prior_weight = fields.value("prior_weight", o.prior_weight);
  o.weight_decay = fields.value("weight_decay", o.weight_decay);
  o.beta1 = fields.value("beta1", o.beta1);
  o.beta2 = fields.value("beta2", o.beta2);
  o.epsilon = fields.value("epsilon", o.epsilon);
  o.max_grad_norm = fields.value("max_grad_norm", o.max_grad_norm);
  o.flip = fields.value("flip", o.flip);
  o.proportion_empty_prompts = fields.value("proportion_empty_prompts", o.proportion_empty_prompts);
  o.seed = fields.value("seed", o.seed);
  return o;
}

void expect_golden(LoraTrainer& trainer, const StateDict& wanted) {
  const Tensor& losses = wanted.at("losses");
  for (int64_t i = 0; i < losses.size(0); ++i) {
    const double loss = losses[i].item<double>();
    // Ten times better than the agreement that is promised for full-size models.
    EXPECT_NEAR(trainer.advance().loss, loss, 1e-4 * loss) << "step " << i + 1;
  }
  const LoraWeights lora = trainer.lora();
  ASSERT_EQ(lora.layers.size() * 2 + 1, wanted.size());
  for (const auto& [name, layer] : lora.layers) {
    const std::string key = name.component + "/" + name.module;
    // AdamW divides by the root of the squared gradient: where that is about 0, the sign of an
    // update hangs on the last bits. 2 % of the largest number covers it.
    for (const auto& [factor, tensor] :
         {std::pair("/down", factors_of(lora, name).down), {"/up", factors_of(lora, name).up}}) {
      const Tensor& golden_factor = wanted.at(key + factor);
      const double largest = golden_factor.abs().max().item<double>();
      EXPECT_TRUE(is_close(tensor, golden_factor, {.atol = 0.02 * largest, .rtol = 1e-3}))
          << key << factor;
    }
  }
}

TEST(LoraTrainer, LearnsWhatDiffusersAndPeftLearn) {
  const Json cases = read_json_file(golden("training/cases.json"));
  ASSERT_GE(cases.size(), 4U);
  for (const Json& fields : cases) {
    SCOPED_TRACE(fields.at("name").get<std::string>());
    const Checkpoint checkpoint = open_tiny(fields.at("model"));
    const auto file = fields.at("name").get<std::string>() + ".safetensors";
    QuietTrainer quiet(golden_options(fields), checkpoint);
    expect_golden(quiet.trainer, SafetensorsFile::open(golden("training/" + file)).state_dict());
  }
}

TEST(LoraTrainer, GradientCheckpointingChangesNothingButTheMemory) {
  const Checkpoint checkpoint = open_tiny("sdxl-tiny");
  LoraTrainingOptions options = quick_options();
  // Attention alone: the first blocks of SDXL have none, so nothing in them learns.
  for (const std::set<LoraTarget>& targets :
       {std::set{LoraTarget::kAttention},
        {LoraTarget::kAttention, LoraTarget::kConvolution, LoraTarget::kTextEncoder}}) {
    options.targets = targets;
    options.gradient_checkpointing = false;
    QuietTrainer kept(options, checkpoint);
    options.gradient_checkpointing = true;
    QuietTrainer recomputed(options, checkpoint);
    for (int i = 0; i < 3; ++i) {
      const TrainingStep a = kept.trainer.advance(), b = recomputed.trainer.advance();
      EXPECT_NEAR(a.loss, b.loss, 1e-5 * a.loss);  // gradients are summed in another order
      EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-4 * a.grad_norm);
    }
  }
}

TEST(LoraTrainer, GoesOnFromItsStateAsIfNothingHadHappened) {
  const Checkpoint checkpoint = open_tiny("sdxl-tiny");
  LoraTrainingOptions options = quick_options();
  options.targets = {LoraTarget::kAttention, LoraTarget::kTextEncoder};
  options.flip = true;
  QuietTrainer whole(options, checkpoint), first(options, checkpoint);
  for (int i = 0; i < 3; ++i) {
    whole.trainer.advance();
    first.trainer.advance();
  }
  StateDict state;  // as from a file: `first` goes on changing its own
  for (const auto& [name, tensor] : first.trainer.state()) state[name] = tensor.clone();
  QuietTrainer second(options, checkpoint);
  second.trainer.restore(state, 3);
  for (int i = 0; i < 3; ++i) {
    const TrainingStep a = whole.trainer.advance(), b = second.trainer.advance();
    EXPECT_EQ(a.step, b.step);
    EXPECT_EQ(a.loss, b.loss);
  }
  expect_equal_factors(whole.trainer.lora(), second.trainer.lora());
}

TEST(LoraTrainer, RefusesTheStateOfAnotherTraining) {
  const Checkpoint checkpoint = open_tiny("sd15-tiny");
  QuietTrainer quiet(quick_options(), checkpoint);
  StateDict state = quiet.trainer.state();
  state.begin()->second = torch::zeros({1});
  expect_error<FileError>([&] { quiet.trainer.restore(state, 1); },
                          {state.begin()->first, "missing or not"});
}

TEST(LoraTrainer, NanEndsTheTrainingAndChangesNothing) {
  const Checkpoint checkpoint = open_tiny("sd15-tiny");
  LoraTrainingOptions options = quick_options();
  options.learning_rate = 1e30;
  QuietTrainer quiet(options, checkpoint);
  quiet.trainer.advance();  // the factors are huge now
  expect_error<PictureError>([&] { quiet.trainer.advance(); }, {"step 2", "--learning-rate"});
  EXPECT_EQ(quiet.trainer.num_steps_done(), 1);
}

TEST(LoraTrainer, RefusesAnInpaintingModel) {
  const Checkpoint checkpoint = open_tiny("sd15-inpaint-tiny");
  expect_error<FileError>([&] { QuietTrainer(quick_options(), checkpoint); },
                          {"9 input channels", "inpainting"});
}

/// Stops a training while it is at what is called `stage`.
class StopAt : public ProgressSink {
 public:
  StopAt(CancellationToken& cancellation, std::string_view stage)
      : cancellation_(cancellation), stage_(stage) {}
  void begin(std::string_view stage, int64_t) override {
    if (stage == stage_) cancellation_.request();
  }
  void advance() override { EXPECT_FALSE(cancellation_.requested()) << "went on with " << stage_; }
  void end() override {}

 private:
  CancellationToken& cancellation_;
  std::string stage_;
};

TEST(LoraTrainer, StopsWhileEncodingWhenAsked) {
  const Checkpoint checkpoint = open_tiny("sd15-tiny");
  const LoraTrainingOptions options = quick_options();
  for (const char* stage : {"encoding captions", "encoding pictures"}) {
    CancellationToken cancellation;
    StopAt progress(cancellation, stage);
    EXPECT_THROW(LoraTrainer(options, checkpoint, pictures_of(options), progress, cancellation),
                 StoppedError);
  }
}

TEST(LoraTrainer, TrainsInBfloat16WithFactorsInFloat32) {
  const Checkpoint checkpoint = open_tiny("sd15-tiny");
  LoraTrainingOptions options = quick_options();
  QuietTrainer exact(options, checkpoint);
  options.compute.dtype = at::kBFloat16;
  QuietTrainer rounded(options, checkpoint);
  for (int i = 0; i < 3; ++i) {
    const double loss = exact.trainer.advance().loss;
    EXPECT_NEAR(rounded.trainer.advance().loss, loss, 0.1 * loss);
  }
  EXPECT_EQ(rounded.trainer.lora().layers.begin()->second.tensors().front().scalar_type(),
            at::kFloat);
}

TEST(LoraTrainer, LongCaptionsAreEncodedWhole) {
  const TempFolder folder;
  std::filesystem::copy(golden("training/instance/0.png"), folder / "0.png");
  const Checkpoint checkpoint = open_tiny("sd15-tiny");
  LoraTrainingOptions options = quick_options();
  options.instance.folder = folder.path();
  std::string long_caption;
  for (int i = 0; i < 80; ++i) long_caption += "dog ";
  const auto loss_with = [&](const std::string& caption) {
    folder.file("0.txt", caption);
    QuietTrainer quiet(options, checkpoint);
    return quiet.trainer.advance().loss;
  };
  EXPECT_NE(loss_with(long_caption + "cat"), loss_with(long_caption + "bird"));
}

TEST(Resolution, IsTheModelsOwnOrAWholeNumberOfLatents) {
  const Checkpoint checkpoint = open_tiny("sd15-tiny");
  LoraTrainingOptions options = quick_options();
  EXPECT_EQ(resolve_resolution(options.resolution_px, checkpoint), 64);
  options.resolution_px = 48;
  EXPECT_EQ(resolve_resolution(options.resolution_px, checkpoint), 48);
  options.resolution_px = 50;
  expect_error<ConfigError>([&] { resolve_resolution(options.resolution_px, checkpoint); },
                            {"--resolution 50", "multiple of 8"});
}

}  // namespace
}  // namespace molar
