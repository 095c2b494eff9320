#include "merge_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <future>
#include <set>

#include "molar/adapters/layer_skeleton.h"
#include "molar/adapters/lora_io.h"
#include "molar/adapters/lora_metadata.h"
#include "molar/adapters/lora_summary.h"
#include "molar/adapters/lora_writer.h"
#include "molar/adapters/low_rank.h"
#include "molar/adapters/merge/merge_method.h"
#include "molar/adapters/merge/merge_report.h"
#include "molar/core/error.h"
#include "molar/core/finite.h"
#include "molar/core/parallel_tasks.h"
#include "molar/io/hash.h"
#include "molar/io/safetensors.h"
#include "option_binder.h"
#include "resources.h"
#include "result_stream.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr int kSchema = 1;

/// One file of the command line.
struct NamedUse {
  LoraRole role;
  LoraUse use;
};

std::vector<NamedUse> named_uses(const MergeCommandOptions& o) {
  std::vector<NamedUse> uses;
  if (o.subject) uses.push_back({LoraRole::kSubject, *o.subject});
  if (o.style) uses.push_back({LoraRole::kStyle, *o.style});
  for (const LoraUse& use : o.loras) uses.push_back({LoraRole::kOther, use});
  if (uses.size() < 2)
    throw ConfigError(
        fmt::format("a merge needs two LoRA files or more; wanted --subject FILE "
                    "--style FILE, or --lora FILE for each; found {}",
                    uses.size()));
  return uses;
}

/// "auto" knows roles; files without them are summed.
std::string requested_method(const MergeCommandOptions& o) {
  if (o.method) return *o.method;
  return o.loras.empty() ? "auto" : "concat";
}

/// The one family that all files were made for, as far as they tell.
ModelFamily common_family(const std::vector<NamedUse>& uses) {
  std::map<std::string, std::string> files;  // guess -> a file
  for (const NamedUse& named : uses)
    if (const std::string guess = describe_lora(named.use.file).base_guess; guess != "unknown")
      files.try_emplace(guess, named.use.file.string());
  if (files.empty())
    throw ConfigError("cannot tell which model the LoRA files were made for; wanted -m MODEL");
  if (files.size() > 1) {
    std::vector<std::string> parts;
    for (const auto& [guess, file] : files) parts.push_back(fmt::format("'{}' {}", file, guess));
    throw FitError(
        fmt::format("the LoRA files were made for different models: {}; wanted files of "
                    "one, or -m MODEL to check them against",
                    fmt::join(parts, ", ")));
  }
  for (const ModelFamily family : {ModelFamily::kSd1, ModelFamily::kSd2, ModelFamily::kSdxl})
    if (family_name(family) == files.begin()->first) return family;
  throw FitError(fmt::format("'{}' was made for {}; wanted a LoRA of SD 1.x, SD 2.x or SDXL",
                             files.begin()->second, files.begin()->first));
}

LayerSkeleton skeleton_for(const MergeCommandOptions& o, const std::vector<NamedUse>& uses) {
  if (!o.model) return LayerSkeleton(common_family(uses));
  return LayerSkeleton(open_checkpoint(*o.model, {.clip_vocabulary = clip_vocabulary()}));
}

at::ScalarType widest_dtype(const std::vector<MergeInput>& inputs) {
  std::set<at::ScalarType> dtypes;
  for (const MergeInput& input : inputs)
    for (const auto& [name, layer] : input.weights.layers)
      for (const Tensor& factor : layer.tensors()) dtypes.insert(factor.scalar_type());
  return dtypes.size() == 1 ? *dtypes.begin() : at::kFloat;
}

MergeOptions resolve_merge(const MergeCommandOptions& o) {
  MergeOptions merge;
  if (o.key_value) merge.key_value = parse_key_value_mode(*o.key_value);
  take(o.density, merge.density);
  take(o.projection, merge.projection);
  take(o.seed, merge.seed);
  take(o.rank, merge.rank);
  return merge;
}

/// Options that the method does not read are mistakes.
void refuse_idle_options(const MergeCommandOptions& o, const std::string& method) {
  struct Row {
    const char* option;
    bool given;
    std::set<std::string> methods;
  };
  const Row rows[] = {{"--hypernet", o.hypernetwork.has_value(), {"lorarar"}},
                      {"--coefficients", o.coefficients.has_value(), {"ziplora"}},
                      {"--key-value", o.key_value.has_value(), {"lorarar"}},
                      {"--density", o.density.has_value(), {"ties", "dare"}},
                      {"--seed", o.seed.has_value(), {"dare"}},
                      {"--np-mu", o.projection.has_value(), {"np"}}};
  for (const auto& [option, given, methods] : rows)
    if (given && !methods.contains(method))
      throw ConfigError(fmt::format("{} does nothing with --method {}; it is for {}", option,
                                    method, fmt::join(methods, " and ")));
}

std::vector<std::string> hash_all(const std::vector<MergeInput>& inputs) {
  std::vector<std::string> hashes;
  for (const MergeInput& input : inputs)
    hashes.push_back(sha256_safetensors_data(input.weights.path));
  return hashes;
}

/// Every layer as plain factors of `dtype`, as files hold them.
LoraWeights as_file_factors(const LoraWeights& merged, at::ScalarType dtype) {
  LoraWeights plain;
  std::vector<std::pair<LayerName, LoraLayer*>> layers;
  for (const auto& [name, layer] : merged.layers)
    layers.emplace_back(name, &plain.layers.emplace(name, layer).first->second);
  parallel_tasks(std::ssize(layers), [&](int64_t i) {
    const auto& [name, layer] = layers[static_cast<size_t>(i)];
    *layer = as_plain_layer(*layer, dtype);
    for (const Tensor& factor : layer->tensors())
      if (!is_finite(factor))
        throw Error(
            fmt::format("layer '{}' of {}: the merged factors do not fit {}; wanted a wider "
                        "--dtype or smaller strengths",
                        name.module, name.component, dtype_option(dtype)));
  });
  return plain;
}

std::string joined_words(const std::vector<MergeInput>& inputs,
                         std::string LoraDocumentation::* field) {
  std::vector<std::string> words;
  for (const MergeInput& input : inputs) {
    const std::string word = read_lora_documentation(input.weights.metadata).*field;
    if (!word.empty() && std::ranges::find(words, word) == words.end()) words.push_back(word);
  }
  return fmt::format("{}", fmt::join(words, ", "));
}

/// Of all that was predicted, in the order of the layers; empty where nothing was.
std::string coefficients_digest(const MergedLora& merged) {
  std::string bytes;
  for (const auto& [name, how] : merged.layers) {
    if (!how.coefficients.defined()) continue;
    for (const Tensor& predicted : {how.coefficients, how.projection}) {
      if (!predicted.defined()) continue;
      const Tensor values = predicted.contiguous();
      bytes.append(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
    }
  }
  return bytes.empty() ? "" : sha256_hex(bytes);
}

/// SHA-256 of all that a merge is made of; the last two are empty where nothing was predicted.
struct MergeDigests {
  std::vector<std::string> inputs;
  std::string coefficients;
  std::string hypernetwork;
};

SafetensorsMetadata merge_metadata(const std::string& method, const fs::path& output,
                                   ModelFamily family, const std::vector<NamedUse>& uses,
                                   const std::vector<MergeInput>& inputs,
                                   const MergeDigests& digests, const MergedLora& merged) {
  Json description = {{"schema", kSchema},
                      {"method", method},
                      {"layers", merged.summary()},
                      {"coefficients_sha256", digests.coefficients},
                      {"inputs", Json::array()}};
  if (!digests.hypernetwork.empty()) description["hypernet_sha256"] = digests.hypernetwork;
  std::vector<std::string> parents;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const MergeInput& input = inputs[i];
    const std::string& hash = digests.inputs[i];
    const LoraDocumentation words = read_lora_documentation(input.weights.metadata);
    parents.push_back(fmt::format("{} ({})", input.weights.path.stem().string(), hash));
    Json parent{{"role", role_name(input.role)},
                {"file", input.weights.path.filename().string()},
                {"sha256", hash},
                {"strength", input.strength},
                {"trigger_words", words.trigger_words},
                {"licence", words.licence}};
    if (!uses[i].use.blocks.empty()) parent["blocks"] = block_strengths_text(uses[i].use.blocks);
    description["inputs"].push_back(std::move(parent));
  }
  SafetensorsMetadata metadata = family_metadata(family);
  metadata["molar.merge"] = dump_json(description);
  metadata["ss_output_name"] = metadata["modelspec.title"] = output.stem().string();
  metadata["modelspec.merged_from"] = fmt::format("{}", fmt::join(parents, ", "));
  const std::string triggers = joined_words(inputs, &LoraDocumentation::trigger_words);
  const std::string licences = joined_words(inputs, &LoraDocumentation::licence);
  if (!triggers.empty()) metadata["modelspec.trigger_phrase"] = triggers;
  if (!licences.empty()) metadata["modelspec.license"] = licences;
  return metadata;
}

/// ss_network_dim and ss_network_alpha as kohya spells them: "Dynamic" where layers differ.
void add_rank_metadata(SafetensorsMetadata& metadata, const LoraWeights& plain) {
  std::set<int64_t> ranks;
  for (const auto& [name, layer] : plain.layers) ranks.insert(layer.rank());
  metadata["ss_network_dim"] = metadata["ss_network_alpha"] =
      ranks.size() == 1 ? std::to_string(*ranks.begin()) : "Dynamic";
}

void write_report(const fs::path& folder, const std::string& method,
                  const std::vector<MergeInput>& inputs, const MergedLora& merged) {
  const std::vector<LayerReport> layers = report_merge(inputs, merged);
  const auto write = [&](const char* name, const std::string& text) {
    write_file_atomically(folder / name, OnExist::kOverwrite,
                          [&](const ByteSink& sink) { sink(text); });
  };
  write("report.json", dump_json(merge_report_json(method, inputs, layers), 1) + "\n");
  write("report.svg", merge_report_svg(method, inputs, layers));
}

}  // namespace

CLI::App* register_merge(CLI::App& program, MergeCommandOptions& o) {
  CLI::App* app = program.add_subcommand("merge", "Make one LoRA file of several");
  OptionBinder what(*app, "What");
  what.value("--subject", o.subject, "FILE[@W[:BLOCK=W,...]]",
             "LoRA of the subject, with strength W (1.0), of single blocks too (MID=0.5,OUT=0)");
  what.value("--style", o.style, "FILE[@W[:BLOCK=W,...]]", "LoRA of the style, the same");
  what.list("--lora", o.loras, "FILE[@W[:BLOCK=W,...]]", "A LoRA without a role; repeatable");
  what.value("-m,--model", o.model, "PATH",
             "Model that the files must fit (SD 1.5, 2.1 or XL, as the files tell)");
  what.flag("--allow-partial-lora", o.allow_partial_lora,
            "A LoRA key that fits nothing is a warning, not an error");

  OptionBinder how(*app, "How");
  how.value("--method", o.method, "METHOD",
            fmt::format("{} (auto; concat for files without roles)",
                        fmt::join(merge_method_names(), ", ")));
  how.value("--hypernet", o.hypernetwork, "FILE", "lorarar: the hypernetwork");
  how.value("--coefficients", o.coefficients, "FILE",
            "ziplora: what molar train ziplora learnt for the two files");
  how.value("--key-value", o.key_value, "sum|mean",
            "lorarar: to_k and to_v (what the hypernetwork says, else sum)");
  how.value("--np-mu", o.projection, "X", "np: how far the subject leaves the style's rows (0.5)");
  how.value("--density", o.density, "X", "ties, dare: share of values that is kept (0.5)");
  how.value("-s,--seed", o.seed, "N", "dare: which values are dropped (0)");
  how.value("--rank", o.rank, "N",
            "Highest rank of the result: the best approximation of that rank (exact)");

  OptionBinder output(*app, "Output");
  output.value("-o,--output", o.output, "FILE", "The merged LoRA, a .safetensors file");
  output.value("--format", o.format, "kohya|diffusers", "Names of its tensors (kohya)");
  output.value("--dtype", o.dtype, "f32|f16|bf16",
               "Type of its factors (the files'; f32 if mixed)");
  output.value("--report", o.report, "DIR",
               "Write report.json and report.svg: how the changes interfere, what was predicted");
  output.value("--on-exist", o.on_exist, "number|skip|overwrite|error",
               "Where the file exists (error)");
  register_thread_option(*app, o.threads);
  register_run_options(*app, o.run);
  return app;
}

CommandHelp merge_help() {
  return {.usage = "--subject FILE --style FILE -o FILE [options]",
          .examples = {"molar merge --subject dog.safetensors --style ink.safetensors@0.8 -o "
                       "dog-ink.safetensors",
                       "molar merge --method svd --rank 32 --lora a.safetensors --lora "
                       "b.safetensors@0.5 -o both.safetensors --report report/"},
          .common_options = {"--subject", "--style", "--lora", "--method", "--hypernet", "--rank",
                             "--format", "--report", "--output"}};
}

void run_merge(const MergeCommandOptions& o, const LogSession& log) {
  if (!o.output) throw ConfigError("no output; wanted -o FILE.safetensors");
  const OnExist on_exist = o.on_exist.value_or(OnExist::kError);
  if (on_exist == OnExist::kSkip && is_taken(*o.output)) {
    write_result_line(o.output->string());
    return;
  }
  resolve_target(*o.output, on_exist);  // refuses before the work
  const LoraFormat format = parse_lora_format(o.format.value_or("kohya"));
  const std::vector<NamedUse> uses = named_uses(o);
  set_threads(o.threads);

  MergeOptions merge = resolve_merge(o);
  std::optional<Hypernetwork> network;
  if (o.hypernetwork) merge.hypernetwork = &network.emplace(Hypernetwork::load(*o.hypernetwork));
  std::optional<MergeCoefficients> coefficients;
  if (o.coefficients)
    merge.coefficients = &coefficients.emplace(MergeCoefficients::load(*o.coefficients));
  const std::string method = resolve_merge_method(
      requested_method(o),
      {.hypernetwork = network.has_value(), .coefficients = coefficients.has_value()});
  require_file_method(method);
  refuse_idle_options(o, method);

  const LayerSkeleton skeleton = skeleton_for(o, uses);
  std::vector<MergeInput> inputs(uses.size());
  parallel_tasks(std::ssize(uses), [&](int64_t i) {
    const auto& [role, use] = uses[static_cast<size_t>(i)];
    inputs[static_cast<size_t>(i)] = {
        role, load_lora(use.file, skeleton.layers(), {.allow_partial = o.allow_partial_lora}),
        use.weight, layer_strengths(use.blocks, skeleton.layers())};
  });
  merge.factors_dtype =
      o.dtype && *o.dtype != "auto" ? parse_dtype(*o.dtype, at::kCPU) : widest_dtype(inputs);

  const MergedLora merged = merge_loras(method, inputs, merge);
  spdlog::info("merged {} files by '{}': {} layers", inputs.size(), method, merged.summary());
  const LoraWeights plain = as_file_factors(merged.weights, merge.factors_dtype);
  const ModelFamily family = skeleton.layers().family;
  MergeDigests digests{.inputs = std::vector(inputs.size(), std::string(kSha256HexDigits, '0')),
                       .coefficients = coefficients_digest(merged),
                       .hypernetwork = merge.hypernetwork == nullptr
                                           ? ""
                                           : sha256_safetensors_data(merge.hypernetwork->path())};
  const auto metadata = [&] {
    SafetensorsMetadata words =
        merge_metadata(method, *o.output, family, uses, inputs, digests, merged);
    add_rank_metadata(words, plain);
    return words;
  };
  // Writing waits for memory and disk, hashing for the processor: side by side.
  std::future<std::vector<std::string>> hashes = std::async(std::launch::async, hash_all, inputs);
  const LoraFileContent content = spell_lora(plain, family, format, metadata());
  const auto with_hashes = [&] {
    digests.inputs = hashes.get();
    SafetensorsMetadata words = content.metadata;
    for (const auto& [key, value] : metadata()) words[key] = value;
    return words;
  };
  const fs::path path =
      write_safetensors(*o.output, on_exist, content.tensors, content.metadata, with_hashes);
  if (o.report) write_report(*o.report, method, inputs, merged);
  if (!o.run.json) {
    write_result_line(path.string());
    return;
  }
  write_result_json({{"schema", kSchema},
                     {"path", path.string()},
                     {"method", method},
                     {"layers", merged.summary()},
                     {"sha256", sha256_safetensors_data(path)},
                     {"warnings", log.warnings()}});
}

}  // namespace molar::cli
