/// Scores of pictures -> one row for each method, with errors, as Markdown and HTML.
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

/// What a table counts: pictures within a unit are not independent of each other, units are.
enum class Unit {
  kPair,    ///< of subject and style; errors are Student's 95 % intervals
  kRepeat,  ///< all prompts once, with other seeds; errors are standard errors, as in MoLE's paper
};

/// One picture in a table.
struct ScoredPicture {
  std::string method;
  std::string unit;  ///< the pair or the repeat that it belongs to
  std::string twin;  ///< pictures of two methods with the same are compared one by one; empty: none
  Scores scores;
};

/// By pairs of subject and style. scores: one for each picture.
std::vector<ScoredPicture> in_pairs(const std::vector<LabelledPicture>& pictures,
                                    const std::vector<Scores>& scores);

/// The mean over the means of units.
struct Estimate {
  double mean = 0;
  std::optional<double> error;          ///< as Unit says; nullopt for one unit
  std::optional<double> picture_error;  ///< the standard error over pictures that have twins
};

struct TableRow {
  std::string method;
  int64_t num_pictures = 0, num_units = 0;
  std::map<std::string, Estimate> estimates;  ///< name of a measure -> estimate
};

struct ScoreTable {
  std::string title;  ///< which pictures; empty: all
  Unit unit = Unit::kPair;
  std::vector<TableRow> rows;  ///< in alphabetical order of the methods
  /// Of each method to `baseline`, twin by twin, else unit by unit: what is the same for both drops
  /// out. Empty without a baseline.
  std::string baseline;
  std::vector<TableRow> differences;
};

struct TableOptions {
  std::optional<std::string> baseline;
  std::string title;
  Unit unit = Unit::kPair;
};

/// Throws ConfigError where `baseline` is no method of the pictures.
ScoreTable tabulate(const std::vector<ScoredPicture>& pictures, const TableOptions& options = {});

std::string markdown(const std::vector<ScoreTable>& tables);
/// A whole page that needs nothing else.
std::string html(const std::vector<ScoreTable>& tables);

}  // namespace molar
