#include "molar/adapters/lora_metadata.h"

#include <fmt/format.h>

#include <algorithm>

#include "molar/core/version.h"

namespace molar {
namespace {

/// kohya's and Stability's names of the model families.
struct FamilyNames {
  ModelFamily family;
  const char *ss_base_model_version, *architecture;
};
constexpr FamilyNames kFamilyNames[] = {
    {ModelFamily::kSd1, "sd_v1", "stable-diffusion-v1"},
    {ModelFamily::kSd2, "sd_v2", "stable-diffusion-v2-512"},
    {ModelFamily::kSdxl, "sdxl_base_v1-0", "stable-diffusion-xl-v1-base"},
};

}  // namespace

std::map<std::string, std::string> family_metadata(ModelFamily family) {
  const FamilyNames& names = *std::ranges::find(kFamilyNames, family, &FamilyNames::family);
  return {{"molar.version", std::string(molar_version())},
          {"ss_network_module", "networks.lora"},
          {"ss_base_model_version", names.ss_base_model_version},
          {"ss_v2", family == ModelFamily::kSd2 ? "True" : "False"},
          {"modelspec.sai_model_spec", "1.0.0"},
          {"modelspec.architecture", fmt::format("{}/lora", names.architecture)},
          {"modelspec.implementation", "diffusers"}};
}

}  // namespace molar
