#include "molar/training/lora_training.h"

#include "molar/adapters/lora_io.h"
#include "molar/adapters/lora_summary.h"
#include "molar/models/model_loader.h"
#include "molar/models/module_index.h"
#include "training_fixtures.h"

namespace molar {
namespace {

using namespace test;
namespace fs = std::filesystem;

/// One training in a folder of its own, told when to stop.
class TrainingRun {
 public:
  TrainingRun() { options.output = folder / "dog.safetensors"; }

  TrainingResult go() {
    NoProgress progress;
    CancellationToken cancellation;
    steps.clear();
    samples.clear();
    return train_lora(options, checkpoint,
                      {.progress = progress,
                       .cancellation = cancellation,
                       .on_step =
                           [&](const TrainingStep& step) {
                             steps.push_back(step);
                             if (step.step == stop_after) cancellation.request();
                             if (step.step == die_after) throw std::runtime_error("killed");
                           }},
                      [&](int64_t step, const LoraFileContent& lora) {
                        samples.push_back(step);
                        EXPECT_FALSE(lora.tensors.empty());
                      });
  }
  fs::path unfinished() const { return checkpoint_path(options.output); }
  std::string digest() const { return read_bytes(options.output); }

  TempFolder folder;
  Checkpoint checkpoint = open_tiny("sd15-tiny");
  LoraTrainingOptions options = quick_options();
  int64_t stop_after = -1, die_after = -1;
  std::vector<TrainingStep> steps;
  std::vector<int64_t> samples;
};

TEST(LoraTraining, WritesALoraThatFitsAndSaysWhatItIs) {
  TrainingRun run;
  run.options.targets.insert(LoraTarget::kTextEncoder);
  const TrainingResult result = run.go();
  EXPECT_EQ(result.path, run.options.output);
  EXPECT_FALSE(result.already_finished);
  EXPECT_EQ(run.steps.size(), 6U);
  EXPECT_EQ(result.num_layers, 32 + 12);
  EXPECT_FALSE(fs::exists(run.unfinished()));

  UNet2DConditionModel unet = load_unet(run.checkpoint.component("unet"), {});
  CLIPTextModel encoder = load_text_encoder(run.checkpoint.component("text_encoder"), {});
  const LoraWeights lora = load_lora(
      run.options.output,
      {ModelFamily::kSd1,
       {{"unet", adaptable_layers(*unet)}, {"text_encoder", adaptable_layers(*encoder)}}});
  EXPECT_EQ(lora.layers.size(), 44U);
  const LoraSummary summary = describe_lora(run.options.output);
  EXPECT_EQ(summary.documentation.trigger_words, "a photo of sks dog");
  EXPECT_EQ(summary.documentation.base_model, "sd15-tiny");
  EXPECT_EQ(summary.documentation.title, "dog");
  ASSERT_FALSE(summary.documentation.top_tags.empty());
  EXPECT_EQ(summary.documentation.top_tags[0].first, "a photo of sks dog");
  EXPECT_EQ(summary.documentation.top_tags[0].second, 2);
  EXPECT_EQ(summary.base_guess, "SD 1.x");
  for (const auto& [key, value] :
       std::map<std::string, std::string>{{"ss_network_dim", "2"},
                                          {"ss_network_alpha", "2.0"},
                                          {"ss_network_module", "networks.lora"},
                                          {"ss_steps", "6"},
                                          {"ss_seed", "0"},
                                          {"ss_resolution", "(64, 64)"},
                                          {"ss_base_model_version", "sd_v1"},
                                          {"modelspec.architecture", "stable-diffusion-v1/lora"},
                                          {"modelspec.prediction_type", "epsilon"}})
    EXPECT_EQ(lora.metadata.at(key), value) << key;
}

TEST(LoraTraining, AFinishedRunDoesNothing) {
  TrainingRun run;
  run.go();
  const std::string before = run.digest();
  run.folder.file("dog.checkpoint.safetensors", "left by a kill between the two files");
  const TrainingResult again = run.go();
  EXPECT_TRUE(again.already_finished);
  EXPECT_TRUE(run.steps.empty());
  EXPECT_EQ(run.digest(), before);
  EXPECT_FALSE(fs::exists(run.unfinished()));
}

TEST(LoraTraining, AStopWritesACheckpointAndTheSameRunGoesOn) {
  TrainingRun whole;
  whole.go();
  TrainingRun stopped;
  stopped.stop_after = 3;
  EXPECT_THROW(stopped.go(), StoppedError);
  EXPECT_FALSE(fs::exists(stopped.options.output));
  EXPECT_TRUE(fs::exists(stopped.unfinished()));
  stopped.stop_after = -1;
  stopped.go();
  EXPECT_EQ(stopped.steps.front().step, 4);
  EXPECT_EQ(stopped.digest(), whole.digest());
}

TEST(LoraTraining, ADeathAfterACheckpointLosesOnlyTheStepsSince) {
  TrainingRun whole;
  whole.go();
  TrainingRun dead;
  dead.options.checkpoint_every = 2;
  dead.die_after = 5;
  EXPECT_THROW(dead.go(), std::runtime_error);
  dead.die_after = -1;
  dead.go();
  EXPECT_EQ(dead.steps.front().step, 5);  // the checkpoint holds four
  EXPECT_EQ(dead.digest(), whole.digest());
}

TEST(LoraTraining, AnotherRunUnderTheSameNameIsRefused) {
  TrainingRun run;
  run.stop_after = 2;
  EXPECT_THROW(run.go(), StoppedError);
  run.stop_after = -1;
  run.options.learning_rate = 2e-2;
  expect_error<ConfigError>([&] { run.go(); }, {"dog.checkpoint.safetensors", "learning-rate",
                                                "0.01", "0.02", "--no-resume"});
  run.options.start_anew = true;
  run.go();
  EXPECT_EQ(run.steps.size(), 6U);
  run.options.start_anew = false;
  run.options.seed = 1;
  expect_error<ConfigError>([&] { run.go(); }, {"dog.safetensors", "seed", "--no-resume"});
  run.options.seed = 0;
  run.checkpoint = open_tiny("sd15-tiny-transformers4");  // the same model in float16
  expect_error<ConfigError>([&] { run.go(); }, {"model"});
}

TEST(LoraTraining, OtherPicturesAreAnotherRun) {
  TrainingRun run;
  const fs::path pictures = run.folder / "pictures";
  fs::copy(golden("training/instance"), pictures);
  run.options.instance.folder = pictures;
  run.go();
  fs::rename(pictures / "0.png", pictures / "00.png");
  EXPECT_TRUE(run.go().already_finished) << "names do not matter, their order does";
  run.folder.file("pictures/00.txt", "a dog on grass");
  expect_error<ConfigError>([&] { run.go(); }, {"instance-images"});
}

TEST(LoraTraining, AFileThatIsNoTrainingsIsNeverOverwritten) {
  TrainingRun run;
  write_safetensors(run.options.output, OnExist::kError, {{"x", torch::zeros({1})}}, {});
  const std::string before = run.digest();
  expect_error<ConfigError>([&] { run.go(); }, {"dog.safetensors", "no file of this training"});
  EXPECT_EQ(run.digest(), before);
}

TEST(LoraTraining, ABrokenCheckpointIsAnErrorThatNamesIt) {
  TrainingRun run;
  run.folder.file("dog.checkpoint.safetensors", "not a checkpoint");
  expect_error<FileError>([&] { run.go(); }, {"dog.checkpoint.safetensors"});

  run.stop_after = 1;
  fs::remove(run.unfinished());
  EXPECT_THROW(run.go(), StoppedError);
  const SafetensorsFile file = SafetensorsFile::open(run.unfinished());
  StateDict tensors;
  for (const auto& [name, tensor] : file.state_dict()) tensors[name] = tensor.clone();
  auto metadata = file.metadata();
  metadata.erase("molar.step");
  write_safetensors(run.unfinished(), OnExist::kOverwrite, tensors, metadata);
  expect_error<FileError>([&] { run.go(); }, {"molar.step"});
}

TEST(LoraTraining, SamplesAreDueEveryNStepsAndAtTheEnd) {
  TrainingRun run;
  run.options.sample_every = 4;
  run.go();
  EXPECT_EQ(run.samples, (std::vector<int64_t>{4, 6}));
}

TEST(LoraTraining, WritesDiffusersFilesToo) {
  TrainingRun run;
  run.options.format = LoraFormat::kDiffusers;
  run.options.alpha = 1.0;
  run.go();
  const SafetensorsFile file = SafetensorsFile::open(run.options.output);
  EXPECT_TRUE(file.entries().begin()->first.starts_with("unet.")) << file.entries().begin()->first;
  EXPECT_TRUE(file.metadata().contains("lora_adapter_metadata"));
}

}  // namespace
}  // namespace molar
