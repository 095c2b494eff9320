#include "molar/training/merge_training.h"

#include <fstream>

#include "hypernet_trainer.h"
#include "molar/adapters/hypernetwork.h"
#include "molar/adapters/layer_skeleton.h"
#include "molar/training/lora_training.h"
#include "training_fixtures.h"
#include "ziplora_trainer.h"

namespace molar {
namespace {

using namespace test;
namespace fs = std::filesystem;

fs::path lora(const std::string& name) { return golden("training/merge/" + name + ".safetensors"); }
const PictureSource kDogs{golden("training/instance"), "a photo of sks dog"};
const PictureSource kOtherDogs{golden("training/class"), "a photo of a dog"};
const PictureSource kDogsInInk{golden("training/instance"), "a photo of sks dog in ink"};
const PictureSource kInk{golden("training/instance"), "a photo in ink"};

/// The LoRAs of tests/goldens/training/merge, read against a model.
struct GoldenLoras {
  explicit GoldenLoras(const Checkpoint& checkpoint) {
    const LayerSkeleton skeleton(checkpoint);
    const auto list = [&](const char* name, const PictureSource& pictures) {
      return list_taught_lora({lora(name), pictures}, skeleton.layers(), option_names_of(name));
    };
    subject = list("subject", kDogs);
    style = list("style", kOtherDogs);
    style_2 = list("style-2", kInk);
  }
  ListedLora subject, style, style_2;
};

std::map<std::string, Json> golden_cases() {
  std::map<std::string, Json> cases;
  for (const Json& fields : read_json_file(golden("training/merge/cases.json")))
    cases[fields.at("name").get<std::string>()] = fields;
  return cases;
}

MergeTrainingOptions golden_run(const Json& fields) {
  MergeTrainingOptions run;
  run.num_steps = fields.at("steps");
  run.batch_size = fields.value("batch_size", run.batch_size);
  run.learning_rate = fields.at("learning_rate");
  run.similarity_weight = fields.value("similarity_weight", run.similarity_weight);
  run.seed = fields.value("seed", run.seed);
  return run;
}

HypernetOptions golden_hypernet(const Json& fields) {
  HypernetOptions options{.run = golden_run(fields)};
  options.num_hidden = 8;
  options.layout = parse_hypernet_layout(fields.value("layout", "columns"));
  options.joint_weight = fields.value("joint_weight", options.joint_weight);
  options.constant = fields.value("constant", false);
  options.pairs_per_step = fields.value("pairs_per_step", options.pairs_per_step);
  options.weight_decay = fields.value("weight_decay", options.weight_decay);
  options.max_grad_norm = fields.value("max_grad_norm", options.max_grad_norm);
  if (fields.contains("validate_every")) {
    options.validate_every = fields.at("validate_every").get<int64_t>();
    options.validation_subjects = "validation";
  }
  return options;
}

HypernetLoras golden_hypernet_loras(const GoldenLoras& loras, const HypernetOptions& options) {
  HypernetLoras all{.subjects = {loras.subject}, .styles = {loras.style, loras.style_2}};
  if (options.validates()) {
    all.validation_subjects = {loras.subject};
    all.validation_styles = {loras.style_2};
  }
  if (options.layout == HypernetLayout::kFeatures)  // the golden has pictures of the first pair
    all.joint = {list_pictures(kDogsInInk, option_names_of("instance")), {}};
  return all;
}

double term(const TrainingStep& step, const std::string& name) {
  for (const auto& [known, value] : step.terms)
    if (known == name) return value;
  ADD_FAILURE() << "step " << step.step << " has no term " << name;
  return 0;
}

/// The steps' losses are those of a golden file; so are the validations, in their order.
void expect_golden_steps(StepwiseTrainer& trainer, const StateDict& wanted) {
  constexpr double kAgreement = 2e-4;  // relative; Adam amplifies rounding from step to step
  const Tensor &losses = wanted.at("losses"), &validations = wanted.at("validations");
  int64_t num_validations = 0;
  for (int64_t i = 0; i < losses.size(0); ++i) {
    ASSERT_FALSE(trainer.finished());
    const TrainingStep step = trainer.advance();
    const char* const terms[] = {"", "subject", "style", "similarity", "joint"};
    for (int64_t k = 0; k < losses.size(1); ++k) {
      const double value = losses[i][k].item<double>();
      EXPECT_NEAR(k == 0 ? step.loss : term(step, terms[k]), value, kAgreement * value)
          << "step " << i + 1 << ", term " << k;
    }
    if (step.terms.back().first == "validation") {
      const double value = validations[num_validations++].item<double>();
      EXPECT_NEAR(term(step, "validation"), value, kAgreement * value) << "step " << i + 1;
    }
  }
  EXPECT_TRUE(trainer.finished());
  EXPECT_EQ(num_validations, validations.numel());
}

void expect_close_to_golden(const Tensor& found, const Tensor& wanted, const std::string& name) {
  const double largest = wanted.abs().max().item<double>();
  EXPECT_TRUE(is_close(found, wanted, {.atol = 0.02 * largest, .rtol = 1e-3})) << name;
}

/// A trainer of these tests: what it learns from, and nobody who watches.
class MergeTrainersTest : public testing::Test {
 protected:
  const Checkpoint checkpoint = open_tiny("sd15-tiny");
  GoldenLoras loras{checkpoint};
  NoProgress progress;
  CancellationToken cancellation;
};
class ZiploraTrainerTest : public MergeTrainersTest {};
class HypernetTrainerTest : public MergeTrainersTest {};

TEST_F(ZiploraTrainerTest, LearnsWhatAutogradLearnsOnWholeChanges) {
  for (const std::string name : {"ziplora", "ziplora-batch"}) {
    SCOPED_TRACE(name);
    ZiploraTrainer trainer(golden_run(golden_cases().at(name)), checkpoint,
                           {loras.subject, loras.style}, progress, cancellation);
    const StateDict wanted = SafetensorsFile::open(lora(name)).state_dict();
    expect_golden_steps(trainer, wanted);
    const MergeCoefficients found = trainer.coefficients();
    EXPECT_EQ(found.layers.size() + 2, wanted.size());
    for (const auto& [layer, values] : found.layers)
      expect_close_to_golden(values, wanted.at(layer.module), layer.module);
  }
}

TEST_F(HypernetTrainerTest, LearnsWhatAutogradLearnsOnWholeChanges) {
  for (const std::string name : {"hypernet", "hypernet-constant", "hypernet-features"}) {
    SCOPED_TRACE(name);
    const HypernetOptions options = golden_hypernet(golden_cases().at(name));
    HypernetTrainer trainer(options, checkpoint, golden_hypernet_loras(loras, options), progress,
                            cancellation);
    const StateDict wanted = SafetensorsFile::open(lora(name)).state_dict();
    expect_golden_steps(trainer, wanted);
    // The golden's validations fall, so the best network is the last.
    const StateDict found = trainer.network();
    EXPECT_EQ(found.size() + 2, wanted.size());
    for (const auto& [tensor, values] : found)
      expect_close_to_golden(values, wanted.at(tensor), tensor);
  }
}

TEST_F(HypernetTrainerTest, GradientCheckpointingChangesNothingButTheMemory) {
  HypernetOptions options = golden_hypernet(golden_cases().at("hypernet-constant"));
  options.constant = false;
  const HypernetLoras all = golden_hypernet_loras(loras, options);
  HypernetTrainer kept(options, checkpoint, all, progress, cancellation);
  options.run.gradient_checkpointing = true;
  HypernetTrainer recomputed(options, checkpoint, all, progress, cancellation);
  for (int i = 0; i < 3; ++i) {
    const TrainingStep a = kept.advance(), b = recomputed.advance();
    EXPECT_NEAR(a.loss, b.loss, 1e-5 * a.loss);
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-4 * a.grad_norm);
  }
}

TEST_F(HypernetTrainerTest, KeepsTheNetworkThatValidatesBestAndStopsWhenNoneIsBetter) {
  HypernetOptions options = golden_hypernet(golden_cases().at("hypernet"));
  options.validate_every = 1;
  options.patience = 2;
  options.run.num_steps = 100;
  options.run.learning_rate = 3;  // so far that it gets worse at once
  HypernetTrainer trainer(options, checkpoint, golden_hypernet_loras(loras, options), progress,
                          cancellation);
  std::vector<double> validations;
  std::vector<StateDict> networks;
  StateDict resumed_from;
  while (!trainer.finished()) {
    validations.push_back(term(trainer.advance(), "validation"));
    networks.push_back(trainer.network());
    if (validations.size() == 1)
      for (const auto& [name, tensor] : trainer.state()) resumed_from[name] = tensor.clone();
  }
  ASSERT_LT(validations.size(), 20U);
  const size_t best =
      static_cast<size_t>(std::ranges::min_element(validations) - validations.begin());
  EXPECT_EQ(best + 3, validations.size());
  for (const auto& [name, tensor] : trainer.network())
    EXPECT_TRUE(at::equal(tensor, networks[best].at(name))) << name;

  HypernetTrainer resumed(options, checkpoint, golden_hypernet_loras(loras, options), progress,
                          cancellation);
  resumed.restore(resumed_from, 1);
  while (!resumed.finished()) resumed.advance();
  EXPECT_EQ(resumed.num_steps_done(), trainer.num_steps_done());
  for (const auto& [name, tensor] : resumed.network())
    EXPECT_TRUE(at::equal(tensor, networks[best].at(name))) << name;
}

TEST_F(HypernetTrainerTest, ANanInTheValidationEndsTheTraining) {
  HypernetOptions options = golden_hypernet(golden_cases().at("hypernet"));
  options.validate_every = 1;
  options.run.learning_rate = 1e30;
  HypernetTrainer trainer(options, checkpoint, golden_hypernet_loras(loras, options), progress,
                          cancellation);
  expect_error<PictureError>([&] { trainer.advance(); }, {"step 1", "validation"});
}

TEST_F(MergeTrainersTest, RefusePairsWithNothingToWeigh) {
  std::erase_if(loras.style_2.weights.layers, [](const auto& entry) {
    return is_predictable_layer(HypernetLayout::kColumns, entry.first, entry.second.weight_shape);
  });
  HypernetOptions options = golden_hypernet(golden_cases().at("hypernet-constant"));
  const auto train = [&](const HypernetLoras& all) {
    HypernetTrainer(options, checkpoint, all, progress, cancellation);
  };
  // One of two pairs, of those that are learnt from and of those that are validated.
  const HypernetLoras learnt{.subjects = {loras.subject}, .styles = {loras.style, loras.style_2}};
  const HypernetLoras validated{.subjects = {loras.subject},
                                .styles = {loras.style},
                                .validation_subjects = {loras.subject},
                                .validation_styles = {loras.style_2}};
  for (const HypernetLoras* all : {&learnt, &validated})
    expect_error<FitError>([&] { train(*all); },
                           {"style-2.safetensors", "to_q or to_out.0", "nothing to predict"});
  loras.style_2.weights.layers.clear();
  options.layout = HypernetLayout::kFeatures;
  expect_error<FitError>(
      [&] { train({.subjects = {loras.subject}, .styles = {loras.style_2}}); },
      {"style-2.safetensors", "no layer of the UNet in common", "nothing to predict"});
  expect_error<FitError>(
      [&] {
        ZiploraTrainer(golden_run(golden_cases().at("ziplora")), checkpoint,
                       {loras.subject, loras.style_2}, progress, cancellation);
      },
      {"style-2.safetensors", "no linear layer of the UNet in common"});
}

/// A whole training in a folder of its own, told when to die.
template <typename Options>
struct WholeRun {
  using Train = TrainingResult (*)(const Options&, const Checkpoint&, const TrainingContext&);
  WholeRun(Train train_function, Options run_options)
      : train(train_function), options(std::move(run_options)) {
    options.run.output = folder / "out.safetensors";
    options.run.num_steps = 4;
    options.run.checkpoint_every = 1;
  }

  TrainingResult go() {
    NoProgress progress;
    CancellationToken cancellation;
    steps.clear();
    return train(options, checkpoint,
                 {.progress = progress,
                  .cancellation = cancellation,
                  .on_step = [&](const TrainingStep& step) {
                    steps.push_back(step.step);
                    if (step.step == die_after) throw std::runtime_error("killed");
                    if (step.step == stop_after) cancellation.request();
                  }});
  }

  TempFolder folder;
  Checkpoint checkpoint = open_tiny("sd15-tiny");
  Train train;
  Options options;
  int64_t die_after = -1, stop_after = -1;
  std::vector<int64_t> steps;
};

ZiploraOptions ziplora_options() {
  return {.subject = {lora("subject"), kDogs}, .style = {lora("style"), kOtherDogs}};
}

/// Folders as `molar train hypernet` reads them.
HypernetOptions hypernet_options(const TempFolder& folder) {
  const auto add = [&](const char* group, const char* name, const PictureSource& pictures) {
    fs::create_directories(folder / group);
    fs::copy_file(lora(name), folder / group / (std::string(name) + ".safetensors"));
    fs::copy(pictures.folder, folder / group / name, fs::copy_options::recursive);
    for (const auto& entry : fs::directory_iterator(folder / group / name))
      if (entry.path().extension() == ".png")
        std::ofstream(fs::path(entry.path()).replace_extension(".txt")) << *pictures.prompt;
  };
  add("subjects", "subject", kDogs);
  add("styles", "style", kOtherDogs);
  add("styles", "style-2", kInk);
  HypernetOptions options;
  options.subjects = options.validation_subjects = folder / "subjects";
  options.styles = options.validation_styles = folder / "styles";
  options.num_hidden = 8;
  options.validate_every = 2;
  return options;
}

template <typename Options>
void expect_resumes(typename WholeRun<Options>::Train train, const Options& options) {
  WholeRun<Options> whole(train, options), killed(train, options);
  const TrainingResult result = whole.go();
  EXPECT_EQ(whole.steps, (std::vector<int64_t>{1, 2, 3, 4}));
  EXPECT_EQ(result.num_steps, 4);
  EXPECT_FALSE(fs::exists(checkpoint_path(whole.options.run.output)));

  killed.die_after = 2;
  EXPECT_THROW(killed.go(), std::runtime_error);
  EXPECT_FALSE(fs::exists(killed.options.run.output));
  killed.die_after = -1;
  killed.stop_after = 3;
  EXPECT_THROW(killed.go(), StoppedError);
  EXPECT_EQ(killed.steps, (std::vector<int64_t>{2, 3})) << "killed before its step was kept";
  killed.stop_after = -1;
  killed.go();
  EXPECT_EQ(killed.steps, (std::vector<int64_t>{4}));
  EXPECT_EQ(read_bytes(killed.options.run.output), read_bytes(whole.options.run.output));

  const TrainingResult finished = killed.go();
  EXPECT_TRUE(finished.already_finished);
  EXPECT_EQ(finished.num_steps, 4) << "as the file says";
  EXPECT_TRUE(killed.steps.empty());
  killed.options.run.learning_rate *= 2;
  expect_error<ConfigError>([&] { killed.go(); }, {"learning-rate", "another training"});
  killed.options.run.start_anew = true;
  EXPECT_FALSE(killed.go().already_finished);
}

TEST(MergeTraining, ZiploraGoesOnWhereItWasKilled) {
  expect_resumes<ZiploraOptions>(train_ziplora, ziplora_options());
}

TEST(MergeTraining, HypernetGoesOnWhereItWasKilled) {
  const TempFolder folder;
  expect_resumes<HypernetOptions>(train_hypernet, hypernet_options(folder));
}

/// Pictures of one of the two pairs of hypernet_options.
void add_joint_pictures(const TempFolder& folder, HypernetOptions& options) {
  const fs::path own = folder / "joint" / "subject" / "style-2";
  fs::create_directories(own);
  fs::copy_file(golden("training/instance/0.png"), own / "0.png");
  std::ofstream(own / "0.txt") << "a photo of sks dog in ink";
  options.joint_images = folder / "joint";
}

TEST(MergeTraining, HypernetOfFeaturesGoesOnWhereItWasKilled) {
  const TempFolder folder;
  HypernetOptions options = hypernet_options(folder);
  options.layout = HypernetLayout::kFeatures;
  add_joint_pictures(folder, options);
  expect_resumes<HypernetOptions>(train_hypernet, options);
}

TEST(MergeTraining, JointPicturesArePartOfWhatATrainingIs) {
  const TempFolder folder;
  HypernetOptions options = hypernet_options(folder);
  add_joint_pictures(folder, options);
  WholeRun<HypernetOptions> run(train_hypernet, options);
  run.go();
  std::ofstream(folder / "joint" / "subject" / "style-2" / "0.txt") << "another caption";
  expect_error<ConfigError>([&] { run.go(); }, {"joint-images", "another training"});
}

TEST(MergeTraining, RefusesJointPicturesThatFitNoPair) {
  const TempFolder folder;
  HypernetOptions options = hypernet_options(folder);
  add_joint_pictures(folder, options);
  const auto refuse = [&]<typename E>(std::initializer_list<std::string_view> says) {
    WholeRun<HypernetOptions> run(train_hypernet, options);
    expect_error<E>([&] { run.go(); }, says);
  };
  const fs::path own = folder / "joint" / "subject" / "style-2";
  fs::remove(own / "0.txt");
  refuse.operator()<ConfigError>({"--joint-images", "0.png", "0.txt"});
  fs::remove(own / "0.png");
  refuse.operator()<InputError>({"--joint-images", "no picture"});
  fs::remove_all(own);
  refuse.operator()<InputError>({"--joint-images", "SUBJECT/STYLE", "subject/style"});
  options.joint_weight = -1;
  refuse.operator()<ConfigError>({"--joint-weight -1"});
}

TEST(MergeTraining, NothingIsLostByStartingAnew) {
  WholeRun<ZiploraOptions> run(train_ziplora, ziplora_options());
  run.go();
  const std::string before = read_bytes(run.options.run.output);
  run.options.run.start_anew = true;
  run.options.run.seed = 1;
  run.die_after = 2;
  EXPECT_THROW(run.go(), std::runtime_error);
  EXPECT_EQ(read_bytes(run.options.run.output), before) << "until the new one is there";
  run.die_after = -1;
  EXPECT_EQ(run.go().num_steps, 4);
  EXPECT_NE(read_bytes(run.options.run.output), before);

  const fs::path subject = run.folder / "subject.safetensors";
  fs::copy_file(lora("subject"), subject);
  run.options.subject.file = run.options.run.output = subject;
  expect_error<ConfigError>([&] { run.go(); }, {"subject.safetensors", "learnt from"});
  EXPECT_EQ(read_bytes(subject), read_bytes(lora("subject")));
}

TEST(MergeTraining, WritesWhatMergesRead) {
  WholeRun<ZiploraOptions> zip(train_ziplora, ziplora_options());
  zip.go();
  const auto coefficients = MergeCoefficients::load(zip.options.run.output);
  EXPECT_FALSE(coefficients.layers.empty());

  const TempFolder folder;
  WholeRun<HypernetOptions> hyper(train_hypernet, hypernet_options(folder));
  hyper.go();
  EXPECT_FALSE(Hypernetwork::load(hyper.options.run.output).widths().empty());
}

TEST(MergeTraining, RefusesWhatItCannotLearnFrom) {
  const TempFolder folder;
  const HypernetOptions good = hypernet_options(folder);
  const auto refuse = [&]<typename E>(const auto& change,
                                      std::initializer_list<std::string_view> says) {
    WholeRun<HypernetOptions> run(train_hypernet, good);
    change(run.options);
    expect_error<E>([&] { run.go(); }, says);
  };
  refuse.operator()<ConfigError>([](auto& o) { o.subjects.clear(); }, {"--subjects DIR"});
  refuse.operator()<ConfigError>([](auto& o) { o.validation_styles.clear(); },
                                 {"--validation-styles", "one of them"});
  refuse.operator()<ConfigError>(
      [](auto& o) {
        o.validation_subjects.clear();
        o.validation_styles.clear();
        o.patience = 3;
      },
      {"--patience", "nothing is validated"});
  refuse.operator()<ConfigError>(
      [](auto& o) {
        o.validation_subjects.clear();
        o.validation_styles.clear();
      },
      {"--validate-every", "nothing is validated"});
  refuse.operator()<ConfigError>([](auto& o) { o.num_hidden = 0; }, {"--hidden 0"});
  refuse.operator()<ConfigError>([](auto& o) { o.run.similarity_weight = -1; },
                                 {"--similarity-weight -1"});
  refuse.operator()<InputError>([&](auto& o) { o.subjects = folder / "nothing"; },
                                {"--subjects", "wanted a folder of LoRA files"});
  fs::create_directories(folder / "empty");
  refuse.operator()<InputError>([&](auto& o) { o.subjects = folder / "empty"; },
                                {"--subjects", "no .safetensors file"});
  fs::remove_all(folder / "styles" / "style-2");
  refuse.operator()<InputError>([](auto&) {}, {"style-2.safetensors", "no folder"});
  fs::create_directories(folder / "styles" / "style-2");
  fs::copy_file(golden("training/instance/0.png"), folder / "styles" / "style-2" / "0.png");
  refuse.operator()<ConfigError>([](auto&) {}, {"trigger words", "0.png"});

  const auto refuse_pair = [&]<typename E>(const auto& change,
                                           std::initializer_list<std::string_view> says) {
    WholeRun<ZiploraOptions> run(train_ziplora, ziplora_options());
    change(run.options);
    expect_error<E>([&] { run.go(); }, says);
  };
  refuse_pair.operator()<ConfigError>([](auto& o) { o.subject.file.clear(); }, {"--subject FILE"});
  refuse_pair.operator()<ConfigError>([](auto& o) { o.style.pictures.folder.clear(); },
                                      {"--style-images DIR"});
  refuse_pair.operator()<ConfigError>([](auto& o) { o.run.compute.dtype = at::kHalf; },
                                      {"--dtype f16"});
  refuse_pair.operator()<InputError>([](auto& o) { o.style.pictures.folder = "/nonexistent"; },
                                     {"--style-images", "wanted a folder of pictures"});
}

}  // namespace
}  // namespace molar
