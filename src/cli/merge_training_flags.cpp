#include "merge_training_flags.h"

#include <fmt/format.h>

namespace molar::cli {

void register_merge_training(CLI::App& app, MergeTrainingFlags& flags,
                             const MergeTrainingOptions& defaults) {
  register_training_model(app, flags, "what is learnt is");
  OptionBinder model(app, "Model");
  model.value("--resolution", flags.resolution, "PX",
              "Side of the square that is cut out of each picture (the model's own)");

  OptionBinder training(app, "Training");
  training.value("--steps", flags.steps, "N",
                 fmt::format("Updates of what is learnt ({})", defaults.num_steps));
  training.value("--batch-size", flags.batch_size, "N",
                 fmt::format("Pictures of each LoRA per pass ({})", defaults.batch_size));
  training.value("--learning-rate", flags.learning_rate, "X",
                 fmt::format("Of AdamW ({})", defaults.learning_rate));
  training.value("--similarity-weight", flags.similarity_weight, "X",
                 fmt::format("How much both LoRAs' coefficients are kept apart, lambda ({})",
                             defaults.similarity_weight));
  training.value("-s,--seed", flags.seed, "N", "Seed of everything random (0)");
  training.flag("--gradient-checkpointing", flags.gradient_checkpointing,
                "Much less memory, about a third more time");

  register_training_output(app, flags, {"FILE", "What was learnt, a .safetensors file"},
                           defaults.checkpoint_every);
}

void take_merge_training(const MergeTrainingFlags& flags, MergeTrainingOptions& options) {
  take_training(flags, options);
  take(flags.similarity_weight, options.similarity_weight);
  take(flags.output, options.output);
}

}  // namespace molar::cli
