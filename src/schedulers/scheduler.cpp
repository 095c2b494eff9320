#include "molar/schedulers/scheduler.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "molar/core/error.h"
#include "own_fields.h"
#include "scheduler_classes.h"

namespace molar {

size_t first_evaluation(const Scheduler& scheduler, int64_t num_steps, double strength) {
  if (!(strength > 0 && strength <= 1))
    throw ConfigError(fmt::format("--strength must be in (0, 1], is {}", strength));
  const auto kept = static_cast<int64_t>(static_cast<double>(num_steps) * strength);
  if (kept < 1)
    throw ConfigError(fmt::format(
        "--strength {} of {} steps leaves no step; ask for at least {:.3g} or more --steps",
        strength, num_steps, 1.0 / static_cast<double>(num_steps)));
  return static_cast<size_t>((num_steps - kept) * scheduler.order());
}

std::unique_ptr<const Scheduler> make_scheduler(const SchedulerConfig& config,
                                                const SchedulerOptions& options) {
  const SchedulerClass* const row = find_scheduler_class(config.class_name);
  if (row == nullptr) {
    std::vector<std::string_view> names;
    for (const SchedulerClass& known : scheduler_classes()) names.push_back(known.name);
    throw FileError(fmt::format(
        "{}: '_class_name' is \"{}\", which molar does not have; pass --sampler ({}) to replace "
        "it. molar has {}",
        source_of(config), config.class_name, fmt::join(sampler_names(), ", "),
        fmt::join(names, ", ")));
  }
  if (options.num_steps < 1 || options.num_steps > config.num_train_timesteps)
    throw ConfigError(fmt::format("--steps must be in [1, {}] for this model, is {}",
                                  config.num_train_timesteps, options.num_steps));
  if (!(options.eta >= 0 && options.eta <= 1))
    throw ConfigError(fmt::format("--eta must be in [0, 1], is {}", options.eta));
  if (options.eta != 0 && row->make != make_ddim)
    throw ConfigError(fmt::format("--eta is {}, but only --sampler ddim has it; this is {}",
                                  options.eta, sampler_name(config)));
  return row->make(config, options);
}

}  // namespace molar
