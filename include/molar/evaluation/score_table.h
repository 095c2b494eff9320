/// Scores of pictures -> one row for each method, with 95 % intervals, as Markdown and HTML.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "molar/evaluation/labelled_picture.h"
#include "molar/evaluation/likeness.h"

namespace molar {

/// A column. The table of all of them stands in score_table.cpp, in the order of the columns.
struct Measure {
  std::string_view name;     ///< in `Scores` and in JSON
  std::string_view heading;  ///< in tables
  bool smaller_is_better = false;
};
const std::vector<Measure>& measures();

/// Adds what follows from the others: `subject` and `style` (means of CLIP-I and DINO, where there
/// are both), `harmonic` (their harmonic mean, 0 where one is not positive) and `truth_distance` (1
/// - mean cosine to the truth).
void add_summaries(Scores& scores);

/// The mean over the means of pairs of subject and style: pictures of one pair are not independent,
/// so pairs are what the interval counts. half_width: Student's 95 % interval; nullopt for one
/// pair.
struct Estimate {
  double mean = 0;
  std::optional<double> half_width;
};

struct TableRow {
  std::string method;
  int64_t num_pictures = 0, num_pairs = 0;
  std::map<std::string, Estimate> estimates;  ///< name of a measure -> estimate
};

struct ScoreTable {
  std::vector<TableRow> rows;  ///< in alphabetical order of the methods
  /// Of each method to `baseline`, pair by pair: what is the same for both drops out. Empty without
  /// a baseline.
  std::string baseline;
  std::vector<TableRow> differences;
};

/// scores: one for each picture. Throws ConfigError where `baseline` is no method of the pictures.
ScoreTable tabulate(const std::vector<LabelledPicture>& pictures, const std::vector<Scores>& scores,
                    const std::optional<std::string>& baseline);

std::string markdown(const ScoreTable& table);
/// A whole page that needs nothing else.
std::string html(const ScoreTable& table);

}  // namespace molar
