/// What DPM-Solver's multistep and singlestep forms share.
/// Sources: Lu et al. 2022, arXiv:2206.00927 (dpmsolver) and arXiv:2211.01095 (dpmsolver++,
/// appendix B for the SDE forms).
///
/// code name -> symbol: from -> s (where the step begins), to -> t, h -> lambda_t - lambda_s,
/// d0 -> D_0 (the model's value), d1 -> D_1 (its slope), d2 -> D_2 (its curvature).
#pragma once

#include <string>

#include "scheduler_bases.h"

namespace molar {

enum class DpmAlgorithm { kDpmSolver, kDpmSolverPlusPlus, kSdeDpmSolver, kSdeDpmSolverPlusPlus };
enum class DpmSolverType { kMidpoint, kHeun };

class DpmSolverScheduler : public SolverScheduler {
 protected:
  struct Settings {
    DpmAlgorithm algorithm;
    DpmSolverType solver_type;
    int64_t solver_order;  ///< 1, 2 or 3
    bool final_zero;       ///< final_sigmas_type
  };
  /// Reads the fields of both classes. Throws FileError.
  static Settings read_settings(const SchedulerConfig& config);

  DpmSolverScheduler(const SchedulerConfig& config, const Settings& settings, SigmaPlan plan);

  bool stochastic() const;
  /// The prediction that the algorithm integrates: x_0 for the ++ forms, else epsilon; thresholded.
  Tensor converted(const Tensor& model_output, const Tensor& x, size_t i) const;

  /// The change of sample and model terms over one step, evaluated only as far as a formula needs
  /// them: towards the clean sample d1 and d2 are not finite.
  class Update {
   public:
    Update(const Settings& settings, const Level& from, const Level& to);
    Tensor h() const { return h_; }
    /// The sample and the constant term.
    Tensor first_order(const Tensor& x, const Tensor& d0) const;
    Tensor slope() const;  ///< coefficient of d1 in second order: by solver_type
    Tensor exact_slope()
        const;                 ///< coefficient of d1 by the exact integral (heun, and third order)
    Tensor curvature() const;  ///< coefficient of d2
    Tensor noise() const;      ///< coefficient of the noise; stochastic algorithms only

   private:
    const Settings& settings_;
    const Level& from_;
    const Level& to_;
    Tensor h_;
  };

  Settings settings_;

 private:
  SampleLimits limits_;
};

/// The first timestep index that lambda_min_clipped leaves, counted from the noisy end.
int64_t num_clipped_timesteps(const SchedulerConfig& config, const Tensor& alphas_cumprod);

}  // namespace molar
