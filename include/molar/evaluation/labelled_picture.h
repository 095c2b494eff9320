/// Which pictures a run wrote, and what each is meant to show.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "molar/io/json_config.h"

namespace molar {

struct LabelledPicture {
  std::filesystem::path path;
  std::string method;                 ///< how its LoRAs were merged; empty: they were not
  std::string subject, style;         ///< names; empty: none
  std::optional<std::string> prompt;  ///< nullopt: the picture carries no record of molar's
  std::optional<int64_t> seed;        ///< nullopt: the record says none
};

/// What the names of the folders between a run's folder and a picture mean: "method/subject/style".
/// Each of the three names at most once; "-" for a level that means nothing.
class PictureLayout {
 public:
  /// Throws ConfigError.
  static PictureLayout parse(std::string_view text);

  /// Whether the layout says it: "method", "subject" or "style".
  bool names(std::string_view label) const;

  /// Sets the labels that the layout names. `inside`: the picture's path below the run's folder.
  /// Throws InputError where the picture lies at another depth.
  void label(const std::filesystem::path& inside, LabelledPicture& picture) const;

 private:
  std::vector<std::string> levels_;
};

/// The JSON of the chunk `molar`; nullopt: the picture carries none. Throws InputError, FileError
/// for broken ones.
std::optional<Json> read_record(const std::filesystem::path& picture);

/// Whether a picture that no layout labels must carry a record.
enum class Records { kNeeded, kOptional };

/// Every picture below the folders, in the order of their paths. Labels come from the record in the
/// picture (LoRAs are named as their files are), and those that `layout` names from the folders.
/// Throws InputError: no folder, no picture in it, a picture without a record that needs one, a
/// broken record.
std::vector<LabelledPicture> find_pictures(const std::vector<std::filesystem::path>& run_folders,
                                           const std::optional<PictureLayout>& layout,
                                           Records records = Records::kNeeded);

}  // namespace molar
