/// The experts of one request: read and checked once, then beside a UNet while it samples.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "molar/adapters/mole/routed_experts.h"
#include "molar/models/unet_2d_condition.h"
#include "molar/pipeline/expert_files.h"
#include "molar/pipeline/expert_regions.h"
#include "molar/pipeline/gate_recorder.h"
#include "molar/pipeline/generation_request.h"
#include "molar/pipeline/run_record.h"

namespace molar {

/// Beside the layers of a UNet until destruction.
/// Call order: (begin_picture -> (begin_evaluation -> UNet -> end_evaluation)*)*.
class SampledExperts {
 public:
  SampledExperts(UNet2DConditionModel unet, const ExpertSet& set, const MoleRequest& request,
                 ExpertRegions regions, MapSize latents, bool record_gates);

  void begin_picture();
  /// `share` of all evaluations that are done: the experts begin, end, or get their found regions.
  void begin_evaluation(double share);
  void end_evaluation();
  /// What the gates did since begin_picture; nullopt where nobody asked.
  std::optional<GateTrace> take_trace();
  /// Several pictures may go through one call of the UNet: none has gates that are looked at, and
  /// the experts act at `share` already, so that a call there stands for all.
  bool can_share(double share) const { return !is_observed_ && acts_at(share); }

 private:
  void apply_regions();
  bool acts_at(double share) const { return share >= request_.start && share < request_.end; }

  UNet2DConditionModel unet_;
  MoleRequest request_;
  ExpertRegions regions_;
  MapSize latents_;
  GateRecorder recorder_;
  std::optional<GateTrace> trace_;
  bool is_observed_;
  GateStep last_;  // for regions that wait
  RoutedExperts experts_;
};

/// What a request's options say, checked against the files and the model.
class MoleExperts {
 public:
  /// None act.
  MoleExperts() = default;
  /// `folder`: the request's, as it was read. Throws ConfigError, InputError.
  MoleExperts(const MoleRequest& request, std::shared_ptr<const ExpertFolder> folder,
              MapSize picture_px);

  /// Null where none act.
  std::unique_ptr<SampledExperts> attach_to(UNet2DConditionModel unet, MapSize latents,
                                            bool record_gates) const;
  /// Equal for two that act alike: options and what is in their files. Empty where none act.
  const std::string& key() const { return key_; }
  /// One per file, the gates last.
  std::vector<ExpertRecord> records() const;

 private:
  MoleRequest request_;
  std::shared_ptr<const ExpertFolder> folder_;
  std::optional<ExpertRegions> regions_;
  std::string key_;
};

}  // namespace molar
