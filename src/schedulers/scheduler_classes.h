/// The scheduler classes we have, as data: what diffusers' constructors take by default and know at
/// all.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "molar/schedulers/scheduler.h"

namespace molar {

using SchedulerFactory = std::unique_ptr<const Scheduler> (*)(const SchedulerConfig&,
                                                              const SchedulerOptions&);

// One per file of the same name. `options.num_steps` is in [1, T].
std::unique_ptr<const Scheduler> make_ddim(const SchedulerConfig&, const SchedulerOptions&);
std::unique_ptr<const Scheduler> make_ddpm(const SchedulerConfig&, const SchedulerOptions&);
std::unique_ptr<const Scheduler> make_pndm(const SchedulerConfig&, const SchedulerOptions&);
std::unique_ptr<const Scheduler> make_lms_discrete(const SchedulerConfig&, const SchedulerOptions&);
std::unique_ptr<const Scheduler> make_euler_discrete(const SchedulerConfig&,
                                                     const SchedulerOptions&);
std::unique_ptr<const Scheduler> make_euler_ancestral_discrete(const SchedulerConfig&,
                                                               const SchedulerOptions&);
std::unique_ptr<const Scheduler> make_heun_discrete(const SchedulerConfig&,
                                                    const SchedulerOptions&);
std::unique_ptr<const Scheduler> make_dpm_solver_multistep(const SchedulerConfig&,
                                                           const SchedulerOptions&);
std::unique_ptr<const Scheduler> make_dpm_solver_singlestep(const SchedulerConfig&,
                                                            const SchedulerOptions&);
std::unique_ptr<const Scheduler> make_unipc_multistep(const SchedulerConfig&,
                                                      const SchedulerOptions&);
std::unique_ptr<const Scheduler> make_lcm(const SchedulerConfig&, const SchedulerOptions&);

struct SchedulerClass {
  std::string_view name;
  SchedulerFactory make;
  double beta_start, beta_end;        ///< defaults of the constructor
  std::string_view beta_schedule;     ///< default
  std::string_view timestep_spacing;  ///< default
  std::string_view
      own_beta_schedule;       ///< beyond the three that all classes have, '|' between; or ""
  bool has_zero_snr;           ///< rescale_betas_zero_snr is a field of this class
  bool has_sample_prediction;  ///< prediction_type "sample" exists
};

std::span<const SchedulerClass> scheduler_classes();
/// nullptr: not ours.
const SchedulerClass* find_scheduler_class(std::string_view name);

}  // namespace molar
