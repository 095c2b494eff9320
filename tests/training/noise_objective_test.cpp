#include "molar/training/noise_objective.h"

#include "molar/schedulers/noise_schedule.h"
#include "training_fixtures.h"

namespace molar {
namespace {

SchedulerConfig config_for(const std::string& prediction_type) {
  return SchedulerConfig::from_json({{"_class_name", "DDPMScheduler"},
                                     {"beta_start", 0.00085},
                                     {"beta_end", 0.012},
                                     {"beta_schedule", "scaled_linear"},
                                     {"prediction_type", prediction_type}},
                                    "scheduler_config.json");
}

struct Rows {
  Tensor latents = torch::randn({3, 4, 2, 2}), noise = torch::randn({3, 4, 2, 2}),
         prediction = torch::randn({3, 4, 2, 2}), timesteps = torch::tensor({5, 500, 999});
};

/// The formulas of the header, number by number.
TEST(NoiseObjective, IsTheWeightedErrorOfItsTarget) {
  torch::manual_seed(1);
  const Rows rows;
  for (const std::string type : {"epsilon", "v_prediction", "sample"})
    for (const std::optional<double> gamma : {std::optional<double>{}, std::optional(5.0)}) {
      const SchedulerConfig config = config_for(type);
      const NoiseObjective objective(config, gamma, at::kCPU);
      const Tensor losses =
          objective.row_losses(rows.prediction, rows.latents, rows.noise, rows.timesteps);
      const Tensor noisy = objective.add_noise(rows.latents, rows.noise, rows.timesteps);
      for (int64_t i = 0; i < 3; ++i) {
        const int64_t t = rows.timesteps[i].item<int64_t>();
        const double a = make_alphas_cumprod(config)[t].item<double>(), snr = a / (1 - a);
        EXPECT_TRUE(is_close(
            noisy[i], add_noise(make_alphas_cumprod(config), rows.latents[i], rows.noise[i], t)));
        Tensor target = rows.noise[i];
        double weight = gamma ? std::min(snr, *gamma) / snr : 1.0;
        if (type == "v_prediction") {
          target = std::sqrt(a) * rows.noise[i] - std::sqrt(1 - a) * rows.latents[i];
          weight = gamma ? std::min(snr, *gamma) / (snr + 1) : 1.0;
        } else if (type == "sample") {
          target = rows.latents[i];
          weight = gamma ? std::min(snr, *gamma) : 1.0;
        }
        const double wanted = weight * (rows.prediction[i] - target).square().mean().item<double>();
        EXPECT_NEAR(losses[i].item<double>(), wanted, 1e-5 * wanted) << type << " " << t;
      }
    }
}

TEST(NoiseObjective, StaysFiniteWithoutAnySignal) {
  for (const std::string type : {"epsilon", "v_prediction", "sample"}) {
    SchedulerConfig config = config_for(type);
    config.rescale_betas_zero_snr = true;
    const NoiseObjective objective(config, 5.0, at::kCPU);
    const Rows rows;
    EXPECT_TRUE(objective.row_losses(rows.prediction, rows.latents, rows.noise, rows.timesteps)
                    .isfinite()
                    .all()
                    .item<bool>())
        << type;
  }
}

}  // namespace
}  // namespace molar
