#include "checkpoint_parts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>

#include "molar/core/error.h"
#include "molar/io/file.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

constexpr std::pair<std::string_view, std::string_view> kOldAttentionNames[] = {
    {".query.", ".to_q."},
    {".key.", ".to_k."},
    {".value.", ".to_v."},
    {".proj_attn.", ".to_out.0."},
};
constexpr std::string_view kAttentionWeights[] = {".to_q.weight", ".to_k.weight", ".to_v.weight",
                                                  ".to_out.0.weight"};
constexpr std::string_view kPickleExtensions[] = {".ckpt", ".pt", ".pth", ".bin", ".pkl"};

/// Up to eight; fewer where the file is shorter. Throws FileError for a pipe, which would wait.
std::string first_bytes(const fs::path& path) {
  const InputFile file(path);
  std::string bytes(8, '\0');
  const ssize_t count = ::pread(file.descriptor(), bytes.data(), bytes.size(), 0);
  bytes.resize(static_cast<size_t>(std::max<ssize_t>(count, 0)));
  return bytes;
}

}  // namespace

StateDict normalise_text_encoder(const StateDict& stored) {
  StateDict out;
  for (const auto& [name, tensor] : stored) {
    if (name.ends_with("embeddings.position_ids")) continue;
    const bool complete = name.starts_with("text_model.") || name == "text_projection.weight";
    out.emplace(complete ? name : "text_model." + name, tensor);
  }
  return out;
}

StateDict normalise_vae(const StateDict& stored) {
  StateDict out;
  for (const auto& [stored_name, tensor] : stored) {
    std::string name = stored_name;
    if (name.find(".attentions.") != std::string::npos)
      for (const auto& [old_name, new_name] : kOldAttentionNames)
        if (const size_t at = name.find(old_name); at != std::string::npos)
          name.replace(at, old_name.size(), new_name);
    Tensor weight = tensor;
    for (const std::string_view suffix : kAttentionWeights)
      if (name.ends_with(suffix))
        while (weight.dim() > 2 && weight.size(-1) == 1) weight = weight.squeeze(-1);
    out.emplace(std::move(name), std::move(weight));
  }
  return out;
}

void require_float_weights(const Component& component) {
  for (const auto& [name, tensor] : component.weights) {
    const auto type = tensor.scalar_type();
    if (type != at::kFloat && type != at::kHalf && type != at::kBFloat16)
      throw FileError(
          fmt::format("{}: tensor '{}' of {} is {}; wanted float32, float16 or bfloat16",
                      component.source, name, component.name, dtype_name(type)));
  }
}

int64_t count_indices(const StateDict& tensors, const std::string& prefix) {
  for (int64_t i = 0;; ++i) {
    const std::string wanted = fmt::format("{}{}.", prefix, i);
    const auto it = tensors.lower_bound(wanted);
    if (it == tensors.end() || !it->first.starts_with(wanted)) return i;
  }
}

int64_t size_of(const StateDict& tensors, const std::string& name, int64_t axis,
                const std::string& source) {
  const auto it = tensors.find(name);
  if (it == tensors.end())
    throw FileError(fmt::format("{}: tensor '{}' is missing; is the file complete?", source, name));
  if (it->second.dim() <= axis)
    throw FileError(fmt::format("{}: tensor '{}' has shape {}; wanted at least {} axes", source,
                                name, shape_string(it->second.sizes()), axis + 1));
  return it->second.size(axis);
}

std::string first_names(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  if (names.size() <= kShown) return fmt::format("{}", fmt::join(names, ", "));
  return fmt::format("{} and {} more", fmt::join(names.begin(), names.begin() + kShown, ", "),
                     names.size() - kShown);
}

void refuse_other_formats(const fs::path& file) {
  const std::string bytes = first_bytes(file);
  if (bytes.starts_with("GGUF"))
    throw FileError(fmt::format("{}: a GGUF file; wanted .safetensors", file.string()));
  const std::string extension = file.extension().string();
  bool pickle = bytes.starts_with("PK\x03\x04") || bytes.starts_with("\x80\x02") ||
                bytes.starts_with("\x80\x03") || bytes.starts_with("\x80\x04");
  // A safetensors file starts with its header's length: eight bytes, of which the last four are 0.
  if (bytes.ends_with(std::string_view("\0\0\0\0", 4))) pickle = false;
  for (const std::string_view known : kPickleExtensions) pickle = pickle || extension == known;
  if (!pickle) return;
  const std::string stem = (file.parent_path() / file.stem()).string();
  throw FileError(fmt::format(
      "{0}: a pickle, which can run code when read; wanted .safetensors. Convert it once, where "
      "you trust it: python -c \"from diffusers import StableDiffusionPipeline as P; "
      "P.from_single_file('{0}').save_pretrained('{1}', safe_serialization=True)\" "
      "(StableDiffusionXLPipeline for SDXL), then give -m {1}",
      file.string(), stem));
}

std::string folder_conversion_hint(const fs::path& folder) {
  return fmt::format(
      "python -c \"from diffusers import DiffusionPipeline as P; "
      "P.from_pretrained('{0}').save_pretrained('{0}-safetensors', safe_serialization=True)\"",
      folder.string());
}

}  // namespace molar
