/// The judges of hands and faces: small networks, trained on renderings of the bundled world
/// (scripts/toyland/train_judges.py), that find hands and faces in a picture and say whether each
/// is whole. What they are worth: docs/human_judges.md.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "molar/core/device.h"
#include "molar/core/tensor.h"
#include "molar/evaluation/likeness.h"
#include "molar/evaluation/prompt_set.h"
#include "molar/io/json_config.h"
#include "molar/io/safetensors.h"

namespace molar {

/// A hand or a face in a picture.
struct JudgedPart {
  double x_px = 0, y_px = 0;  ///< middle
  double half_height_px = 0;  ///< of the hand or head, of the frame it was drawn in
  double heat = 0;            ///< how sure the detector is, 0 to 1
};

struct JudgedHand {
  JudgedPart part;
  std::string gesture;      ///< empty: no whole hand of a known gesture
  int64_t num_fingers = 0;  ///< extended ones, the thumb counted; 0 where it is not whole

  bool is_whole() const { return !gesture.empty(); }
};

struct JudgedFace {
  JudgedPart part;
  std::vector<std::string> wrong_parts;  ///< names of those that are missing, moved, double, melted

  bool is_whole() const { return wrong_parts.empty(); }
};

struct HumanFindings {
  std::vector<JudgedFace> faces;  ///< the surest first
  std::vector<JudgedHand> hands;
};

/// By its metadata.
bool is_human_judge(const SafetensorsFile& file);

/// What a judge's file says of itself.
struct HumanJudgeSummary {
  std::string name;  ///< detector, hand or face
  int64_t num_parameters = 0;
  Json held_out;  ///< how often it is right on scenes it did not learn from; null: not said
};
/// Throws FileError.
HumanJudgeSummary describe_human_judge(const std::filesystem::path& path);

/// A folder with detector.safetensors, hand.safetensors and face.safetensors.
class HumanJudges {
 public:
  /// Throws FileError: a file that is missing or is no judge of that name, tensors that do not fit.
  static HumanJudges load(const std::filesystem::path& folder, at::Device device);

  HumanJudges(HumanJudges&&) noexcept;
  ~HumanJudges();

  /// Side of the square pictures that the judges know.
  int64_t picture_px() const;

  /// pictures: uint8 [picture_px, picture_px, 3] each. Throws Error for another shape.
  std::vector<HumanFindings> judge(const std::vector<Tensor>& pictures) const;

 private:
  struct Networks;
  explicit HumanJudges(std::unique_ptr<Networks> networks);
  std::unique_ptr<Networks> networks_;
};

/// `correct_hands` and `correct_faces`: of those that the picture should show and those that it
/// shows, whichever are more, the share that is whole; hands with as many fingers as the prompt
/// says. `counted_hands`, `counted_faces`: 1 where there are as many as there should be, else 0.
/// Left out for what the picture need not show.
Scores score_humans(const HumanFindings& findings, const WantedPicture& row);

}  // namespace molar
