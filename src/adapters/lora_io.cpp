#include "molar/adapters/lora_io.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "lora_assembly.h"
#include "lora_base_guess.h"
#include "lora_source.h"
#include "molar/adapters/lora_key_map.h"
#include "molar/core/error.h"

namespace molar {
namespace {

/// A key that the model has no place for, and why.
struct UnfitKey {
  std::string key, reason;
};

/// Everything one source says about layers of the model.
struct CollectedKeys {
  std::map<LayerName, LoraFactors> layers;
  std::vector<UnfitKey> unfit;
  std::map<std::string, int64_t> families;  // key family -> keys
};

[[noreturn]] void refuse_unsupported(const SafetensorsFile& file, const std::string& key,
                                     std::string_view kind) {
  throw FileError(fmt::format(
      "'{}' holds {} ('{}'), which molar cannot apply: merge it with the tool that trained it "
      "and extract a plain LoRA from the result",
      file.path().string(), kind, key));
}

void add_factor(LoraFactors& factors, LoraPart part, LoraFactor factor,
                const SafetensorsFile& file) {
  const auto [found, is_new] = factors.try_emplace(part, factor);
  // Some files hold a layer under two spellings. Equal copies are one; others would be a guess.
  if (!is_new && !(found->second.tensor.sizes() == factor.tensor.sizes() &&
                   at::equal(found->second.tensor, factor.tensor)))
    throw FileError(fmt::format("'{}': '{}' and '{}' stand for the same factor and differ",
                                file.path().string(), found->second.key, factor.key));
}

CollectedKeys collect_keys(const LoraSource& source, const LoraModuleMap& modules) {
  CollectedKeys collected;
  for (const auto& [key, entry] : source.file.entries()) {
    const auto parsed = split_lora_key(key);
    if (!parsed) {
      collected.unfit.push_back({key, "is no LoRA key"});
      continue;
    }
    if (parsed->suffix->part == LoraPart::kUnsupported)
      refuse_unsupported(source.file, key, parsed->suffix->unsupported);
    const auto hit = modules.find(*parsed, source.component_hint);
    if (!hit) {
      collected.unfit.push_back({key, "names no layer"});
      continue;
    }
    ++collected.families[hit->family];
    add_factor(collected.layers[hit->name], parsed->suffix->part, {key, source.file.tensor(key)},
               source.file);
  }
  return collected;
}

/// Turns a source's factors into layers of `weights`; what does not fit joins `unfit`.
void add_layers(CollectedKeys& collected, const LoraSource& source, const ModelLayers& model,
                LoraWeights& weights) {
  const std::string file = source.file.path().string();
  for (const auto& [name, factors] : collected.layers) {
    const AdaptableLayer& target = *model.components.at(name.component).at(name.module);
    AssembledLayer assembled = assemble_lora_layer(factors, target.weight().sizes(), file);
    if (at::IntArrayRef(assembled.change_shape) != target.weight().sizes()) {
      for (const auto& [part, factor] : factors)
        collected.unfit.push_back({factor.key, fmt::format("changes {}, the layer is {}",
                                                           shape_string(assembled.change_shape),
                                                           shape_string(target.weight().sizes()))});
      continue;
    }
    const auto* const kronecker = std::get_if<KroneckerFactors>(&assembled.layer.factors);
    const std::optional<int64_t> rank =
        kronecker && kronecker->whole() ? std::nullopt : std::optional(assembled.layer.rank());
    assembled.layer.scale =
        assembled.own_scale.value_or(configured_scale(source, name.component, name.module, rank));
    if (!weights.layers.emplace(name, std::move(assembled.layer)).second)
      throw FileError(
          fmt::format("'{}': layer '{}' of {} was already in another file of the folder", file,
                      name.module, name.component));
  }
}

/// "'a' (names no layer), 'b' (...), ..."
std::string first_keys(const std::vector<UnfitKey>& unfit) {
  constexpr size_t kShown = 3;
  std::vector<std::string> shown;
  for (size_t i = 0; i < std::min(kShown, unfit.size()); ++i)
    shown.push_back(fmt::format("'{}' ({})", unfit[i].key, unfit[i].reason));
  return fmt::format("{}{}", fmt::join(shown, ", "), unfit.size() > kShown ? ", ..." : "");
}

std::string made_for(const std::string& guess, ModelFamily family) {
  if (guess == "unknown") return "";
  if (guess == family_name(family))
    return fmt::format("; it looks made for {}, but of another size", guess);
  return fmt::format("; it looks made for {}", guess);
}

/// Reports keys that fit nothing: an error, or a warning where the caller allows it.
void judge_unfit(const std::vector<UnfitKey>& unfit, const LoraWeights& weights, ModelFamily family,
                 const std::string& guess, const LoadLoraOptions& options) {
  const std::string file = weights.path.string();
  if (weights.layers.empty())
    throw FitError(fmt::format(
        "'{}' does not fit this {} model: none of its {} keys does; first: {}{}", file,
        family_name(family), weights.num_keys, first_keys(unfit), made_for(guess, family)));
  if (unfit.empty()) return;
  if (!options.allow_partial)
    throw FitError(
        fmt::format("'{}' fits this {} model only in part: {} of its {} keys do not; first: {}{}; "
                    "--allow-partial-lora applies the rest",
                    file, family_name(family), unfit.size(), weights.num_keys, first_keys(unfit),
                    made_for(guess, family)));
  spdlog::warn("'{}': {} of its {} keys do not fit this {} model and are left out; first: {}", file,
               unfit.size(), weights.num_keys, family_name(family), first_keys(unfit));
}

/// Names of all families in the file, the most frequent first.
std::string join_families(const std::map<std::string, int64_t>& families) {
  std::vector<std::pair<std::string, int64_t>> sorted(families.begin(), families.end());
  std::ranges::stable_sort(sorted, std::greater<>(), &std::pair<std::string, int64_t>::second);
  std::vector<std::string> names;
  for (const auto& [name, count] : sorted) names.push_back(name);
  return fmt::format("{}", fmt::join(names, " + "));
}

}  // namespace

LoraWeights load_lora(const std::filesystem::path& path, const ModelLayers& layers,
                      const LoadLoraOptions& options) {
  const std::vector<LoraSource> sources = open_lora_sources(path);
  require_lora_keys(sources);
  const LoraModuleMap modules(layers);
  LoraWeights weights;
  weights.path = sources.front().file.path();
  std::vector<UnfitKey> unfit;
  std::map<std::string, int64_t> families;
  std::string guess = "unknown";
  for (const LoraSource& source : sources) {
    CollectedKeys collected = collect_keys(source, modules);
    add_layers(collected, source, layers, weights);
    unfit.insert(unfit.end(), collected.unfit.begin(), collected.unfit.end());
    for (const auto& [family, count] : collected.families) families[family] += count;
    weights.num_keys += static_cast<int64_t>(source.file.entries().size());
    weights.metadata.insert(source.file.metadata().begin(), source.file.metadata().end());
    if (guess == "unknown") guess = guess_base_model(source.file.entries(), source.file.metadata());
  }
  judge_unfit(unfit, weights, layers.family, guess, options);
  weights.key_family = join_families(families);
  for (const UnfitKey& key : unfit) weights.skipped_keys.push_back(key.key);
  return weights;
}

}  // namespace molar
