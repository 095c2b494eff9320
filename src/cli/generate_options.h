/// Options of `molar generate`, and how they become a request.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "machine_options.h"
#include "model_options.h"
#include "molar/core/atomic_file.h"
#include "molar/pipeline/generation_request.h"
#include "molar/pipeline/run_record.h"
#include "run_options.h"
#include "value_parsing.h"

namespace molar::cli {

/// Which experts act, and how.
struct MoleOptions {
  std::optional<std::filesystem::path> folder;
  bool off = false;
  std::vector<ExpertStrength> strengths;
  std::vector<ExpertRegion> regions;
  std::optional<double> cap, start, end;
};

/// Unset means: not asked for; the record of `--from`, the model or the built-in default decides.
struct GenerateOptions {
  // What makes the picture.
  std::optional<std::string> prompt, negative_prompt, prompt_2, negative_prompt_2;
  std::optional<PromptSyntax> prompt_syntax;
  std::optional<int64_t> clip_skip;
  ModelOptions model;
  std::optional<std::string> dtype;
  bool vae_tiling = false;
  std::optional<LoraUse> subject, style;
  std::optional<double> subject_weight, style_weight;
  std::vector<LoraUse> loras;
  std::optional<std::string> merge;
  std::optional<std::filesystem::path> hypernetwork, coefficients;
  bool allow_partial_lora = false;
  MoleOptions mole;
  std::optional<std::string> sampler;
  std::optional<int64_t> steps, width, height, count;
  std::optional<uint64_t> seed;
  std::optional<double> cfg_scale, guidance_rescale, eta, strength;
  std::optional<std::filesystem::path> init_image, mask;
  /// Long names of the options above.
  std::set<std::string> picture_option_names;

  // How it is made, and where it goes.
  std::optional<std::filesystem::path> from;
  std::optional<std::string> output;
  std::optional<OnExist> on_exist;
  std::optional<std::filesystem::path> heatmaps;
  MachineOptions machine;
  bool no_metadata = false;
  bool dry_run = false;
  RunOptions run;
};

/// What makes the picture: the options that batch has for its rows, too, and its columns name.
/// `options` must outlive the parse.
void register_picture_options(CLI::App& app, GenerateOptions& options);

/// `options` must outlive the parse.
CLI::App* register_generate(CLI::App& program, GenerateOptions& options);

/// Prompts of "-" replaced by standard input. Throws ConfigError where several are, InputError
/// where that is no text.
GenerateOptions with_prompts_read(GenerateOptions options);

/// A recorded request (or an empty one) with everything that `options` set on top; a seed that
/// nobody gave is 0. Throws ConfigError where no prompt was given.
GenerationRequest resolve_request(const GenerateOptions& options,
                                  const std::optional<RecordedRequest>& recorded);

/// Throws ConfigError where no model was given and none is bundled.
ModelRequest resolve_model(const GenerateOptions& options,
                           const std::optional<RecordedRequest>& recorded);

}  // namespace molar::cli
