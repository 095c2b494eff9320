#include "training_flags.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "progress_display.h"
#include "signals.h"

namespace molar::cli {

void register_training_model(CLI::App& app, TrainingFlags& flags, const std::string& learnt) {
  register_model_options(app, flags.model);
  OptionBinder model(app, "Model");
  model.value("--dtype", flags.dtype, "f32|bf16",
              fmt::format("Type of the frozen model; {} f32 (f32)", learnt));
}

void register_training_output(CLI::App& app, TrainingFlags& flags, const OutputWords& output,
                              int64_t checkpoint_every) {
  OptionBinder binder(app, "Output");
  binder.value("-o,--output", flags.output, output.type, output.text);
  binder.value(
      "--checkpoint-every", flags.checkpoint_every, "N",
      fmt::format("Steps after which an interrupted run can go on; 0: only if stopped ({})",
                  checkpoint_every));
  binder.flag("--resume", flags.resume,
              "Go on where the same command was interrupted (the default)");
  binder.flag("--no-resume", flags.no_resume,
              "Start anew: replaces the result and the checkpoint of an earlier run");
  register_machine_options(app, flags.machine);
  register_run_options(app, flags.run);
}

void run_training_command(const TrainingFlags& flags, const TrainingTask& task,
                          const LogSession& log, const Training& training) {
  const CancellationToken& cancellation = handle_signals(flags.run.quiet);
  ModelRequest model;
  take_model(flags.model, model);
  set_threads(flags.machine.threads);
  spdlog::info("learning {} with {}, {} on {}, seed {}", task.what, model.model.string(),
               dtype_option(task.compute.dtype), task.compute.device.str(), task.seed);
  const Checkpoint checkpoint = open_model(model);
  const std::unique_ptr<ProgressSink> progress =
      make_progress_display(flags.machine.progress_style(flags.run.quiet));
  const TrainingResult result = training(checkpoint, {.progress = *progress,
                                                      .cancellation = cancellation,
                                                      .on_step = [&](const TrainingStep& step) {
                                                        if (flags.run.json) report_step(step);
                                                      }});
  if (!result.already_finished && result.num_layers > 0)
    spdlog::info("{} steps: {} layers, {} numbers", result.num_steps, result.num_layers,
                 result.num_parameters);
  report_outcome(result, flags.run.json, log.warnings());
}

}  // namespace molar::cli
