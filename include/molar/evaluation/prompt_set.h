/// A file of prompts: with which seeds they are drawn, how often, and what the pictures should
/// show.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "molar/evaluation/labelled_picture.h"

namespace molar {

/// A close-up of one face or one hand, or whole figures.
enum class PictureKind { kFace, kHand, kScene };

struct WantedPicture {
  std::string prompt;
  std::optional<PictureKind> kind;  ///< nullopt: not said, so that judges have nothing to go by
  int64_t people = 1;               ///< of a scene: each has a face and two hands
  /// How many fingers the hands show, in any order; nullopt: the prompt does not say.
  std::optional<std::vector<int64_t>> fingers;
  std::optional<int64_t> seed;  ///< that the picture is drawn with; nullopt: any
  int64_t repeat = 0;           ///< pictures are averaged within a repeat, then repeats

  int64_t num_faces() const;
  int64_t num_hands() const;
  /// "face", "hand", "scene of 1", ...; "" without a kind.
  std::string group() const;
};

/// JSON lines, one prompt each: {"prompt": "...", "kind": "face|hand|scene", "people": 2,
/// "fingers": [5], "seed": 7, "repeat": 0}; only the prompt is needed.
class PromptSet {
 public:
  /// Throws InputError that names the line: no file, not JSON, an unknown or missing field, a value
  /// out of range, the same prompt and seed twice.
  static PromptSet load(const std::filesystem::path& file);

  const std::vector<WantedPicture>& prompts() const { return prompts_; }

  /// The row of a picture: by the prompt and the seed in its record; without a record by the number
  /// (from 1) that its name starts with, as `molar batch` names pictures. Throws InputError that
  /// names the picture where there is none.
  const WantedPicture& of(const LabelledPicture& picture) const;

 private:
  std::filesystem::path file_;
  std::vector<WantedPicture> prompts_;
  std::map<std::pair<std::string, std::optional<int64_t>>, size_t> rows_;
};

}  // namespace molar
