#include "scheduler_classes.h"

#include <algorithm>

namespace molar {
namespace {

constexpr SchedulerClass kClasses[] = {
    {"DDIMScheduler", make_ddim, 0.0001, 0.02, "linear", "leading", "", true, true},
    {"DDPMScheduler", make_ddpm, 0.0001, 0.02, "linear", "leading", "sigmoid|laplace", true, true},
    {"PNDMScheduler", make_pndm, 0.0001, 0.02, "linear", "leading", "", false, false},
    {"LMSDiscreteScheduler", make_lms_discrete, 0.0001, 0.02, "linear", "linspace", "", false,
     true},
    {"EulerDiscreteScheduler", make_euler_discrete, 0.0001, 0.02, "linear", "linspace", "", true,
     true},
    {"EulerAncestralDiscreteScheduler", make_euler_ancestral_discrete, 0.0001, 0.02, "linear",
     "linspace", "", true, false},
    {"HeunDiscreteScheduler", make_heun_discrete, 0.00085, 0.012, "linear", "linspace", "exp",
     false, true},
    {"DPMSolverMultistepScheduler", make_dpm_solver_multistep, 0.0001, 0.02, "linear", "linspace",
     "", true, true},
    {"DPMSolverSinglestepScheduler", make_dpm_solver_singlestep, 0.0001, 0.02, "linear", "linspace",
     "", false, true},
    {"UniPCMultistepScheduler", make_unipc_multistep, 0.0001, 0.02, "linear", "linspace", "", true,
     true},
    {"LCMScheduler", make_lcm, 0.00085, 0.012, "scaled_linear", "leading", "", true, true},
};

}  // namespace

std::span<const SchedulerClass> scheduler_classes() { return kClasses; }

const SchedulerClass* find_scheduler_class(std::string_view name) {
  const auto* const found =
      std::find_if(std::begin(kClasses), std::end(kClasses),
                   [&](const SchedulerClass& row) { return row.name == name; });
  return found == std::end(kClasses) ? nullptr : found;
}

}  // namespace molar
