// Every case of tests/goldens/schedulers, made by scripts/reference/make_scheduler_goldens.py with
// diffusers.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "molar/core/random.h"
#include "molar/io/hash.h"
#include "molar/io/safetensors.h"
#include "molar/schedulers/scheduler.h"
#include "scheduler_test_tools.h"

namespace molar {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(MOLAR_TEST_DATA_DIR) / "schedulers";

// Of the largest value of the tensor, after at most 59 evaluations. Both sides compute in float32
// with the same operations; what is left are the last bits of logarithms and powers of numpy (3e-7
// per step).
constexpr double kTolerance = 1e-5;
// diffusers integrates LMS' coefficients numerically, on float32 values; we do so exactly.
constexpr double kLmsTolerance = 2e-5;
// Rescaled to zero terminal SNR, the last alphas are differences of nearly equal numbers:
// diffusers' own samples differ by 2.3e-5 between an AMD and an Intel processor.
constexpr double kZeroSnrTolerance = 1e-4;

const Json& manifest() {
  static const Json kManifest = Json::parse(std::ifstream(kFolder / "MANIFEST.json"));
  return kManifest;
}

const SafetensorsFile& golden_file(const std::string& name) {
  static std::map<std::string, SafetensorsFile> files;
  const auto found = files.find(name);
  return found != files.end()
             ? found->second
             : files.emplace(name, SafetensorsFile::open(kFolder / name)).first->second;
}

/// The largest difference, in units of the golden's largest value.
double distance(const Tensor& actual, const Tensor& golden) {
  EXPECT_EQ(actual.sizes(), golden.sizes());
  if (actual.sizes() != golden.sizes()) return 1e9;
  const double size = std::max(golden.abs().max().item<double>(), 1e-3);
  const double difference = (actual - golden).abs().max().item<double>();
  return std::isfinite(difference) ? difference / size : 1e9;
}

std::string printable(const std::string& name) {
  std::string text;
  for (const char c : name) {
    if (c == '+')
      text += 'p';
    else
      text += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  }
  return text;
}

class SchedulerGolden : public testing::TestWithParam<size_t> {
 protected:
  const Json& golden() const { return manifest()["cases"][GetParam()]; }
  Tensor tensor(const std::string& what) const {
    return golden_file(golden()["file"]).tensor(golden()["name"].get<std::string>() + "/" + what);
  }
  std::unique_ptr<const Scheduler> scheduler() const {
    SchedulerConfig config = SchedulerConfig::from_json(golden()["config"], "golden");
    if (!golden()["sampler"].is_null())
      config = config_for_sampler(golden()["sampler"].get<std::string>(), config);
    return make_scheduler(config, {.num_steps = golden()["num_steps"], .eta = golden()["eta"]});
  }
};

TEST_P(SchedulerGolden, RunsAsDiffusersDoes) {
  const auto tested = scheduler();
  const Tensor timesteps = at::tensor(tested->timesteps(), at::kDouble);
  ASSERT_EQ(timesteps.sizes(), tensor("timesteps").sizes());
  // float32 timesteps of karras and its like: the last bits of a logarithm, over the slope of log
  // sigma.
  EXPECT_LE((timesteps - tensor("timesteps")).abs().max().item<double>(), 2e-4);
  EXPECT_NEAR(tested->init_noise_sigma() / golden()["init_noise_sigma"].get<double>(), 1.0, 1e-6);

  RandomSource source(golden()["seed"].get<uint64_t>());
  const Tensor noise = source.randn(test::kShape), clean = test::ramp(-1.0, 1.2);
  Tensor x = noise * tested->init_noise_sigma();
  size_t begin = 0;
  if (!golden()["strength"].is_null()) {
    begin = first_evaluation(*tested, golden()["num_steps"], golden()["strength"]);
    x = tested->add_noise(clean, noise, begin);
  }
  EXPECT_EQ(begin, golden()["begin"].get<size_t>());
  const test::Trace trace =
      test::run(*tested, x, begin, test::draws_from(source),
                [](const Tensor& seen, double t, size_t) { return test::toy_model(seen, t); });

  const bool lms = golden()["file"] == "LMSDiscreteScheduler.safetensors";
  const bool zero_snr = golden()["config"].value("rescale_betas_zero_snr", false);
  const double tolerance = lms ? kLmsTolerance : zero_snr ? kZeroSnrTolerance : kTolerance;
  EXPECT_LE(distance(trace.inputs[trace.inputs.size() / 2], tensor("input")), tolerance);
  const auto kept = golden()["kept"].get<std::vector<size_t>>();
  const Tensor samples = tensor("samples");
  double worst = 0;
  for (size_t k = 0; k < kept.size(); ++k) {
    const double found = distance(trace.samples[kept[k]], samples[static_cast<int64_t>(k)]);
    EXPECT_LE(found, tolerance) << "after evaluation " << kept[k];
    worst = std::max(worst, found);
  }
  RecordProperty("worst_relative_difference", std::to_string(worst * 1e6) + "e-6");
  if (begin > 0 && trace.samples.size() > 1) {
    EXPECT_LE(distance(tested->add_noise(clean, noise, begin + 1), tensor("renoised")), tolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Diffusers, SchedulerGolden,
                         testing::Range(size_t{0}, manifest()["cases"].size()),
                         [](const testing::TestParamInfo<size_t>& row) {
                           return printable(manifest()["cases"][row.param]["name"]);
                         });

TEST(SchedulerGoldens, CoverEverySamplerAndAreTheFilesOfTheManifest) {
  std::set<std::string> samplers, files;
  for (const Json& one : manifest()["cases"]) {
    if (!one["sampler"].is_null()) samplers.insert(one["sampler"].get<std::string>());
    files.insert(one["file"].get<std::string>());
  }
  for (const std::string& name : sampler_names()) EXPECT_TRUE(samplers.contains(name)) << name;
  EXPECT_EQ(samplers.size(), sampler_names().size());
  EXPECT_GT(manifest()["cases"].size(), 800U);
  for (const auto& [file, hash] : manifest()["sha256"].items()) {
    EXPECT_TRUE(files.contains(file)) << file;
    EXPECT_EQ(sha256_file(kFolder / file), hash.get<std::string>()) << file;
  }
}

TEST(SchedulerGoldens, PipelineFixesAreThoseOfDiffusersConstructors) {
  const std::map<std::string, PipelineKind> kinds = {
      {"text_to_image", PipelineKind::kTextToImage},
      {"image_to_image", PipelineKind::kImageToImage},
      {"inpaint", PipelineKind::kInpaint}};
  ASSERT_GT(manifest()["pipeline_fixes"].size(), 0U);
  for (const Json& row : manifest()["pipeline_fixes"]) {
    SCOPED_TRACE(row["kind"].get<std::string>() + " " + row["config"].dump());
    const SchedulerConfig fixed = apply_pipeline_fixes(
        SchedulerConfig::from_json(row["config"], "golden"), kinds.at(row["kind"]));
    // What a class reads: its own default where the field is absent.
    const auto flag = [](const SchedulerConfig& config, const char* key, bool fallback) {
      return config.raw.contains(key) ? config.raw.at(key).get<bool>() : fallback;
    };
    const Json& own = row["own"];
    if (own.contains("steps_offset")) {
      EXPECT_EQ(fixed.steps_offset, own["steps_offset"].get<int64_t>());
    }
    if (own.contains("clip_sample")) {
      EXPECT_EQ(flag(fixed, "clip_sample", fixed.class_name == "DDIMScheduler"),
                own["clip_sample"].get<bool>());
    }
    if (own.contains("skip_prk_steps")) {
      EXPECT_EQ(flag(fixed, "skip_prk_steps", false), own["skip_prk_steps"].get<bool>());
    }
    const SchedulerConfig ddim = config_for_sampler("ddim", fixed),
                          pndm = config_for_sampler("pndm", fixed);
    EXPECT_EQ(ddim.steps_offset, row["as_ddim"]["steps_offset"].get<int64_t>());
    EXPECT_EQ(flag(ddim, "clip_sample", true), row["as_ddim"]["clip_sample"].get<bool>());
    EXPECT_EQ(pndm.steps_offset, row["as_pndm"]["steps_offset"].get<int64_t>());
    EXPECT_EQ(flag(pndm, "skip_prk_steps", false), row["as_pndm"]["skip_prk_steps"].get<bool>());
  }
}

}  // namespace
}  // namespace molar
