#include "molar/adapters/merge/merge_coefficients.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "molar/core/error.h"
#include "molar/core/finite.h"
#include "molar/io/safetensors.h"

namespace molar {
namespace {

constexpr const char *kKind = "molar.kind", *kCoefficients = "merge-coefficients";
constexpr const char *kSubject = "molar.subject_sha256", *kStyle = "molar.style_sha256";

std::string entry_of(const SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? "" : found->second;
}

}  // namespace

bool is_merge_coefficients(const SafetensorsFile& file) {
  return entry_of(file, kKind) == kCoefficients;
}

MergeCoefficients MergeCoefficients::load(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  if (!is_merge_coefficients(file))
    throw FileError(
        fmt::format("'{}' holds no merge coefficients: wanted the metadata entry {} = "
                    "{}, as molar train ziplora writes it",
                    path.string(), kKind, kCoefficients));
  MergeCoefficients coefficients;
  coefficients.path = path;
  coefficients.subject_sha256 = entry_of(file, kSubject);
  coefficients.style_sha256 = entry_of(file, kStyle);
  for (const auto& [key, entry] : file.entries()) {
    const size_t slash = key.find('/');
    const Tensor values = file.tensor(key);
    if (slash == std::string::npos || values.dim() != 2 || values.size(0) != 2 ||
        values.scalar_type() != at::kFloat)
      throw FileError(fmt::format(
          "'{}': '{}' is {} {}, wanted component/module and float32 [2, "
          "in]",
          path.string(), key, dtype_name(values.scalar_type()), shape_string(values.sizes())));
    if (!is_finite(values))
      throw FileError(fmt::format("'{}': '{}' holds NaN or infinity", path.string(), key));
    coefficients.layers[{key.substr(0, slash), key.substr(slash + 1)}] = values;
  }
  return coefficients;
}

LoraFileContent MergeCoefficients::content() const {
  LoraFileContent content;
  for (const auto& [name, values] : layers)
    content.tensors[name.component + "/" + name.module] = values;
  content.metadata = {{kKind, kCoefficients}, {kSubject, subject_sha256}, {kStyle, style_sha256}};
  return content;
}

}  // namespace molar
