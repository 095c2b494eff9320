/// The LoRAs of one request, loaded, merged and ready to act on one component after the other.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "molar/adapters/hypernetwork.h"
#include "molar/adapters/lora.h"
#include "molar/adapters/merge/merge_coefficients.h"
#include "molar/adapters/merge/merge_method.h"
#include "molar/adapters/model_layers.h"
#include "molar/pipeline/fused_loras.h"
#include "molar/pipeline/generation_request.h"
#include "molar/pipeline/lora_files.h"
#include "molar/pipeline/run_record.h"

namespace molar {

/// The files of one request, read and checked against the model, not merged yet.
struct OpenedAdapters {
  struct Source {  // a file as the request named it
    LoraRole role;
    LoraUse use;
    std::shared_ptr<const LoraFile> file;
  };
  std::vector<Source> sources;  ///< subject, style, others
  std::optional<Hypernetwork> hypernetwork;
  std::optional<MergeCoefficients> coefficients;
  std::string merge_method;  ///< as AdapterStack has it

  /// One per file, with hashes.
  std::vector<LoraRecord> records() const;
};

/// Reads every file, checks its fit, and that the two roles can be merged. Throws FileError,
/// FitError, ConfigError.
OpenedAdapters open_adapters(const AdapterRequest& request, const ModelLayers& layers,
                             LoraFiles& files);

/// Roles are merged by the request's method; `loras` join after the merge.
class AdapterStack {
 public:
  AdapterStack(const AdapterRequest& request, const ModelLayers& layers);
  /// `request` and `layers` are those that `opened` was opened with.
  AdapterStack(OpenedAdapters opened, const ModelLayers& layers);

  /// Fuses what the stack has for `component` into its layers; null where it has nothing.
  /// `layers` and `source` as LoraFuser has them.
  std::unique_ptr<FusedLoras> fuse_into(const std::string& component, LayerIndex layers,
                                        WeightSource source) const;

  /// The method that merged the two roles; empty where there were not two.
  const std::string& merge_method() const { return opened_.merge_method; }
  std::vector<LoraRecord> records() const { return opened_.records(); }
  /// Whether it changes any layer of `component`.
  bool acts_on(const std::string& component) const;
  /// Of the factors that it holds.
  int64_t bytes() const;

 private:
  ModelFamily family_;
  OpenedAdapters opened_;
  std::vector<StackedLora> entries_;           // the merge first, if there is one
  std::map<LayerName, LayerSwitch> switches_;  // of the merge
};

}  // namespace molar
