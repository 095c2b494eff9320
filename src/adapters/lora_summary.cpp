#include "molar/adapters/lora_summary.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "lora_base_guess.h"
#include "lora_source.h"
#include "molar/adapters/lora_key_map.h"
#include "molar/core/error.h"

namespace molar {
namespace {

using Metadata = std::map<std::string, std::string>;

/// The first of `keys` that the metadata has and that says something.
std::string first_of(const Metadata& metadata, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const auto found = metadata.find(key);
    if (found != metadata.end() && !found->second.empty() && found->second != "None")
      return found->second;
  }
  return "";
}

/// kohya: {"folder": {"tag": count}}. A text that is not this says nothing; it is people's, not
/// ours to refuse.
std::vector<std::pair<std::string, int64_t>> read_tags(const Metadata& metadata) {
  constexpr size_t kShown = 10;
  const auto found = metadata.find("ss_tag_frequency");
  if (found == metadata.end()) return {};
  const Json folders = Json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  constexpr uint64_t kHighest = std::numeric_limits<int64_t>::max();
  std::map<std::string, uint64_t> counts;  // the sum of two that fit int64 fits uint64
  if (folders.is_object())
    for (const auto& [folder, tags] : folders.items())
      if (tags.is_object())
        for (const auto& [tag, count] : tags.items())
          if (count.is_number_unsigned())
            counts[tag] =
                std::min(counts[tag] + std::min(count.get<uint64_t>(), kHighest), kHighest);
  std::vector<std::pair<std::string, int64_t>> sorted(counts.begin(), counts.end());
  std::ranges::stable_sort(sorted, std::greater<>(), &std::pair<std::string, int64_t>::second);
  sorted.resize(std::min(sorted.size(), kShown));
  return sorted;
}

/// One layer as far as headers tell.
struct LayerFacts {
  int64_t rank = 0;
  std::optional<double> alpha;
  bool is_convolution = false;
};

/// The component that a key's spelling stands for.
const LoraPrefix& prefix_of(std::string_view module) {
  for (const LoraPrefix& prefix : lora_prefixes())
    if (module.starts_with(prefix.text)) return prefix;
  throw Error("internal: the last prefix is empty and matches every key");
}

std::string component_of(const LoraKey& key, const std::string& hint) {
  const LoraPrefix& prefix = prefix_of(key.module);
  if (!prefix.component.empty()) return std::string(prefix.component);
  if (!hint.empty()) return hint;
  const std::string flat = flatten_module_name(key.module);
  const bool is_text =
      flat.find("self_attn_") != std::string::npos || flat.find("mlp_fc") != std::string::npos;
  return is_text ? "text_encoder" : "unet";
}

std::string family_of(const LoraKey& key) {
  const LoraPrefix& prefix = prefix_of(key.module);
  const std::string flat = flatten_module_name(key.module.substr(prefix.text.size()));
  std::string family(prefix.family);
  const bool is_ldm = flat.starts_with("input_blocks_") || flat.starts_with("output_blocks_") ||
                      flat.starts_with("middle_block_");
  if (family == "kohya" && is_ldm) family += " (LDM block names)";
  if (family == "diffusers" && !key.suffix->dialect.empty())
    family += fmt::format(" ({})", key.suffix->dialect);
  return family;
}

/// Rank as the factor's shape tells it, or 0.
int64_t rank_of(const LoraSuffix& suffix, const std::vector<int64_t>& shape) {
  if (shape.size() < 2) return 0;
  if (suffix.part == LoraPart::kDown) return shape[0];
  if (suffix.part == LoraPart::kW1B || suffix.part == LoraPart::kW2B) return shape[0];
  return 0;
}

/// Collects over all keys of all sources; `finish` writes the summary's fields.
class SummaryBuilder {
 public:
  explicit SummaryBuilder(LoraSummary& summary) : summary_(summary) {}

  void add(const LoraSource& source) {
    for (const auto& [key, entry] : source.file.entries()) {
      ++summary_.num_keys;
      const auto parsed = split_lora_key(key);
      if (parsed) add_key(source, key, *parsed, entry);
    }
  }

  void finish() {
    for (const auto& [name, facts] : layers_) {
      LoraComponentSummary& component = summary_.components[name.component];
      if (component.num_layers++ == 0)
        component = {.num_layers = 1,
                     .min_rank = facts.rank,
                     .max_rank = facts.rank,
                     .min_alpha = alpha_of(facts),
                     .max_alpha = alpha_of(facts)};
      component.min_rank = std::min(component.min_rank, facts.rank);
      component.max_rank = std::max(component.max_rank, facts.rank);
      component.min_alpha = std::min(component.min_alpha, alpha_of(facts));
      component.max_alpha = std::max(component.max_alpha, alpha_of(facts));
    }
    summary_.dtype = fmt::format("{}", fmt::join(dtypes_, "+"));
    std::vector<std::pair<std::string, int64_t>> families(families_.begin(), families_.end());
    std::ranges::stable_sort(families, std::greater<>(), &std::pair<std::string, int64_t>::second);
    for (const auto& [family, count] : families)
      summary_.key_family += (summary_.key_family.empty() ? "" : " + ") + family;
    summary_.kind = kind();
  }

 private:
  void add_key(const LoraSource& source, const std::string& key, const LoraKey& parsed,
               const SafetensorsEntry& entry) {
    const LoraSuffix& suffix = *parsed.suffix;
    ++families_[family_of(parsed)];
    LayerFacts& facts =
        layers_[{component_of(parsed, source.component_hint), std::string(parsed.module)}];
    if (suffix.part == LoraPart::kUnsupported) {
      unsupported_ = suffix.unsupported;
      summary_.unsupported = fmt::format("{} ('{}')", suffix.unsupported, key);
      return;
    }
    if (suffix.part == LoraPart::kAlpha || suffix.part == LoraPart::kScale) {
      const Tensor value = source.file.tensor(key);
      if (suffix.part == LoraPart::kAlpha && value.numel() == 1)
        facts.alpha = value.to(at::kDouble).item<double>();
      return;
    }
    kinds_.insert(suffix.kind);
    dtypes_.insert(dtype_name(entry.dtype));
    summary_.num_parameters += c10::multiply_integers(entry.shape);
    facts.rank = std::max(facts.rank, rank_of(suffix, entry.shape));
    if (entry.shape.size() == 4 && entry.shape[2] * entry.shape[3] > 1) has_convolution_ = true;
    const auto scaling = source.scalings.find(component_of(parsed, source.component_hint));
    const auto& used = scaling != source.scalings.end() ? scaling : source.scalings.find("");
    if (!facts.alpha && facts.rank > 0 && used != source.scalings.end())
      facts.alpha =
          used->second.scale(
              std::string(parsed.module.substr(prefix_of(parsed.module).text.size())), facts.rank) *
          static_cast<double>(facts.rank);
  }

  static double alpha_of(const LayerFacts& facts) {
    return facts.alpha.value_or(static_cast<double>(facts.rank));
  }

  std::string kind() const {
    if (!unsupported_.empty()) return unsupported_;
    if (kinds_.contains(LoraKind::kHadamard)) return "LoHa";
    if (kinds_.contains(LoraKind::kKronecker)) return "LoKr";
    return has_convolution_ ? "LoCon" : "LoRA";
  }

  LoraSummary& summary_;
  std::map<LayerName, LayerFacts> layers_;  // module: as the file spells it
  std::map<std::string, int64_t> families_;
  std::set<std::string> dtypes_;
  std::set<LoraKind> kinds_;
  std::string unsupported_;
  bool has_convolution_ = false;
};

/// "4" or "4 to 16".
std::string range_text(double low, double high) {
  return low == high ? fmt::format("{}", low) : fmt::format("{} to {}", low, high);
}

}  // namespace

LoraDocumentation read_lora_documentation(const Metadata& metadata) {
  return {.title = first_of(metadata, {"modelspec.title", "ss_output_name"}),
          .base_model = first_of(
              metadata, {"ss_sd_model_name", "ss_base_model_version", "modelspec.architecture"}),
          .trigger_words =
              first_of(metadata, {"modelspec.trigger_phrase", "trigger_words", "instance_prompt"}),
          .licence = first_of(metadata, {"modelspec.license", "license"}),
          .author = first_of(metadata, {"modelspec.author"}),
          .description = first_of(metadata, {"modelspec.description", "ss_training_comment"}),
          .top_tags = read_tags(metadata)};
}

bool is_lora(const SafetensorsFile& file) {
  return std::ranges::any_of(file.entries(), [](const auto& entry) {
    const auto key = split_lora_key(entry.first);
    return key && key->suffix->part != LoraPart::kAlpha && key->suffix->part != LoraPart::kScale;
  });
}

LoraSummary describe_lora(const std::filesystem::path& path) {
  const std::vector<LoraSource> sources = open_lora_sources(path);
  require_lora_keys(sources);
  LoraSummary summary;
  summary.path = path;
  summary.base_guess = "unknown";
  SummaryBuilder builder(summary);
  for (const LoraSource& source : sources) {
    builder.add(source);
    summary.metadata.insert(source.file.metadata().begin(), source.file.metadata().end());
    if (summary.base_guess == "unknown")
      summary.base_guess = guess_base_model(source.file.entries(), source.file.metadata());
  }
  builder.finish();
  summary.documentation = read_lora_documentation(summary.metadata);
  return summary;
}

Json LoraSummary::to_json() const {
  Json json{{"kind", kind},
            {"path", path.string()},
            {"key_family", key_family},
            {"base_guess", base_guess},
            {"dtype", dtype},
            {"num_keys", num_keys},
            {"num_parameters", num_parameters},
            {"supported", unsupported.empty()}};
  if (!unsupported.empty()) json["unsupported"] = unsupported;
  json["components"] = Json::object();
  for (const auto& [name, part] : components)
    json["components"][name] = {{"num_layers", part.num_layers},
                                {"min_rank", part.min_rank},
                                {"max_rank", part.max_rank},
                                {"min_alpha", part.min_alpha},
                                {"max_alpha", part.max_alpha}};
  const std::pair<const char*, const std::string&> texts[] = {
      {"title", documentation.title},
      {"base_model", documentation.base_model},
      {"trigger_words", documentation.trigger_words},
      {"licence", documentation.licence},
      {"author", documentation.author},
      {"description", documentation.description}};
  for (const auto& [name, text] : texts)
    if (!text.empty()) json[name] = text;
  for (const auto& [tag, count] : documentation.top_tags)
    json["top_tags"].push_back({{"tag", tag}, {"count", count}});
  json["metadata"] = metadata;
  return json;
}

std::string LoraSummary::to_text() const {
  std::string text;
  const auto line = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) text += fmt::format("{}: {}\n", name, value);
  };
  line("file", path.string());
  line("kind", kind);
  line("not supported", unsupported);
  line("keys", fmt::format("{} ({})", num_keys, key_family));
  line("made for", base_guess);
  line("parameters", fmt::format("{} ({})", num_parameters, dtype));
  for (const auto& [name, part] : components)
    line(name, fmt::format("{} layers, rank {}, alpha {}", part.num_layers,
                           range_text(static_cast<double>(part.min_rank),
                                      static_cast<double>(part.max_rank)),
                           range_text(part.min_alpha, part.max_alpha)));
  line("title", documentation.title);
  line("base model", documentation.base_model);
  line("trigger words", documentation.trigger_words);
  line("licence", documentation.licence);
  line("author", documentation.author);
  line("description", documentation.description);
  std::vector<std::string> tags;
  for (const auto& [tag, count] : documentation.top_tags)
    tags.push_back(fmt::format("{} ({})", tag, count));
  line("tags", fmt::format("{}", fmt::join(tags, ", ")));
  return text;
}

}  // namespace molar
