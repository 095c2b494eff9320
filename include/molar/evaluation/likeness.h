/// How like a picture is to what it is meant to show, by CLIP and DINO.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "molar/core/cancellation.h"
#include "molar/core/progress.h"
#include "molar/evaluation/labelled_picture.h"
#include "molar/evaluation/picture_metrics.h"

namespace molar {

/// Name of a measure (score_table.h) -> value.
using Scores = std::map<std::string, double>;

/// Where the pictures lie that others are compared with.
struct ReferenceFolders {
  /// A folder of pictures for each name: subjects/dog/*.png, styles/ink/*.png.
  std::optional<std::filesystem::path> subjects, styles;
  /// One picture for each judged one, under its own name: truth/dog/ink/7.png.
  std::optional<std::filesystem::path> truth;
};

/// What pictures are judged by. Null: not by this.
struct Encoders {
  ImageTextPair* image_text_pair = nullptr;
  SelfSupervisedEncoder* self_supervised = nullptr;
  ImageTextPair* preference = nullptr;  ///< HPS v2
};

/// Of each picture, cosines of embeddings (DreamBooth, Ruiz et al. 2022, arXiv:2208.12242, section
/// 4.2): `clip_i_subject`, `clip_i_style`, `dino_subject`, `dino_style` (means over the references
/// of its subject and its style), `clip_t` (to its prompt), `truth_clip_i` and `truth_dino` (to its
/// truth). `hps`: HPS v2 (Wu et al. 2023, arXiv:2306.09341), 100 times the cosine to the prompt.
/// What lacks its label, prompt, folder or encoder is left out. Throws InputError for a picture
/// that cannot be read, a named subject or style without references, a missing truth.
std::vector<Scores> measure_likeness(const std::vector<LabelledPicture>& pictures,
                                     const Encoders& encoders, const ReferenceFolders& references,
                                     ProgressSink& progress, const CancellationToken& cancellation);

/// The pictures of folder/name. Throws InputError where there are none.
std::vector<std::filesystem::path> reference_pictures(const std::filesystem::path& folder,
                                                      const std::string& name);

}  // namespace molar
