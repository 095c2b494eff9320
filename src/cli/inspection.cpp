#include "inspection.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <set>
#include <string_view>
#include <vector>

#include "molar/adapters/hypernetwork.h"
#include "molar/adapters/lora_summary.h"
#include "molar/adapters/merge/merge_coefficients.h"
#include "molar/adapters/mole/expert_set.h"
#include "molar/core/error.h"
#include "molar/core/failure.h"
#include "molar/evaluation/human_judges.h"
#include "molar/io/checkpoint.h"
#include "molar/io/file.h"
#include "molar/io/image.h"
#include "molar/io/safetensors.h"
#include "resources.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr int kSchema = 1;
constexpr std::string_view kPngMagic = "\x89PNG\r\n\x1a\n", kJpegMagic = "\xff\xd8\xff",
                           kBmpMagic = "BM", kZipMagic = "PK\x03\x04", kPickleMagic = "\x80";

/// "1,234,567".
std::string grouped(int64_t number) {
  const std::string digits = std::to_string(number);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::string first_bytes(const fs::path& path) {
  const InputFile file(path);
  std::array<char, 16> bytes{};
  const ssize_t count = ::pread(file.descriptor(), bytes.data(), bytes.size(), 0);
  if (count < 0)
    throw FileError(fmt::format("cannot read '{}': {}", path.string(), std::strerror(errno)));
  return {bytes.data(), static_cast<size_t>(count)};
}

// ---- models

Json component_json(const Component& component) {
  int64_t num_parameters = 0;
  std::set<std::string> dtypes;
  for (const auto& [name, tensor] : component.weights) {
    num_parameters += tensor.numel();
    dtypes.insert(dtype_name(tensor.scalar_type()));
  }
  return {{"parameters", num_parameters}, {"dtype", fmt::format("{}", fmt::join(dtypes, "+"))}};
}

Inspection inspect_model(const fs::path& path) {
  CheckpointOptions options;
  options.clip_vocabulary = clip_vocabulary();
  const Checkpoint checkpoint = open_checkpoint(path, options);
  Json components = Json::object();
  for (const auto& [name, component] : checkpoint.components)
    components[name] = component_json(component);
  const std::string layout = fs::is_directory(path) ? "diffusers folder" : "single file";
  const std::string scheduler = checkpoint.scheduler_config.value("_class_name", "unknown");
  const std::string prediction = checkpoint.scheduler_config.value("prediction_type", "epsilon");
  Inspection inspection{path, {}, {}};
  inspection.fields = {{"kind", "model"},
                       {"layout", layout},
                       {"family", family_name(checkpoint.family)},
                       {"scheduler", scheduler},
                       {"prediction_type", prediction},
                       {"components", components}};
  inspection.text = fmt::format("kind: model ({})\nfamily: {}\nscheduler: {}, {}\n", layout,
                                family_name(checkpoint.family), scheduler, prediction);
  for (const auto& [name, component] : components.items())
    inspection.text += fmt::format("{}: {} parameters, {}\n", name,
                                   grouped(component["parameters"].get<int64_t>()),
                                   component["dtype"].get<std::string>());
  return inspection;
}

// ---- LoRA

Inspection inspect_lora(const fs::path& path) {
  const LoraSummary summary = describe_lora(path);
  Inspection inspection{path, summary.to_json(), summary.to_text()};
  // The summary's kind says which of LoRA's relatives it is; here it stands beside "model" and
  // "picture".
  inspection.fields["algorithm"] = inspection.fields["kind"];
  inspection.fields["kind"] = "LoRA";
  return inspection;
}

// ---- what merges are weighed by

Inspection inspect_coefficients(const fs::path& path) {
  const MergeCoefficients coefficients = MergeCoefficients::load(path);
  Inspection inspection{path, {}, {}};
  inspection.fields = {{"kind", "merge coefficients"},
                       {"num_layers", coefficients.layers.size()},
                       {"subject_sha256", coefficients.subject_sha256},
                       {"style_sha256", coefficients.style_sha256}};
  inspection.text = fmt::format(
      "kind: merge coefficients (for --merge ziplora of two files)\nlayers: {}\nsubject: sha256 "
      "{}\nstyle: sha256 {}\n",
      coefficients.layers.size(), coefficients.subject_sha256, coefficients.style_sha256);
  return inspection;
}

Inspection inspect_hypernetwork(const fs::path& path) {
  const Hypernetwork network = Hypernetwork::load(path);
  const char* key_value = network.key_value() == KeyValueMode::kSum ? "sum" : "mean";
  Inspection inspection{path, {}, {}};
  inspection.fields = {{"kind", "hypernetwork"},
                       {"layout", hypernet_layout_name(network.layout())},
                       {"widths", network.widths()},
                       {"hidden", network.num_hidden()},
                       {"key_value", key_value}};
  const std::string layers = network.layout() == HypernetLayout::kFeatures
                                 ? "all, of any width"
                                 : fmt::format("to_q and to_out.0 of {} outputs; to_k and to_v: {}",
                                               fmt::join(network.widths(), ", "), key_value);
  inspection.text = fmt::format(
      "kind: hypernetwork (predicts how a subject and a style LoRA are merged)\n"
      "reads: {}\nlayers: {}\nhidden values: {}\n",
      hypernet_layout_name(network.layout()), layers, network.num_hidden());
  return inspection;
}

Inspection inspect_human_judge(const fs::path& path) {
  const HumanJudgeSummary summary = describe_human_judge(path);
  Inspection inspection{path, {}, {}};
  inspection.fields = {{"kind", "human judge"},
                       {"judge", summary.name},
                       {"num_parameters", summary.num_parameters},
                       {"held_out", summary.held_out}};
  inspection.text = fmt::format("kind: human judge (for eval --human)\njudge: {}\nparameters: {}\n",
                                summary.name, grouped(summary.num_parameters));
  return inspection;
}

// ---- experts

Inspection inspect_gates(const fs::path& path) {
  const ExpertGatesSummary summary = describe_expert_gates(path);
  Inspection inspection{path, {}, {}};
  inspection.fields = {{"kind", "expert gates"},
                       {"experts", summary.experts},
                       {"num_layers", summary.num_layers},
                       {"num_keys", summary.num_keys},
                       {"num_parameters", summary.num_parameters},
                       {"dtype", summary.dtype},
                       {"metadata", summary.metadata}};
  inspection.text =
      fmt::format("kind: expert gates (MoLE)\nexperts: {}\nlayers: {}\nparameters: {} ({})\n",
                  fmt::join(summary.experts, ", "), summary.num_layers,
                  grouped(summary.num_parameters), summary.dtype);
  return inspection;
}

/// A folder for --mole: the gates, and each expert's file.
Inspection inspect_expert_set(const fs::path& path) {
  const Inspection gates = inspect_gates(path / kGatesFile);
  Inspection inspection{path, {{"kind", "expert set"}, {"gates", gates.fields}}, {}};
  inspection.text = fmt::format("kind: expert set (MoLE)\ngates: {} layers, {} parameters ({})\n",
                                gates.fields["num_layers"].get<int64_t>(),
                                grouped(gates.fields["num_parameters"].get<int64_t>()),
                                gates.fields["dtype"].get<std::string>());
  for (const std::string& name : gates.fields["experts"].get<std::vector<std::string>>()) {
    const LoraSummary expert = describe_lora(path / (name + ".safetensors"));
    inspection.fields["experts"][name] = expert.to_json();
    inspection.text += fmt::format("{}: {} parameters ({}), made for {}\n", name,
                                   grouped(expert.num_parameters), expert.dtype, expert.base_guess);
  }
  return inspection;
}

// ---- pictures

Inspection inspect_picture(const fs::path& path, const std::string& format) try {
  const Tensor pixels = read_image(path);
  Inspection inspection{path, {{"kind", "picture"}, {"format", format}}, {}};
  Json& fields = inspection.fields;
  fields["width"] = pixels.size(1);
  fields["height"] = pixels.size(0);
  inspection.text =
      fmt::format("kind: picture ({}, {} x {} pixels)\n", format, pixels.size(1), pixels.size(0));
  if (format != "PNG") return inspection;

  std::vector<std::string> other_chunks;
  std::string parameters, record;
  for (const auto& [keyword, text] : read_png_text(path)) {
    if (keyword == "molar") {
      fields["record"] = parse_json(text, fmt::format("the molar record of '{}'", path.string()));
      record = "record: " + dump_json(fields["record"], 2) + "\n";
    } else if (keyword == "parameters") {
      fields["parameters"] = text;
      parameters = "parameters:\n" + text + "\n";
    } else {
      other_chunks.push_back(keyword);
    }
  }
  fields["made_by_molar"] = fields.contains("record");
  fields["other_text"] = other_chunks;
  inspection.text +=
      fmt::format("made by molar: {}\n", fields.contains("record") ? "yes" : "no record in it");
  if (!other_chunks.empty())
    inspection.text += fmt::format("other text: {}\n", fmt::join(other_chunks, ", "));
  inspection.text += parameters + record;
  return inspection;
} catch (const InputError& error) {
  throw FileError(
      error.what());  // here the picture is the file that was asked about, not input to a drawing
}

Inspection inspect_folder(const fs::path& path) {
  if (fs::exists(path / "model_index.json")) return inspect_model(path);
  const bool lora = fs::exists(path / "adapter_config.json") ||
                    fs::exists(path / "pytorch_lora_weights.safetensors") ||
                    fs::exists(path / "unet/adapter_config.json");
  if (lora) return inspect_lora(path);
  if (is_expert_set(path)) return inspect_expert_set(path);
  throw FileError(
      fmt::format("folder '{}' is neither a diffusers model (model_index.json) nor a LoRA "
                  "(adapter_config.json, pytorch_lora_weights.safetensors) nor a set of experts "
                  "({})",
                  path.string(), kGatesFile));
}

}  // namespace

std::string Inspection::to_json_line() const {
  Json line = {{"schema", kSchema}, {"path", path.string()}};
  line.update(fields);
  return dump_json(line) + "\n";
}

std::string Inspection::to_text() const { return path.string() + "\n" + text; }

Inspection inspect_file(const fs::path& path) try {
  if (!fs::exists(path))
    throw FileError(fmt::format("'{}' does not exist{}", path.string(), path_suggestion(path)));
  if (fs::is_directory(path)) return inspect_folder(path);
  const std::string head = first_bytes(path);
  if (head.starts_with(kPngMagic)) return inspect_picture(path, "PNG");
  // A safetensors header's length may begin with any byte, so its '{' is asked for before other
  // magic numbers.
  if (head.size() > 8 && head[8] == '{') {
    const SafetensorsFile file = SafetensorsFile::open(path);
    if (is_lora(file)) return inspect_lora(path);
    if (is_hypernetwork(file)) return inspect_hypernetwork(path);
    if (is_expert_gates(file)) return inspect_gates(path);
    if (is_human_judge(file)) return inspect_human_judge(path);
    return is_merge_coefficients(file) ? inspect_coefficients(path) : inspect_model(path);
  }
  if (head.starts_with(kJpegMagic)) return inspect_picture(path, "JPEG");
  if (head.starts_with(kBmpMagic)) return inspect_picture(path, "BMP");
  if (head.starts_with(kZipMagic) || head.starts_with(kPickleMagic))
    throw FileError(fmt::format(
        "'{}' looks like a PyTorch pickle, which can run code; convert it to .safetensors "
        "with diffusers or safetensors and try again",
        path.string()));
  throw FileError(fmt::format("'{}' is neither a safetensors file nor a picture", path.string()));
} catch (const fs::filesystem_error& error) {
  throw as_file_error(error);
}

}  // namespace molar::cli
