/// `molar train ziplora`: two LoRAs and their pictures -> coefficients that weigh their columns.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "command.h"
#include "merge_training_flags.h"
#include "molar/core/log.h"

namespace molar::cli {

struct TrainZiploraOptions {
  std::optional<std::filesystem::path> subject, style, subject_images, style_images;
  std::optional<std::string> subject_prompt, style_prompt;
  MergeTrainingFlags training;
};

/// `group`: the command `train`. `options` must outlive the parse.
CLI::App* register_train_ziplora(CLI::App& group, TrainZiploraOptions& options);
CommandHelp train_ziplora_help();

/// Trains, or says that an earlier run did. Throws molar's errors; see DESIGN for exit codes.
void run_train_ziplora(const TrainZiploraOptions& options, const LogSession& log);

}  // namespace molar::cli
