#include "molar/schedulers/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "molar/core/error.h"
#include "molar/schedulers/noise_schedule.h"
#include "scheduler_test_tools.h"

namespace molar {
namespace {

using test::draws_from;
using test::ramp;
using test::sd_config;

std::string message_of(const std::function<void()>& action, ExitCode wanted) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), wanted) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

SchedulerConfig config_of(const std::string& sampler) {
  return config_for_sampler(sampler, sd_config("DDIMScheduler"));
}

class EverySampler : public testing::TestWithParam<std::string> {};

TEST_P(EverySampler, StepGivesTheSameAnswerTwice) {
  const auto scheduler = make_scheduler(config_of(GetParam()), {.num_steps = 8});
  const auto once = [&] {
    RandomSource source(3);
    const Tensor x = source.randn(test::kShape) * scheduler->init_noise_sigma();
    return test::run(*scheduler, x, 0, draws_from(source),
                     [](const Tensor& seen, double t, size_t) { return test::toy_model(seen, t); });
  };
  const test::Trace first = once(), second = once();
  ASSERT_EQ(first.samples.size(), second.samples.size());
  for (size_t i = 0; i < first.samples.size(); ++i)
    EXPECT_TRUE(at::equal(first.samples[i], second.samples[i])) << i;
}

TEST_P(EverySampler, StepLeavesItsArgumentsAlone) {
  const auto scheduler = make_scheduler(config_of(GetParam()), {.num_steps = 8});
  StepState state;
  Tensor x = ramp(-1, 1);
  for (size_t i = 0; i < scheduler->timesteps().size(); ++i) {
    const StepState before = state;
    std::vector<Tensor> copies;
    for (const Tensor& one : before.history) copies.push_back(one.clone());
    const Tensor output = ramp(0.5, -0.5), output_copy = output.clone(), x_copy = x.clone();
    RandomSource source(1), again(1);
    const StepResult result = scheduler->step(i, output, x, before, draws_from(source));
    EXPECT_TRUE(at::equal(x, x_copy));
    EXPECT_TRUE(at::equal(output, output_copy));
    for (size_t k = 0; k < copies.size(); ++k) EXPECT_TRUE(at::equal(before.history[k], copies[k]));
    EXPECT_TRUE(
        at::equal(scheduler->step(i, output, x, before, draws_from(again)).sample, result.sample));
    state = result.state;
    x = result.sample;
  }
}

TEST_P(EverySampler, ModelThatKnowsTheNoiseLeadsBackToTheCleanSample) {
  // With x = signal * x_0 + spread * noise at every level, the noise a perfect model reports is the
  // one that the sample holds. Stochastic samplers put new noise in, so the model reads it off the
  // sample.
  Json fields = {{"set_alpha_to_one", true}};
  const auto scheduler = make_scheduler(
      config_for_sampler(GetParam(), sd_config("DDIMScheduler", fields)), {.num_steps = 20});
  const Tensor x_0 = ramp(-0.9, 1.1);
  RandomSource source(11);
  const Tensor noise = source.randn(test::kShape);
  const Tensor one = at::ones({1, 1, 1, 1}), none = at::zeros({1, 1, 1, 1});
  const test::Model perfect = [&](const Tensor& seen, double, size_t i) {
    const Tensor signal = scheduler->scale_model_input(scheduler->add_noise(one, none, i), i);
    const Tensor spread = scheduler->scale_model_input(scheduler->add_noise(none, one, i), i);
    return (seen - signal * x_0) / spread;
  };
  const test::Trace trace =
      test::run(*scheduler, scheduler->add_noise(x_0, noise, 0), 0, draws_from(source), perfect);
  // 2e-3: lcm mixes in c_skip * x at its last step (t = 19: 7e-6), lms and pndm extrapolate float32
  // noise that was divided by a small spread.
  EXPECT_LE((trace.samples.back() - x_0).abs().max().item<double>(), 2e-3);
}

TEST_P(EverySampler, DrawsNoiseOnlyWhereItIsStochastic) {
  const std::set<std::string> stochastic = {"ddpm", "euler_a", "dpmpp_sde", "lcm"};
  const auto scheduler = make_scheduler(config_of(GetParam()), {.num_steps = 6});
  int draws = 0;
  RandomSource source(5);
  const NoiseDraw counted = [&](at::IntArrayRef shape) {
    ++draws;
    return source.randn(shape);
  };
  test::run(*scheduler, ramp(-1, 1), 0, counted,
            [](const Tensor& seen, double t, size_t) { return test::toy_model(seen, t); });
  if (stochastic.contains(GetParam()))
    EXPECT_GE(draws, 5);
  else
    EXPECT_EQ(draws, 0);
}

TEST_P(EverySampler, TimestepsFallAndStayInTheModel) {
  for (const int64_t steps : {1, 2, 3, 7, 30, 50}) {
    const auto scheduler = make_scheduler(config_of(GetParam()), {.num_steps = steps});
    const std::vector<double>& t = scheduler->timesteps();
    EXPECT_GE(t.size(), static_cast<size_t>(steps));
    EXPECT_LE(t.size(), static_cast<size_t>(2 * steps));
    EXPECT_TRUE(std::is_sorted(t.rbegin(), t.rend())) << steps;
    EXPECT_GE(t.back(), 0);
    EXPECT_LT(t.front(), 1000);
  }
}

TEST_P(EverySampler, RefusesMoreStepsThanTheModelHas) {
  const std::string message = message_of(
      [&] { make_scheduler(config_of(GetParam()), {.num_steps = 1001}); }, ExitCode::kUsage);
  EXPECT_NE(message.find("1001"), std::string::npos) << message;
  EXPECT_NE(message.find("--steps"), std::string::npos) << message;
  message_of([&] { make_scheduler(config_of(GetParam()), {.num_steps = 0}); }, ExitCode::kUsage);
}

TEST_P(EverySampler, NamesItself) { EXPECT_EQ(sampler_name(config_of(GetParam())), GetParam()); }

TEST_P(EverySampler, RefusesAnEtaThatItDoesNotHave) {
  const auto make = [&](double eta) {
    make_scheduler(config_of(GetParam()), {.num_steps = 5, .eta = eta});
  };
  if (GetParam() == "ddim") {
    EXPECT_NO_THROW(make(0.5));
  } else {
    EXPECT_NE(message_of([&] { make(0.5); }, ExitCode::kUsage).find("only --sampler ddim"),
              std::string::npos);
  }
  message_of([&] { make(-0.1); }, ExitCode::kUsage);
  message_of([&] { make(1.1); }, ExitCode::kUsage);
  message_of([&] { make(std::nan("")); }, ExitCode::kUsage);
}

INSTANTIATE_TEST_SUITE_P(Samplers, EverySampler, testing::ValuesIn(sampler_names()),
                         [](const testing::TestParamInfo<std::string>& row) { return row.param; });

TEST(DDIMScheduler, LastStepReturnsThePredictedSampleWhereAlphaIsOne) {
  const auto scheduler =
      make_scheduler(sd_config("DDIMScheduler", {{"set_alpha_to_one", true}}), {.num_steps = 10});
  const double alpha =
      make_alphas_cumprod(sd_config("DDIMScheduler"))[1].item<double>();  // its last timestep
  const Tensor x = ramp(-1, 1), epsilon = ramp(0.3, -0.4);
  const Tensor x_0 = (x - std::sqrt(1 - alpha) * epsilon) / std::sqrt(alpha);
  EXPECT_EQ(scheduler->timesteps().back(), 1);
  EXPECT_LE((scheduler->step(9, epsilon, x, {}, nullptr).sample - x_0).abs().max().item<double>(),
            1e-6);
}

TEST(LMSDiscreteScheduler, FirstStepIsEulersAndLaterStepsIntegrateTheLagrangePolynomial) {
  // The slow literal form: Simpson's rule on the polynomial through the last slopes, in double.
  const auto lms = make_scheduler(sd_config("LMSDiscreteScheduler"), {.num_steps = 6});
  const auto euler = make_scheduler(sd_config("EulerDiscreteScheduler"), {.num_steps = 6});
  const auto sigma = [&](size_t i) {
    return lms->add_noise(at::zeros({1}), at::ones({1}), i).item<double>();
  };
  const auto model = [](const Tensor& seen, double t, size_t) { return test::toy_model(seen, t); };
  Tensor x = ramp(-10, 12);
  EXPECT_LE((test::run(*lms, x, 0, nullptr, model).samples[0] -
             test::run(*euler, x, 0, nullptr, model).samples[0])
                .abs()
                .max()
                .item<double>(),
            1e-5);
  std::vector<Tensor> slopes;
  StepState state;
  for (size_t i = 0; i < 5; ++i) {
    const Tensor output = model(lms->scale_model_input(x, i), lms->timesteps()[i], i);
    slopes.push_back(output);  // epsilon prediction: the slope is the model's output
    const size_t order = std::min<size_t>(4, i + 1);
    Tensor wanted = x.to(at::kDouble);
    constexpr int kPieces = 200;
    for (size_t k = 0; k < order; ++k) {
      const auto lagrange = [&](double s) {
        double value = 1;
        for (size_t j = 0; j < order; ++j)
          if (j != k) value *= (s - sigma(i - j)) / (sigma(i - k) - sigma(i - j));
        return value;
      };
      const double width = (sigma(i + 1) - sigma(i)) / kPieces;
      double sum = 0;
      for (int p = 0; p < kPieces; ++p) {
        const double a = sigma(i) + p * width;
        sum += width / 6 * (lagrange(a) + 4 * lagrange(a + width / 2) + lagrange(a + width));
      }
      wanted = wanted + sum * slopes[i - k].to(at::kDouble);
    }
    StepResult result = lms->step(i, output, x, std::move(state), nullptr);
    EXPECT_LE((result.sample - wanted).abs().max().item<double>(), 2e-5) << "step " << i;
    x = result.sample;
    state = std::move(result.state);
  }
}

TEST(PNDMScheduler, NeedsFourStepsForRungeKutta) {
  const SchedulerConfig config = sd_config("PNDMScheduler", {{"skip_prk_steps", false}});
  const std::string message =
      message_of([&] { make_scheduler(config, {.num_steps = 3}); }, ExitCode::kUsage);
  EXPECT_NE(message.find("at least 4"), std::string::npos) << message;
  EXPECT_EQ(make_scheduler(config, {.num_steps = 4})->timesteps().size(), 13U);
}

TEST(LCMScheduler, RefusesMoreStepsThanItWasDistilledWith) {
  const std::string message = message_of(
      [] { make_scheduler(sd_config("LCMScheduler"), {.num_steps = 51}); }, ExitCode::kUsage);
  EXPECT_NE(message.find("at most 50"), std::string::npos) << message;
}

TEST(UniPCMultistepScheduler, Bh1ReachesTheCleanSampleWhereDiffusersGivesNaN) {
  const auto scheduler = make_scheduler(
      sd_config("UniPCMultistepScheduler", {{"solver_type", "bh1"}}), {.num_steps = 5});
  const test::Trace trace =
      test::run(*scheduler, ramp(-1, 1), 0, nullptr,
                [](const Tensor& seen, double t, size_t) { return test::toy_model(seen, t); });
  EXPECT_TRUE(at::isfinite(trace.samples.back()).all().item<bool>());
}

TEST(TrailingSpacing, HasNoTimestepBelowZeroWhereRoundingWouldAddOne) {
  for (const int64_t steps : {61, 103, 466, 769}) {  // numpy's range has one value too many here
    for (const char* const name :
         {"DDIMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"}) {
      const auto scheduler =
          make_scheduler(sd_config(name, {{"timestep_spacing", "trailing"}}), {.num_steps = steps});
      EXPECT_EQ(scheduler->timesteps().size(), static_cast<size_t>(steps)) << name;
      EXPECT_EQ(scheduler->timesteps().front(), 999) << name;
      EXPECT_GE(scheduler->timesteps().back(), 0) << name;
    }
  }
}

TEST(LeadingSpacing, RefusesATimestepThatTheModelDoesNotHave) {
  const SchedulerConfig config = sd_config("DDIMScheduler");  // 999 * 1 + steps_offset
  const std::string message =
      message_of([&] { make_scheduler(config, {.num_steps = 1000}); }, ExitCode::kUsage);
  EXPECT_NE(message.find("timestep 1000"), std::string::npos) << message;
}

TEST(SolverSpacing, RefusesTwoStepsAtOneNoiseLevel) {
  for (const char* const name : {"DPMSolverMultistepScheduler", "UniPCMultistepScheduler"}) {
    const std::string message =
        message_of([&] { make_scheduler(sd_config(name), {.num_steps = 1000}); }, ExitCode::kUsage);
    EXPECT_NE(message.find("same noise level"), std::string::npos) << message;
    const SchedulerConfig leading = sd_config(name, {{"timestep_spacing", "leading"}});
    EXPECT_NE(message_of([&] { make_scheduler(leading, {.num_steps = 1000}); }, ExitCode::kUsage)
                  .find("at most 999"),
              std::string::npos);
  }
}

TEST(FirstEvaluation, CountsAsDiffusersImg2ImgPipelineDoes) {
  const auto euler = make_scheduler(config_of("euler"), {.num_steps = 30});
  const auto heun = make_scheduler(config_of("heun"), {.num_steps = 30});
  EXPECT_EQ(first_evaluation(*euler, 30, 0.8), 6U);
  EXPECT_EQ(first_evaluation(*heun, 30, 0.8), 12U);
  EXPECT_EQ(first_evaluation(*euler, 30, 1.0), 0U);
  EXPECT_EQ(first_evaluation(*euler, 30, 0.05), 29U);  // int(1.5) steps
}

TEST(FirstEvaluation, RefusesAStrengthThatLeavesNothing) {
  const auto euler = make_scheduler(config_of("euler"), {.num_steps = 30});
  EXPECT_NE(message_of([&] { first_evaluation(*euler, 30, 0.03); }, ExitCode::kUsage)
                .find("leaves no step"),
            std::string::npos);
  for (const double bad : {0.0, -0.5, 1.01, std::nan("")})
    message_of([&] { first_evaluation(*euler, 30, bad); }, ExitCode::kUsage);
}

}  // namespace
}  // namespace molar
