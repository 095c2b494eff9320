/// What one picture is asked to be: the value that the command line, a CSV row or a picture's own
/// record becomes, and that the pipeline draws.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "molar/adapters/block_strengths.h"
#include "molar/core/device.h"
#include "molar/io/checkpoint.h"
#include "molar/io/json_config.h"

namespace molar {

/// A LoRA file (or PEFT folder) and its strength: `FILE[@W[:BLOCK=W,...]]`.
struct LoraUse {
  std::filesystem::path file;
  double weight = 1.0;         ///< strength W; any finite number
  BlockStrengths blocks = {};  ///< times these
};

/// "0.8", "0.8:MID=0.5".
std::string strength_text(const LoraUse& use);

/// Which LoRAs act and how the two roles are merged.
struct AdapterRequest {
  std::optional<LoraUse> subject, style;
  std::vector<LoraUse> loras;  ///< join after the merge
  std::string merge = "auto";  ///< a name of merge_method_names()
  /// For "lorarar" and "auto"; empty: hypernet.safetensors beside the model, if any.
  std::filesystem::path hypernetwork;
  std::filesystem::path coefficients;  ///< for "ziplora"
  bool allow_partial = false;          ///< keys that fit nothing are a counted warning
  bool empty() const { return !subject && !style && loras.empty(); }
};

/// An expert of MoLE and its strength: `NAME=W`.
struct ExpertStrength {
  std::string name;
  double weight = 1.0;  ///< times the expert's result; its gates stay as learnt
};

/// Pixels of the picture, half-open: [x, x + width) by [y, y + height).
struct PixelBox {
  int64_t x = 0, y = 0, width = 0, height = 0;
};
/// Where the expert's own gates are high in the middle of the sampling.
struct FoundByGates {};
/// Where an expert acts: `NAME=x,y,w,h`, `NAME=MASK.png` (white: there) or `NAME=auto`. Several of
/// one expert are joined.
struct ExpertRegion {
  std::string expert;
  std::variant<PixelBox, std::filesystem::path, FoundByGates> where;
};

/// Which experts act, how much, when and where.
struct MoleRequest {
  std::filesystem::path folder;  ///< empty: mole/ beside the model, if any
  bool off = false;              ///< none act, whatever lies beside the model
  std::vector<ExpertStrength> strengths;
  std::optional<double> cap;  ///< above 0; see ExpertLimits
  /// They act on evaluations whose share of all lies in [start, end): 0 is the first.
  double start = 0, end = 1;
  std::vector<ExpertRegion> regions;

  /// The long name of an option that is set and says how experts act; nullopt: none.
  std::optional<std::string> first_option() const;
};

/// Which model, and how it computes. Two requests with equal ModelRequests share one pipeline.
struct ModelRequest {
  std::filesystem::path model;            ///< diffusers folder or single .safetensors file
  std::filesystem::path vae;              ///< replaces the model's; empty: its own
  std::filesystem::path tokenizer;        ///< replaces the model's; empty: its own
  std::filesystem::path clip_vocabulary;  ///< for single-file checkpoints
  std::string prediction_type;            ///< epsilon, v_prediction, sample; empty: the model's own
  ComputeOptions compute;
};

/// Opens the files that it names. Throws as open_checkpoint.
Checkpoint open_model(const ModelRequest& request);

/// How the prompt's text is read.
enum class PromptSyntax {
  kA1111,  ///< (word:1.2), [word], \(, BREAK
  kPlain,  ///< the text as it stands
};

/// Sizes are pixels, half-open ranges are said so. Defaults equal the reference pipeline's where
/// DESIGN section 3 does not say otherwise.
struct GenerationRequest {
  std::string prompt;
  std::optional<std::string> negative_prompt;  ///< unset: "" (SDXL: zeros, as its config asks)
  std::optional<std::string> prompt_2,
      negative_prompt_2;  ///< SDXL's second encoder; unset: as the first
  PromptSyntax prompt_syntax = PromptSyntax::kA1111;

  std::string sampler;            ///< a name of sampler_names(); empty: the model's own scheduler
  int64_t num_steps = 30;         ///< [1, 1000]
  double guidance_scale = 7.5;    ///< <= 1: no guidance, one UNet branch
  double guidance_rescale = 0.0;  ///< [0, 1]; Lin et al. 2023, arXiv:2305.08891, section 3.4
  double eta = 0.0;               ///< [0, 1]; ddim only
  std::optional<int64_t>
      clip_skip;  ///< diffusers' count: 1 = penultimate layer; unset: the model's own

  std::optional<int64_t> width_px,
      height_px;      ///< multiples of 8; unset: the model's or the init image's
  uint64_t seed = 0;  ///< picture i draws from seed + i
  int64_t count = 1;  ///< >= 1

  std::filesystem::path init_image;  ///< img2img; empty: from noise
  std::filesystem::path mask;        ///< inpainting: white is drawn anew; needs init_image
  std::optional<double> strength;    ///< (0, 1]; unset: 0.8 for img2img, 1.0 for inpainting
  bool vae_tiling = false;

  AdapterRequest adapters;
  MoleRequest mole;

  /// Throws ConfigError that names the option, what was wanted and what was found.
  void validate() const;
  /// Every field, under the long option names (`cfg-scale`, `negative-prompt`); absent where unset.
  /// Paths are absolute.
  Json to_json() const;
  /// Inverse of to_json. Throws InputError for unknown keys, wrong types, and values that no option
  /// could have.
  static GenerationRequest from_json(const Json& json);
};

/// Equal where two requests name the same LoRAs, merged in the same way.
std::string adapters_key(const GenerationRequest& request);
/// Equal where two requests have the same texts, read in the same way.
std::string texts_key(const GenerationRequest& request);

}  // namespace molar
