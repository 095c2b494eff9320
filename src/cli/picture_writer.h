/// Where the pictures of one command go: paths fixed before anything is drawn, files written whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "molar/core/atomic_file.h"
#include "molar/pipeline/generation_request.h"
#include "molar/pipeline/stable_diffusion_pipeline.h"

namespace molar::cli {

struct PictureWriterOptions {
  std::string output = "molar-{seed}.png";  ///< file, template, folder, or "-"
  OnExist on_exist = OnExist::kNumber;
  bool metadata = true;
  bool json = false;
  std::optional<std::filesystem::path> heatmaps;  ///< folder for the experts' gates
};

/// A picture that a command will write, or, with `exists`, skip.
struct PlannedPicture {
  uint64_t seed = 0;
  std::filesystem::path path;  ///< as it would be named now; "-" for standard output
  bool exists = false;         ///< and is kept (--on-exist skip)
};

/// Names and writes pictures. Call order: plan -> (write | report_skipped)*.
class PictureWriter {
 public:
  /// Throws ConfigError: bytes of PNG to a terminal or beside --json, several to standard output.
  PictureWriter(PictureWriterOptions options, const GenerationRequest& request);

  /// One entry per picture. Throws ConfigError where a file exists under OnExist::kError or where
  /// two pictures would take one name, FileError where a folder cannot be written to.
  const std::vector<PlannedPicture>& plan() const { return plan_; }
  bool nothing_to_draw() const;

  /// Writes picture number `index`, the heat maps of its gates where it has them, and prints its
  /// path, its JSON object, or its bytes; a file that appeared meanwhile and is kept is reported as
  /// skipped.
  void write(size_t index, const Picture& picture, const std::vector<std::string>& warnings);
  void report_skipped(size_t index) const;

 private:
  bool to_stdout() const { return options_.output == "-"; }
  void write_heatmaps(const std::filesystem::path& picture_path, const Picture& picture) const;

  PictureWriterOptions options_;
  std::vector<PlannedPicture> plan_;
  std::vector<std::filesystem::path> targets_;  // before numbering
};

}  // namespace molar::cli
