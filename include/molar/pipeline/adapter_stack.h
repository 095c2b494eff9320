/// The LoRAs of one request, loaded, merged and ready to act on one component after the other.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "molar/adapters/lora.h"
#include "molar/adapters/model_layers.h"
#include "molar/pipeline/fused_loras.h"
#include "molar/pipeline/generation_request.h"
#include "molar/pipeline/run_record.h"

namespace molar {

/// Roles are merged by the request's method; `loras` join after the merge.
class AdapterStack {
 public:
  /// Reads every file and checks its fit. Throws FileError, FitError, ConfigError.
  AdapterStack(const AdapterRequest& request, const ModelLayers& layers);

  /// Fuses what the stack has for `component` into its layers; null where it has nothing.
  /// `layers` and `source` as LoraFuser has them.
  std::unique_ptr<FusedLoras> fuse_into(const std::string& component, LayerIndex layers,
                                        WeightSource source) const;

  /// The method that merged the two roles; empty where there were not two.
  const std::string& merge_method() const { return merge_method_; }
  /// One per file, with hashes: reads every file once more.
  std::vector<LoraRecord> records() const;

 private:
  struct Source {  // a file as the request named it
    std::string role;
    LoraUse use;
    LoraWeights weights;
  };
  ModelFamily family_;
  std::string merge_method_;
  std::vector<Source> sources_;
  std::vector<StackedLora> entries_;           // the merge first, if there is one
  std::map<LayerName, LayerSwitch> switches_;  // of the merge
};

}  // namespace molar
