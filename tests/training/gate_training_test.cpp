#include "molar/training/gate_training.h"

#include "gate_trainer.h"
#include "molar/adapters/layer_skeleton.h"
#include "training_fixtures.h"

namespace molar {
namespace {

using namespace test;
namespace fs = std::filesystem;

fs::path golden_set(const std::string& family) { return golden("mole/sets/" + family); }

/// Options of a case of tests/goldens/training/gates/cases.json.
GateTrainingOptions golden_options(const Json& fields) {
  GateTrainingOptions o;
  o.folder = golden_set(fields.at("family"));
  for (const char* folder : {"training/instance", "training/class"})
    o.pictures.push_back({golden(folder), "a photo of sks dog"});
  o.output = "gates.safetensors";
  o.num_steps = fields.at("steps");
  o.learning_rate = fields.at("learning_rate");
  o.batch_size = fields.value("batch_size", o.batch_size);
  o.gradient_accumulation = fields.value("gradient_accumulation", o.gradient_accumulation);
  o.warmup_steps = fields.value("warmup_steps", o.warmup_steps);
  o.flip = fields.value("flip", o.flip);
  o.proportion_empty_prompts = fields.value("proportion_empty_prompts", o.proportion_empty_prompts);
  o.seed = fields.value("seed", o.seed);
  if (fields.contains("min_snr_gamma")) o.min_snr_gamma = fields.at("min_snr_gamma").get<double>();
  if (fields.value("lr_scheduler", "constant") == "cosine")
    o.schedule = LearningRateSchedule::kCosine;
  return o;
}

/// A trainer that nobody watches.
struct QuietGates {
  QuietGates(const GateTrainingOptions& options, const Checkpoint& checkpoint)
      : skeleton(checkpoint),
        trainer(options, checkpoint,
                load_experts(options.folder, options.experts, skeleton.layers()), pictures(options),
                progress, cancellation) {}
  static std::vector<TrainingPicture> pictures(const GateTrainingOptions& options) {
    std::vector<TrainingPicture> all;
    for (const PictureSource& source : options.pictures)
      for (const TrainingPicture& picture : list_pictures(source, option_names_of("instance")))
        all.push_back(picture);
    return all;
  }
  LayerSkeleton skeleton;
  NoProgress progress;
  CancellationToken cancellation;
  GateTrainer trainer;
};

Json golden_case(const std::string& name) {
  for (const Json& fields : read_json_file(golden("training/gates/cases.json")))
    if (fields.at("name") == name) return fields;
  throw std::runtime_error("no case " + name);
}

void expect_golden(GateTrainer& trainer, const StateDict& wanted) {
  const Tensor& losses = wanted.at("losses");
  for (int64_t i = 0; i < losses.size(0); ++i) {
    SCOPED_TRACE("step " + std::to_string(i + 1));
    const TrainingStep step = trainer.advance();
    EXPECT_NEAR(step.loss, losses[i].item<double>(), 1e-4 * losses[i].item<double>());
    const char* const kTerms[] = {"local_face", "global_face", "local_hand", "global_hand"};
    ASSERT_EQ(step.terms.size(), 4U);
    for (size_t term = 0; term < 4; ++term) {
      EXPECT_EQ(step.terms[term].first, kTerms[term]);
      EXPECT_NEAR(step.terms[term].second,
                  wanted.at("statistics")[i][static_cast<int64_t>(term)].item<double>(), 1e-4);
    }
  }
  const NamedParameters learnt = trainer.learnt().parameters();
  ASSERT_EQ(learnt.size() + 2, wanted.size());
  for (const auto& [name, values] : learnt) {
    // As with factors: where a gradient is about 0, the sign of an update hangs on the last bits.
    const Tensor& golden_values = wanted.at(name);
    const double largest = golden_values.abs().max().item<double>();
    EXPECT_TRUE(is_close(values.detach(), golden_values, {.atol = 0.02 * largest, .rtol = 1e-3}))
        << name;
  }
}

TEST(GateTrainer, LearnsWhatHooksOnDiffusersLearn) {
  const Json cases = read_json_file(golden("training/gates/cases.json"));
  ASSERT_EQ(cases.size(), 2U);
  for (const Json& fields : cases) {
    SCOPED_TRACE(fields.at("name").get<std::string>());
    const Checkpoint checkpoint = open_tiny(fields.at("model"));
    QuietGates quiet(golden_options(fields), checkpoint);
    const auto file = "training/gates/" + fields.at("name").get<std::string>() + ".safetensors";
    expect_golden(quiet.trainer, SafetensorsFile::open(golden(file)).state_dict());
  }
}

TEST(GateTrainer, GradientCheckpointingChangesNothingButTheMemory) {
  const Checkpoint checkpoint = open_tiny("sdxl-tiny");
  GateTrainingOptions options = golden_options(golden_case("gates-sdxl"));
  QuietGates kept(options, checkpoint);
  options.gradient_checkpointing = true;
  QuietGates recomputed(options, checkpoint);
  for (int i = 0; i < 3; ++i) {
    const TrainingStep a = kept.trainer.advance(), b = recomputed.trainer.advance();
    EXPECT_NEAR(a.loss, b.loss, 1e-5 * a.loss);
    for (size_t term = 0; term < a.terms.size(); ++term)
      EXPECT_NEAR(a.terms[term].second, b.terms[term].second, 1e-5) << a.terms[term].first;
  }
}

TEST(GateTrainer, TheModelIsItselfAgainAfterwards) {
  const Checkpoint checkpoint = open_tiny("sd15-tiny");
  const GateTrainingOptions options = golden_options(golden_case("gates"));
  QuietGates first(options, checkpoint);
  const double loss = first.trainer.advance().loss;
  {
    QuietGates between(options, checkpoint);
  }
  QuietGates second(options, checkpoint);
  EXPECT_EQ(second.trainer.advance().loss, loss);
}

/// One training in a folder of its own, told when to stop.
class GateRun {
 public:
  GateRun() {
    for (const char* name : {"face.safetensors", "hand.safetensors"})
      fs::copy(golden_set("sd15") / name, folder / name);
    options.folder = folder.path();
    options.output = folder / kGatesFile;
  }
  TrainingResult go() {
    NoProgress progress;
    CancellationToken cancellation;
    steps.clear();
    return train_gates(options, checkpoint,
                       {.progress = progress,
                        .cancellation = cancellation,
                        .on_step =
                            [&](const TrainingStep& step) {
                              steps.push_back(step);
                              if (step.step == stop_after) cancellation.request();
                            }},
                       [&](int64_t step, const LoraFileContent&) { samples.push_back(step); });
  }
  ExpertSet set() const { return load_expert_set(folder.path(), skeleton.layers()); }

  TempFolder folder;
  Checkpoint checkpoint = open_tiny("sd15-tiny");
  LayerSkeleton skeleton{checkpoint};
  GateTrainingOptions options = golden_options(golden_case("gates"));
  int64_t stop_after = -1;
  std::vector<TrainingStep> steps;
  std::vector<int64_t> samples;
};

TEST(GateTraining, WritesGatesThatMakeASetOfTheFolder) {
  GateRun run;
  run.options.sample_every = 2;
  const TrainingResult result = run.go();
  EXPECT_EQ(result.path, run.folder / kGatesFile);
  EXPECT_EQ(run.samples, (std::vector<int64_t>{2, 4, 5}));
  const ExpertSet set = run.set();
  EXPECT_EQ(set.gates.experts, (std::vector<std::string>{"face", "hand"}));
  EXPECT_EQ(static_cast<int64_t>(set.gates.layers.size()), result.num_layers);
  int64_t numbers = 0;
  for (const auto& [name, gates] : set.gates.layers)
    for (const Tensor& values :
         {gates.local_weight, gates.local_bias, gates.global_weight, gates.global_bias})
      numbers += values.numel();
  EXPECT_EQ(numbers, result.num_parameters);
  const StateDict learnt =
      SafetensorsFile::open(golden("training/gates/gates.safetensors")).state_dict();
  const auto& [name, gates] = *set.gates.layers.begin();
  EXPECT_TRUE(is_close(gates.local_weight, learnt.at(name.module + "/local_weight"),
                       {.atol = 0.05, .rtol = 1e-3}));
}

TEST(GateTraining, TheOrderOfTheExpertsIsKept) {
  GateRun run;
  run.options.num_steps = 1;
  run.options.experts = {"hand", "face"};
  run.go();
  EXPECT_EQ(run.set().gates.experts, (std::vector<std::string>{"hand", "face"}));
}

TEST(GateTraining, AStoppedRunGoesOnAsIfNothingHadHappened) {
  GateRun whole, stopped;
  whole.go();
  stopped.stop_after = 2;
  EXPECT_THROW(stopped.go(), StoppedError);
  EXPECT_FALSE(fs::exists(stopped.options.output));
  stopped.stop_after = -1;
  stopped.go();
  EXPECT_EQ(stopped.steps.front().step, 3);
  EXPECT_EQ(read_bytes(stopped.options.output), read_bytes(whole.options.output));
  EXPECT_TRUE(stopped.go().already_finished);
  EXPECT_TRUE(stopped.steps.empty());
}

TEST(GateTraining, OtherExpertsAreAnotherTraining) {
  GateRun run;
  run.options.num_steps = 1;
  run.go();
  run.options.experts = {"hand", "face"};
  expect_error<ConfigError>([&] { run.go(); }, {"gates.safetensors", "another training: experts"});
  run.options.start_anew = true;
  EXPECT_EQ(run.go().num_steps, 1);
}

TEST(GateTraining, GatesThatAreNotLearntStayOpen) {
  for (const bool local : {true, false}) {
    GateRun run;
    run.options.num_steps = 3;
    run.options.learnt = local ? LearntGates::kLocal : LearntGates::kGlobal;
    run.go();
    for (const auto& [term, value] : run.steps.back().terms) {
      if (term.starts_with(local ? "global" : "local"))
        EXPECT_EQ(value, 1.0) << term;
      else
        EXPECT_LT(value, 0.9) << term;
    }
    for (const auto& [name, gates] : run.set().gates.layers) {
      const Tensor& open = local ? gates.global_weight : gates.local_weight;
      EXPECT_EQ(open.abs().max().item<double>(), 0.0);
      EXPECT_GT((local ? gates.local_weight : gates.global_weight).abs().max().item<double>(), 0.0);
    }
  }
  expect_error<ConfigError>([] { parse_learnt_gates("none"); }, {"--gates 'none'", "local"});
}

TEST(GateTraining, RefusesExpertsThatAreNotThere) {
  GateRun run;
  run.options.experts = {"face", "foot"};
  expect_error<FileError>([&] { run.go(); }, {"foot.safetensors"});
}

TEST(GateTrainingOptions, NameWhatIsWrong) {
  using Change = void (*)(GateTrainingOptions&);
  const std::pair<Change, const char*> kMistakes[] = {
      {[](auto& o) { o.folder.clear(); }, "-o DIR"},
      {[](auto& o) { o.pictures.clear(); }, "--instance-images"},
      {[](auto& o) { o.experts.clear(); }, "--experts"},
      {[](auto& o) { o.experts = {"face", "a/b"}; }, "'a/b' is no name"},
      {[](auto& o) { o.experts = {"face", ""}; }, "'' is no name"},
      {[](auto& o) { o.experts = {"face", "face"}; }, "twice"},
      {[](auto& o) { o.num_steps = 0; }, "--steps 0"},
      {[](auto& o) { o.compute.dtype = at::kHalf; }, "--dtype f16"},
  };
  for (const auto& [change, says] : kMistakes) {
    GateTrainingOptions options = golden_options(golden_case("gates"));
    change(options);
    expect_error<ConfigError>([&] { options.validate(); }, {says});
  }
}

}  // namespace
}  // namespace molar
