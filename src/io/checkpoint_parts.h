/// What diffusers folders and single files share: name normalisation and the checks of one
/// component.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "molar/io/checkpoint.h"
#include "molar/io/safetensors.h"

namespace molar {

/// transformers 4 writes `text_model.*`, transformers 5 writes CLIPTextModel without it: always
/// with. Drops the `position_ids` buffers, which only count from 0.
StateDict normalise_text_encoder(const StateDict& stored);

/// Attention names of diffusers before 0.17 (query, key, value, proj_attn) -> to_q, to_k, to_v,
/// to_out.0; their weights as matrices, also where 1x1 convolutions were stored.
StateDict normalise_vae(const StateDict& stored);

/// Throws FileError unless every tensor is float32, float16 or bfloat16.
void require_float_weights(const Component& component);

/// Number of consecutive indices i = 0, 1, ... with a tensor whose name starts `prefix`i`.`.
int64_t count_indices(const StateDict& tensors, const std::string& prefix);

/// The tensor's size along `axis`. Throws FileError: no such tensor, or it has fewer axes.
int64_t size_of(const StateDict& tensors, const std::string& name, int64_t axis,
                const std::string& source);

/// "a, b, c, d, e and 12 more": the first five.
std::string first_names(const std::vector<std::string>& names);

/// Throws FileError for a pickle (by its first bytes, or by its extension) and for a GGUF file.
void refuse_other_formats(const std::filesystem::path& file);

/// The one-line command that turns pickled weights into safetensors.
std::string folder_conversion_hint(const std::filesystem::path& folder);

}  // namespace molar
