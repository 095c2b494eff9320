#include "training_loop.h"

#include <fmt/format.h>

#include <algorithm>

namespace molar {

void run_training(StepwiseTrainer& trainer, const RunFiles& files, int64_t checkpoint_every,
                  const TrainingContext& context,
                  const std::function<void(const TrainingStep&)>& after_step) {
  if (const auto unfinished = files.unfinished())
    trainer.restore(unfinished->state, unfinished->num_steps_done);
  const auto write_checkpoint = [&] {
    files.write_checkpoint({trainer.state(), trainer.num_steps_done()});
  };
  const int64_t done = trainer.num_steps_done();
  // Hours of work must not end at a folder that cannot be written to.
  if (done == 0) write_checkpoint();
  context.progress.begin(done == 0 ? "training" : fmt::format("training from step {}", done),
                         trainer.num_steps() - done);
  while (!trainer.finished()) {
    if (context.cancellation.requested()) write_checkpoint();
    context.cancellation.stop_here_if_requested();
    const TrainingStep step = trainer.advance();
    context.progress.describe(fmt::format("loss {:.4f}", step.loss));
    context.progress.advance();
    context.on_step(step);
    if (!trainer.finished() && checkpoint_every > 0 && step.step % checkpoint_every == 0)
      write_checkpoint();
    if (after_step) after_step(step);
  }
  context.progress.end();
}

void run_picture_training(StepwiseTrainer& trainer, const RunFiles& files,
                          const PictureTrainingOptions& options, const TrainingContext& context,
                          const std::function<LoraFileContent()>& content,
                          const SampleSink& on_sample) {
  const auto sample_if_due = [&](const TrainingStep& step) {
    const bool due = step.step % std::max<int64_t>(options.sample_every, 1) == 0;
    if (options.sample_every > 0 && (due || trainer.finished())) on_sample(step.step, content());
  };
  run_training(trainer, files, options.checkpoint_every, context, sample_if_due);
  files.write_result(content(), trainer.num_steps_done());
}

}  // namespace molar
