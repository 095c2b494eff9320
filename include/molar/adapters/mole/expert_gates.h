/// The gates of MoLE and the file that holds them. Zhu et al. 2024, arXiv:2410.23332.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "molar/adapters/model_layers.h"
#include "molar/core/tensor.h"
#include "molar/io/json_config.h"
#include "molar/io/safetensors.h"

namespace molar {

/// One layer's gates, a row for each expert. Differs from the paper, as its code does: biases, and
/// the global gate reads the mean of the expert's own result.
struct LayerGates {
  Tensor local_weight, local_bias;    ///< Phi_1: [E, in], [E]
  Tensor global_weight, global_bias;  ///< NAME_scale of all experts: [E, out], [E]
};

/// A gate file that was matched to a model.
struct ExpertGates {
  std::filesystem::path path;
  std::vector<std::string> experts;        ///< names, in the order of the rows
  std::map<LayerName, LayerGates> layers;  ///< float32, in memory
};

/// Names of the file's experts in the order of Phi_1's rows: the metadata entry `molar.experts`
/// ("face,hand") where there is one, else alphabetical, which is MoLE's own order of face and hand.
/// Throws FileError for a file without gates, and where the entry names others than the tensors.
std::vector<std::string> gate_experts(const SafetensorsFile& file);

/// Reads MoLE's layout: `moe_lora_unet_<path>.softmoe.{Phi_1,NAME_scale}.{weight,bias}` with any
/// number of names. Throws FileError: missing, not a gate file, NaN or infinity. Throws FitError
/// that names the tensor: missing, unknown, without a place in the model, or of another shape than
/// its layer asks for.
ExpertGates load_expert_gates(const std::filesystem::path& path, const ModelLayers& layers);

/// Whether any key of the file is a gate's.
bool is_expert_gates(const SafetensorsFile& file);

/// The tensor's name in a file whose layers are spelled as diffusers names them.
std::string gate_tensor_name(const LayerName& layer, const std::string& rest);

/// What a gate file says about itself, without a model.
struct ExpertGatesSummary {
  std::filesystem::path path;
  std::vector<std::string> experts;
  int64_t num_layers = 0, num_keys = 0, num_parameters = 0;
  std::string dtype;  ///< several are joined by '+'
  std::map<std::string, std::string> metadata;
};
/// Throws FileError for what is no gate file.
ExpertGatesSummary describe_expert_gates(const std::filesystem::path& path);

}  // namespace molar
