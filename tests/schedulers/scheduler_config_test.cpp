#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <sstream>

#include "molar/core/error.h"
#include "molar/schedulers/scheduler.h"
#include "scheduler_test_tools.h"

namespace molar {
namespace {

using test::sd_config;

/// One refusal: what the message must name.
struct Refusal {
  std::string name;
  Json config;
  std::vector<std::string> says;
  int64_t num_steps = 10;
};

class RefusedConfig : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedConfig, IsAFileErrorThatNamesFileAndField) {
  try {
    Json json = {{"_class_name", "DDIMScheduler"},
                 {"beta_start", 0.00085},
                 {"beta_end", 0.012},
                 {"beta_schedule", "scaled_linear"}};
    json.update(GetParam().config);
    make_scheduler(SchedulerConfig::from_json(json, "scheduler/scheduler_config.json"),
                   {.num_steps = GetParam().num_steps});
    ADD_FAILURE() << "accepted";
  } catch (const FileError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("scheduler/scheduler_config.json"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
    for (const std::string& wanted : GetParam().says)
      EXPECT_NE(message.find(wanted), std::string::npos) << message << "\nlacks: " << wanted;
  }
}

Json with(const std::string& class_name, Json fields) {
  fields["_class_name"] = class_name;
  return fields;
}

INSTANTIATE_TEST_SUITE_P(
    Values, RefusedConfig,
    testing::Values(
        Refusal{"UnknownClass",
                with("KDPM2DiscreteScheduler", {}),
                {"KDPM2DiscreteScheduler", "--sampler", "euler_a", "UniPCMultistepScheduler"}},
        Refusal{"NoClass", {{"_class_name", nullptr}}, {"_class_name", "--sampler"}},
        Refusal{
            "NotAnObject", {{"prediction_type", Json::array({1})}}, {"prediction_type", "epsilon"}},
        Refusal{"FlowPrediction",
                {{"prediction_type", "flow_prediction"}},
                {"prediction_type", "flow_prediction", "v_prediction"}},
        Refusal{"SampleInPndm",
                with("PNDMScheduler", {{"prediction_type", "sample"}, {"skip_prk_steps", true}}),
                {"prediction_type", "PNDMScheduler", "--sampler"}},
        Refusal{"SampleInEulerA",
                with("EulerAncestralDiscreteScheduler", {{"prediction_type", "sample"}}),
                {"prediction_type", "EulerAncestralDiscreteScheduler"}},
        Refusal{"BetaSchedule",
                {{"beta_schedule", "quadratic"}},
                {"beta_schedule", "quadratic", "scaled_linear"}},
        Refusal{"BetaScheduleOfAnotherClass",
                {{"beta_schedule", "sigmoid"}},
                {"beta_schedule", "sigmoid",
                 "DDIMScheduler has linear, scaled_linear, squaredcos_cap_v2"}},
        Refusal{"BetaStart", {{"beta_start", -0.1}}, {"beta_start", "-0.1"}},
        Refusal{"BetaEnd", {{"beta_end", 1.5}}, {"beta_end", "1.5"}},
        Refusal{"BetaType", {{"beta_end", "big"}}, {"beta_end", "number", "big"}},
        Refusal{
            "Spacing", {{"timestep_spacing", "even"}}, {"timestep_spacing", "even", "trailing"}},
        Refusal{"TrainTimesteps", {{"num_train_timesteps", 1}}, {"num_train_timesteps", "1"}},
        Refusal{"TrainTimestepsHuge", {{"num_train_timesteps", 1000001}}, {"num_train_timesteps"}},
        Refusal{"StepsOffset", {{"steps_offset", -1}}, {"steps_offset", "-1"}},
        Refusal{
            "TrainedBetasCount", {{"trained_betas", {0.1, 0.2}}}, {"trained_betas", "2", "1000"}},
        Refusal{"TrainedBetasValue",
                {{"trained_betas", {0.1, 1.0}}, {"num_train_timesteps", 2}},
                {"trained_betas", "(0, 1)"},
                1},
        Refusal{"TrainedBetasType", {{"trained_betas", "none"}}, {"trained_betas"}},
        Refusal{"ZeroSnrEpsilon",
                {{"rescale_betas_zero_snr", true}, {"timestep_spacing", "trailing"}},
                {"rescale_betas_zero_snr", "epsilon"}},
        Refusal{
            "ClipRange", {{"clip_sample", true}, {"clip_sample_range", 0}}, {"clip_sample_range"}},
        Refusal{"ThresholdRatio",
                {{"thresholding", true}, {"dynamic_thresholding_ratio", 1.5}},
                {"dynamic_thresholding_ratio", "1.5"}},
        Refusal{"VarianceType",
                with("DDPMScheduler", {{"variance_type", "learned_range"}}),
                {"variance_type", "learned_range", "fixed_small"}},
        Refusal{"VarianceTypeLargeLog",
                with("DDPMScheduler", {{"variance_type", "fixed_large_log"}}),
                {"variance_type", "fixed_large_log"}},
        Refusal{"TwoSigmaSpacings",
                with("EulerDiscreteScheduler",
                     {{"use_karras_sigmas", true}, {"use_beta_sigmas", true}}),
                {"use_beta_sigmas", "only one"}},
        Refusal{"Interpolation",
                with("EulerDiscreteScheduler", {{"interpolation_type", "cubic"}}),
                {"interpolation_type", "cubic", "log_linear"}},
        Refusal{"TimestepType",
                with("EulerDiscreteScheduler", {{"timestep_type", "soft"}}),
                {"timestep_type", "soft"}},
        Refusal{"SigmaMin",
                with("EulerDiscreteScheduler", {{"use_karras_sigmas", true}, {"sigma_min", -1.0}}),
                {"sigma_min", "-1"}},
        Refusal{"SigmaRange",
                with("EulerDiscreteScheduler",
                     {{"use_karras_sigmas", true}, {"sigma_min", 3.0}, {"sigma_max", 2.0}}),
                {"sigma_min", "above sigma_max"}},
        Refusal{"FinalSigmas",
                with("EulerDiscreteScheduler", {{"final_sigmas_type", "one"}}),
                {"final_sigmas_type", "one", "sigma_min"}},
        Refusal{"Algorithm",
                with("DPMSolverMultistepScheduler", {{"algorithm_type", "dpm"}}),
                {"algorithm_type", "dpm", "sde-dpmsolver++"}},
        Refusal{"SolverType",
                with("DPMSolverMultistepScheduler", {{"solver_type", "rk4"}}),
                {"solver_type", "rk4"}},
        Refusal{"SolverOrder",
                with("DPMSolverMultistepScheduler", {{"solver_order", 4}}),
                {"solver_order", "4"}},
        Refusal{"SolverOrderZero",
                with("UniPCMultistepScheduler", {{"solver_order", 0}}),
                {"solver_order", "0"}},
        Refusal{"DpmSolverToZero",
                with("DPMSolverMultistepScheduler", {{"algorithm_type", "dpmsolver"}}),
                {"final_sigmas_type", "sigma_min"}},
        Refusal{"SdeThirdOrder",
                with("DPMSolverMultistepScheduler", {{"algorithm_type", "sde-dpmsolver"},
                                                     {"solver_order", 3},
                                                     {"final_sigmas_type", "sigma_min"}}),
                {"solver_order", "sde-dpmsolver"}},
        Refusal{"FlowSigmas",
                with("DPMSolverMultistepScheduler", {{"use_flow_sigmas", true}}),
                {"use_flow_sigmas"}},
        Refusal{"DynamicShifting",
                with("DPMSolverSinglestepScheduler", {{"use_dynamic_shifting", true}}),
                {"use_dynamic_shifting"}},
        Refusal{"SolverVariance",
                with("DPMSolverMultistepScheduler", {{"variance_type", "learned"}}),
                {"variance_type", "learned"}},
        Refusal{"LambdaWord",
                with("DPMSolverMultistepScheduler", {{"lambda_min_clipped", "low"}}),
                {"lambda_min_clipped", "-Infinity"}},
        Refusal{"LambdaTooHigh",
                with("DPMSolverMultistepScheduler", {{"lambda_min_clipped", 50.0}}),
                {"lambda_min_clipped", "no timestep"}},
        Refusal{"SinglestepSde",
                with("DPMSolverSinglestepScheduler",
                     {{"algorithm_type", "sde-dpmsolver"}, {"final_sigmas_type", "sigma_min"}}),
                {"algorithm_type", "sde-dpmsolver"}},
        Refusal{"SinglestepThresholding",
                with("DPMSolverSinglestepScheduler", {{"algorithm_type", "dpmsolver"},
                                                      {"final_sigmas_type", "sigma_min"},
                                                      {"thresholding", true}}),
                {"thresholding"}},
        Refusal{"UniPCFlow",
                with("UniPCMultistepScheduler", {{"use_flow_sigmas", true}}),
                {"use_flow_sigmas"}},
        Refusal{"UniPCShift",
                with("UniPCMultistepScheduler", {{"shift_terminal", 0.1}}),
                {"shift_terminal"}},
        Refusal{"UniPCSolverP",
                with("UniPCMultistepScheduler", {{"solver_p", Json::object({{"a", 1}})}}),
                {"solver_p"}},
        Refusal{"UniPCSolverType",
                with("UniPCMultistepScheduler", {{"solver_type", "bh3"}}),
                {"solver_type", "bh3"}},
        Refusal{"UniPCEpsilonToZero",
                with("UniPCMultistepScheduler", {{"predict_x0", false}}),
                {"predict_x0"}},
        Refusal{"UniPCFullOrderToZero",
                with("UniPCMultistepScheduler", {{"lower_order_final", false}}),
                {"lower_order_final"}},
        Refusal{"UniPCCorrector",
                with("UniPCMultistepScheduler", {{"disable_corrector", "all"}}),
                {"disable_corrector"}},
        Refusal{"LcmOriginalSteps",
                with("LCMScheduler", {{"original_inference_steps", 2000}}),
                {"original_inference_steps", "2000"}},
        Refusal{"LcmScaling",
                with("LCMScheduler", {{"timestep_scaling", "ten"}}),
                {"timestep_scaling"}}),
    [](const testing::TestParamInfo<Refusal>& row) { return row.param.name; });

TEST(SchedulerConfig, RefusesJsonThatIsNoObject) {
  EXPECT_THROW(SchedulerConfig::from_json(Json::array(), "scheduler_config.json"), FileError);
}

TEST(SchedulerConfig, TakesItsDefaultsFromItsClass) {
  const auto read = [](const char* name) {
    return SchedulerConfig::from_json({{"_class_name", name}}, "c");
  };
  EXPECT_EQ(read("PNDMScheduler").timestep_spacing, "leading");
  EXPECT_EQ(read("EulerDiscreteScheduler").timestep_spacing, "linspace");
  EXPECT_EQ(read("HeunDiscreteScheduler").beta_start, 0.00085);
  EXPECT_EQ(read("LCMScheduler").beta_schedule, "scaled_linear");
}

TEST(SchedulerConfig, WarnsOfAFieldThatNoSchedulerHas) {
  std::ostringstream text;
  const auto previous = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text)));
  const SchedulerConfig config = sd_config("DDIMScheduler", {{"beta_strat", 0.1}});
  config_for_sampler("euler", config);
  spdlog::set_default_logger(previous);
  const std::string said = text.str();
  EXPECT_NE(said.find("beta_strat"), std::string::npos) << said;
  EXPECT_EQ(said.find("beta_strat"), said.rfind("beta_strat")) << "said more than once: " << said;
  EXPECT_EQ(said.find("skip_prk_steps"), std::string::npos)
      << "a field of another class is no slip: " << said;
}

TEST(SchedulerConfig, ReadsMinusInfinityAsDiffusersWritesIt) {
  const Json json = parse_json(
      R"({"_class_name": "DPMSolverMultistepScheduler", "_note": "say \"-Infinity",
          "lambda_min_clipped": -Infinity})",
      "scheduler_config.json");
  EXPECT_EQ(json["_note"], "say \"-Infinity");
  const auto infinite =
      make_scheduler(SchedulerConfig::from_json(json, "scheduler_config.json"), {});
  const auto absent =
      make_scheduler(SchedulerConfig::from_json({{"_class_name", "DPMSolverMultistepScheduler"}},
                                                "scheduler_config.json"),
                     {});
  EXPECT_EQ(infinite->timesteps(), absent->timesteps());
}

TEST(SchedulerConfig, RefusesAnInfinityWhereANumberBelongs) {
  const Json json = parse_json(R"({"_class_name": "DDIMScheduler", "beta_end": Infinity})",
                               "scheduler_config.json");
  EXPECT_THROW(SchedulerConfig::from_json(json, "scheduler_config.json"), FileError);
  EXPECT_THROW(parse_json(R"({"beta_end": NaN})", "scheduler_config.json"), FileError);
  EXPECT_THROW(parse_json(R"({"a": Infinity, "a": 1})", "scheduler_config.json"), FileError);
}

TEST(ConfigForSampler, KeepsWhatTheModelsFileSaysAndTakesTheNewClassesDefaults) {
  const SchedulerConfig base = sd_config("PNDMScheduler", {{"prediction_type", "v_prediction"}});
  const SchedulerConfig euler = config_for_sampler("euler", base);
  EXPECT_EQ(euler.class_name, "EulerDiscreteScheduler");
  EXPECT_EQ(euler.prediction_type, "v_prediction");
  EXPECT_EQ(euler.beta_schedule, "scaled_linear");
  EXPECT_EQ(euler.timestep_spacing, "linspace");  // the file has none: Euler's own default
  EXPECT_EQ(euler.source, base.source);
}

TEST(ConfigForSampler, KeepsWhatTheCallerSetOnTheStruct) {
  SchedulerConfig base = sd_config("DDIMScheduler");
  base.prediction_type = "v_prediction";
  base.timestep_spacing = "trailing";
  const SchedulerConfig unipc = config_for_sampler("unipc", base);
  EXPECT_EQ(unipc.prediction_type, "v_prediction");
  EXPECT_EQ(unipc.timestep_spacing, "trailing");
  SchedulerConfig by_hand;  // no file behind it
  by_hand.class_name = "DDIMScheduler";
  by_hand.beta_end = 0.012;
  EXPECT_EQ(config_for_sampler("lms", by_hand).beta_end, 0.012);
  EXPECT_NO_THROW(make_scheduler(by_hand, {}));
}

TEST(ConfigForSampler, ReplacesAClassThatWeDoNotHave) {
  const SchedulerConfig base =
      sd_config("DEISMultistepScheduler", {{"algorithm_type", "deis"}, {"solver_type", "logrho"}});
  for (const std::string& name : sampler_names())
    EXPECT_NO_THROW(make_scheduler(config_for_sampler(name, base), {}));
}

TEST(ConfigForSampler, FixesWhatTheNamePromises) {
  const SchedulerConfig base = sd_config(
      "DPMSolverMultistepScheduler",
      {{"solver_order", 3}, {"use_beta_sigmas", true}, {"algorithm_type", "sde-dpmsolver++"}});
  EXPECT_EQ(sampler_name(base), "DPMSolverMultistepScheduler")
      << "no sampler name says third order";
  const SchedulerConfig karras = config_for_sampler("dpmpp_2m_karras", base);
  EXPECT_EQ(karras.raw["algorithm_type"], "dpmsolver++");
  EXPECT_EQ(karras.raw["solver_order"], 2);
  EXPECT_NO_THROW(make_scheduler(karras, {}));
}

TEST(ConfigForSampler, SuggestsTheNearestName) {
  const auto said = [](const char* name) {
    try {
      config_for_sampler(name, sd_config("DDIMScheduler"));
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_NE(said("eular").find("did you mean 'euler'"), std::string::npos) << said("eular");
  EXPECT_NE(said("DPM++ 2M Karras").find("did you mean 'dpmpp_2m_karras'"), std::string::npos);
  EXPECT_NE(said("unipcc").find("did you mean 'unipc'"), std::string::npos);
  EXPECT_NE(said("").find("ddim, ddpm, pndm, lms"), std::string::npos);
}

TEST(SamplerNames, AreTheTwelveOfTheCommandLine) {
  EXPECT_EQ(sampler_names(),
            (std::vector<std::string>{"ddim", "ddpm", "pndm", "lms", "euler", "euler_a", "heun",
                                      "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_sde", "unipc", "lcm"}));
}

TEST(ApplyPipelineFixes, LeavesXlAlone) {
  const SchedulerConfig config =
      sd_config("DDIMScheduler", {{"steps_offset", 0}, {"clip_sample", true}});
  EXPECT_EQ(apply_pipeline_fixes(config, PipelineKind::kXl).raw, config.raw);
}

TEST(ApplyPipelineFixes, AcceptsAConfigMadeByHand) {
  SchedulerConfig config;
  config.class_name = "DDIMScheduler";
  const SchedulerConfig fixed = apply_pipeline_fixes(config, PipelineKind::kTextToImage);
  EXPECT_EQ(fixed.steps_offset, 1);
  EXPECT_EQ(fixed.raw["clip_sample"], false);
}

}  // namespace
}  // namespace molar
