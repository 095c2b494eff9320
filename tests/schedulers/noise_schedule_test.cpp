#include "molar/schedulers/noise_schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "scheduler_test_tools.h"
#include "sigma_spacing.h"
#include "timestep_spacing.h"

namespace molar {
namespace {

TEST(NoiseSchedule, ScaledLinearBetasRunBetweenTheirEnds) {
  const Tensor betas = make_betas(test::sd_config("DDIMScheduler"));
  EXPECT_EQ(betas.size(0), 1000);
  EXPECT_NEAR(betas[0].item<double>(), 0.00085, 1e-9);
  EXPECT_NEAR(betas[-1].item<double>(), 0.012, 1e-8);
  EXPECT_NEAR(make_alphas_cumprod(test::sd_config("DDIMScheduler"))[-1].item<double>(), 0.0047,
              1e-4);
}

TEST(NoiseSchedule, ZeroTerminalSnrKeepsTheFirstLevelAndEmptiesTheLast) {
  const Tensor betas = make_betas(test::sd_config("DDIMScheduler"));
  const Tensor rescaled = (1.0 - rescale_zero_terminal_snr(betas)).cumprod(0);
  EXPECT_NEAR(rescaled[0].item<double>(), 1.0 - 0.00085, 1e-6);
  EXPECT_EQ(rescaled[-1].item<double>(), 0.0);
}

TEST(NoiseSchedule, ClassesWithoutTheFieldIgnoreZeroSnr) {
  const Json fields = {{"rescale_betas_zero_snr", true}};
  EXPECT_EQ(make_alphas_cumprod(test::sd_config("DDIMScheduler", fields))[-1].item<double>(), 0.0);
  EXPECT_GT(make_alphas_cumprod(test::sd_config("PNDMScheduler", fields))[-1].item<double>(),
            0.004);
}

TEST(NoiseSchedule, AddNoiseKeepsTheVarianceOfUnitData) {
  const Tensor alphas = make_alphas_cumprod(test::sd_config("DDIMScheduler"));
  const Tensor signal = add_noise(alphas, at::ones({1}), at::zeros({1}), 500);
  const Tensor spread = add_noise(alphas, at::zeros({1}), at::ones({1}), 500);
  EXPECT_NEAR((signal.square() + spread.square()).item<double>(), 1.0, 1e-6);
}

TEST(TrainingSigmas, TimestepAndSigmaAreInversesAtWholeTimesteps) {
  const TrainingSigmas training(make_alphas_cumprod(test::sd_config("DDIMScheduler")));
  for (const double t : {0.0, 1.0, 17.0, 500.0, 998.0, 999.0})
    EXPECT_NEAR(training.timestep_of(training.at(t)), t,
                2e-4);  // float32 logarithms, over their slope
  EXPECT_EQ(training.timestep_of(0.0), 0.0);
  EXPECT_EQ(training.timestep_of(1e6), 999.0);
  EXPECT_EQ(training.at(-3.0), training.least());
  EXPECT_EQ(training.at(1200.0), training.most());
  EXPECT_NEAR(training.at(10.5), (training.at(10.0) + training.at(11.0)) / 2, 1e-9);
}

TEST(RespacedSigmas, SpanTheirRangeAndFall) {
  for (const SigmaSpacing spacing :
       {SigmaSpacing::kKarras, SigmaSpacing::kExponential, SigmaSpacing::kBeta}) {
    const std::vector<double> sigmas = respaced_sigmas(spacing, {14.6, 0.03}, 12);
    ASSERT_EQ(sigmas.size(), 12U);
    EXPECT_NEAR(sigmas.front(), 14.6, 1e-12);
    EXPECT_NEAR(sigmas.back(), 0.03, 1e-12);
    EXPECT_TRUE(std::is_sorted(sigmas.rbegin(), sigmas.rend()));
    EXPECT_EQ(respaced_sigmas(spacing, {14.6, 0.03}, 1).size(), 1U);
  }
  const std::vector<double> karras = respaced_sigmas(SigmaSpacing::kKarras, {128.0, 1.0}, 3);
  EXPECT_NEAR(karras[1], std::pow(1.5, 7), 1e-10);  // (2^(7/7) + 1) / 2
}

TEST(BetaQuantile, InvertsClosedForms) {
  for (const double p : {0.0, 1e-6, 0.01, 0.3, 0.5, 0.77, 0.999, 1.0}) {
    const double s = std::sin(std::acos(-1.0) * p / 2);
    EXPECT_NEAR(beta_quantile(p, 0.5, 0.5), s * s, 1e-13) << p;         // arcsine law
    EXPECT_NEAR(beta_quantile(p, 1.0, 1.0), p, 1e-14) << p;             // uniform
    EXPECT_NEAR(beta_quantile(p, 2.0, 1.0), std::sqrt(p), 1e-13) << p;  // density 2x
    EXPECT_NEAR(beta_quantile(p, 0.6, 0.6) + beta_quantile(1 - p, 0.6, 0.6), 1.0, 1e-9) << p;
  }
}

TEST(EvenRange, ReachesBothEnds) {
  EXPECT_EQ(even_range(0, 1, 5), (std::vector<double>{0, 0.25, 0.5, 0.75, 1}));
  EXPECT_EQ(even_range(3, 9, 1), (std::vector<double>{3}));
}

}  // namespace
}  // namespace molar
