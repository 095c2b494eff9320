#include "molar/training/merge_training_options.h"

#include <fmt/format.h>

#include <limits>

#include "molar/core/error.h"
#include "option_checks.h"

namespace molar {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void require(const std::filesystem::path& path, const char* what, const char* option) {
  if (path.empty()) throw ConfigError(fmt::format("no {}; wanted {}", what, option));
}

}  // namespace

void MergeTrainingOptions::validate() const {
  check_output(output);
  check_integers({
      {"--steps", num_steps, 1, kManySteps},
      {"--batch-size", batch_size, 1, 4096},
      {"--checkpoint-every", checkpoint_every, 0, kManySteps},
      {"--resolution", resolution_px.value_or(8), 8, 8192},
  });
  check_numbers({
      {"--learning-rate", learning_rate, 0, kInfinity},
      {"--similarity-weight", similarity_weight, 0, kInfinity},
  });
  check_training_dtype(compute.dtype);
}

Json MergeTrainingOptions::to_json() const {
  return {{"steps", num_steps},
          {"batch-size", batch_size},
          {"learning-rate", learning_rate},
          {"similarity-weight", similarity_weight},
          {"seed", seed},
          {"dtype", dtype_option(compute.dtype)}};
}

void ZiploraOptions::validate() const {
  require(subject.file, "subject", "--subject FILE");
  require(style.file, "style", "--style FILE");
  require(subject.pictures.folder, "pictures of the subject", "--subject-images DIR");
  require(style.pictures.folder, "pictures of the style", "--style-images DIR");
  run.validate();
}

void HypernetOptions::validate() const {
  require(subjects, "subject LoRAs", "--subjects DIR");
  require(styles, "style LoRAs", "--styles DIR");
  if (validation_subjects.empty() != validation_styles.empty())
    throw ConfigError(
        "--validation-subjects and --validation-styles make pairs together; found one of them");
  run.validate();
  check_integers({
      {"--hidden", num_hidden, 1, 65536},
      {"--pairs-per-step", pairs_per_step, 1, 4096},
      {"--validate-every", steps_between_validations(), 1, kManySteps},
      {"--patience", patience, 0, kManySteps},
  });
  check_numbers({
      {"--joint-weight", joint_weight, 0, kInfinity},
      {"--weight-decay", weight_decay, 0, kInfinity},
      {"--max-grad-norm", max_grad_norm, 0, kInfinity},
  });
  for (const auto& [option, is_given] :
       {std::pair{"--patience", patience > 0}, {"--validate-every", validate_every.has_value()}})
    if (is_given && !validates())
      throw ConfigError(
          fmt::format("{} without --validation-subjects DIR and --validation-styles DIR: nothing "
                      "is validated",
                      option));
}

Json HypernetOptions::to_json() const {
  Json json = run.to_json();
  json.update(Json{{"layout", hypernet_layout_name(layout)},
                   {"hidden", num_hidden},
                   {"joint-weight", joint_weight},
                   {"constant", constant},
                   {"pairs-per-step", pairs_per_step},
                   {"weight-decay", weight_decay},
                   {"max-grad-norm", max_grad_norm}});
  if (validates())
    json.update(Json{{"validate-every", steps_between_validations()}, {"patience", patience}});
  return json;
}

}  // namespace molar
