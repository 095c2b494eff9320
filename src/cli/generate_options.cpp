#include "generate_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iostream>
#include <limits>

#include "molar/adapters/merge/merge_method.h"
#include "molar/core/error.h"
#include "molar/schedulers/scheduler.h"
#include "option_binder.h"
#include "resources.h"
#include "settings.h"
#include "text.h"

namespace molar::cli {
namespace {

void register_output_options(CLI::App& app, GenerateOptions& o) {
  OptionBinder output(app, "Output");
  output.value("-o,--output", o.output, "PATH",
               "File, template ({seed} {row} {name}), folder/, or '-' for PNG bytes on standard "
               "output (molar-{seed}.png)");
  output.value("--on-exist", o.on_exist, "number|skip|overwrite|error",
               "What to do where the file exists (number)");
  output
      .value("--from", o.from, "PNG",
             "Draw a picture that molar made again; other options change it")
      ->configurable(false);
  output.value("--heatmaps", o.heatmaps, "DIR",
               "Write the experts' gates there: a picture of each step, a curve over the steps");
  output.flag("--no-metadata", o.no_metadata, "Write no record into the picture");
  output.flag("--dry-run", o.dry_run, "Check everything and print the plan, without drawing");
  register_machine_options(app, o.machine);
}

constexpr size_t kMaxPromptBytes = 1 << 20;

std::string read_standard_input(const std::string& option) {
  std::string text(kMaxPromptBytes + 1, '\0');
  std::cin.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::cin.gcount()));
  if (text.size() > kMaxPromptBytes)
    throw InputError(
        fmt::format("{}: standard input holds more than the {} bytes that a prompt may have",
                    option, kMaxPromptBytes));
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

/// "-" stands for standard input, which can be read once.
class PromptReader {
 public:
  std::string read(const std::string& option, const std::string& text) {
    if (text != "-") return text;
    if (!reader_.empty())
      throw ConfigError(fmt::format("{} and {} cannot both read standard input", reader_, option));
    reader_ = option;
    return parse_value<std::string>(option, read_standard_input(option));
  }

 private:
  std::string reader_;
};

void take_prompts(const GenerateOptions& o, GenerationRequest& request) {
  take(o.prompt, request.prompt);
  take(o.negative_prompt, request.negative_prompt);
  take(o.prompt_2, request.prompt_2);
  take(o.negative_prompt_2, request.negative_prompt_2);
  take(o.prompt_syntax, request.prompt_syntax);
}

/// In place of the strength that the file was given with.
void take_weight(const std::string& option, const std::optional<double>& weight,
                 std::optional<LoraUse>& use) {
  if (!weight) return;
  if (!use)
    throw ConfigError(fmt::format("--{0}-weight {1}: does nothing without --{0}", option, *weight));
  use->weight = *weight;
}

void take_adapters(const GenerateOptions& o, AdapterRequest& adapters) {
  take(o.subject, adapters.subject);
  take(o.style, adapters.style);
  take_weight("subject", o.subject_weight, adapters.subject);
  take_weight("style", o.style_weight, adapters.style);
  if (!o.loras.empty()) adapters.loras = o.loras;
  take(o.merge, adapters.merge);
  take(o.hypernetwork, adapters.hypernetwork);
  take(o.coefficients, adapters.coefficients);
  adapters.allow_partial = adapters.allow_partial || o.allow_partial_lora;
}

/// Options come on top of a record's experts; --no-mole takes those away.
void take_mole(const MoleOptions& o, MoleRequest& mole) {
  if (o.off) mole = MoleRequest{.off = true};
  if (o.folder) mole.off = o.off;
  take(o.folder, mole.folder);
  if (!o.strengths.empty()) mole.strengths = o.strengths;
  if (!o.regions.empty()) mole.regions = o.regions;
  take(o.cap, mole.cap);
  take(o.start, mole.start);
  take(o.end, mole.end);
}

void check_seed(const GenerationRequest& request) {
  constexpr uint64_t kHighestTorchSeed = std::numeric_limits<uint32_t>::max();
  if (request.count > 0 && request.seed > std::numeric_limits<uint64_t>::max() -
                                              (static_cast<uint64_t>(request.count) - 1))
    throw ConfigError(fmt::format("--seed {}: with --count {} the last seed would pass {}",
                                  request.seed, request.count,
                                  std::numeric_limits<uint64_t>::max()));
  if (request.seed > kHighestTorchSeed)
    spdlog::warn("seed {}: torch draws from the low 32 bits, so it draws what seed {} does",
                 request.seed, request.seed & kHighestTorchSeed);
}

}  // namespace

void register_picture_options(CLI::App& app, GenerateOptions& o) {
  OptionBinder prompt(app, "Prompt");
  prompt.value("-p,--prompt", o.prompt, "TEXT", "What to draw; '-' reads standard input");
  prompt.value("-n,--negative-prompt", o.negative_prompt, "TEXT",
               "What to keep away from; '-' reads standard input");
  prompt.value("--prompt-2", o.prompt_2, "TEXT",
               "SDXL: prompt of the second text encoder (as the first)");
  prompt.value("--negative-prompt-2", o.negative_prompt_2, "TEXT",
               "SDXL: negative prompt of the second text encoder");
  prompt.value("--prompt-syntax", o.prompt_syntax, "a1111|plain",
               "a1111: (word:1.2), [word], \\(, BREAK; plain: the text as it stands (a1111)");
  prompt.value("--clip-skip", o.clip_skip, "N",
               "Leave out the last N text layers, as diffusers counts (the model's own)");

  OptionBinder lora(app, "LoRA");
  lora.value("--subject", o.subject, "FILE[@W[:BLOCK=W,...]]",
             "LoRA of the subject, with strength W (1.0), of single blocks too (MID=0.5,OUT=0)");
  lora.value("--style", o.style, "FILE[@W[:BLOCK=W,...]]", "LoRA of the style, the same");
  lora.value("--subject-weight", o.subject_weight, "W",
             "Strength of the subject, in place of the one behind its file's @");
  lora.value("--style-weight", o.style_weight, "W", "Strength of the style, the same");
  lora.list("--lora", o.loras, "FILE[@W[:BLOCK=W,...]]",
            "Another LoRA, joins after the merge; repeatable");
  lora.value("--merge", o.merge, "METHOD",
             fmt::format("How subject and style are merged: {} (auto)",
                         fmt::join(merge_method_names(), ", ")));
  lora.value("--hypernet", o.hypernetwork, "FILE",
             "Hypernetwork that predicts the merge (hypernet.safetensors beside the model)");
  lora.value("--coefficients", o.coefficients, "FILE",
             "--merge ziplora: what molar train ziplora learnt for the two files");
  lora.flag("--allow-partial-lora", o.allow_partial_lora,
            "A LoRA key that fits nothing is a warning, not an error");

  OptionBinder mole(app, "Face and hand experts (MoLE)");
  mole.value("--mole", o.mole.folder, "DIR",
             "Folder of experts, NAME.safetensors, and their gates.safetensors (mole/ beside the "
             "model)");
  mole.flag("--no-mole", o.mole.off, "No experts");
  mole.list("--expert", o.mole.strengths, "NAME=W", "Strength of an expert (1.0); repeatable");
  mole.list("--region", o.mole.regions, "NAME=x,y,w,h|MASK|auto",
            "Where an expert acts: pixels, a picture's white, or where its gates are high; "
            "repeatable (everywhere)");
  mole.value("--mole-cap", o.mole.cap, "X",
             "Most that the experts change a layer's result, as a share of its norm (no limit)");
  mole.value("--mole-start", o.mole.start, "X",
             "Share of the steps, 0 to 1, from which on the experts act (0)");
  mole.value("--mole-end", o.mole.end, "X", "The same, until which they do (1)");

  OptionBinder sampling(app, "Sampling");
  sampling.value("--sampler", o.sampler, "SAMPLER",
                 fmt::format("{} (the model's own)", fmt::join(sampler_names(), ", ")));
  sampling.value("--steps", o.steps, "N", "Sampling steps, 1 to 1000 (30)");
  sampling.value("--cfg-scale", o.cfg_scale, "X", "Guidance scale; 1 or less: no guidance (7.5)");
  sampling.value("--guidance-rescale", o.guidance_rescale, "X", "0 to 1, against overexposure (0)");
  sampling.value("--eta", o.eta, "X", "ddim only: 0 deterministic, 1 as noisy as ddpm (0)");
  sampling.value("-s,--seed", o.seed, "N", "Seed; picture i uses seed+i (random, and reported)");
  sampling.value("-W,--width", o.width, "PX", "Multiple of 8 (the model's own)");
  sampling.value("-H,--height", o.height, "PX", "Multiple of 8 (the model's own)");
  sampling.value("-b,--count", o.count, "N", "Number of pictures (1)");

  OptionBinder image(app, "Starting from a picture");
  image.value("--init-image", o.init_image, "FILE", "Picture to start from (img2img)");
  image.value("--mask", o.mask, "FILE", "Inpainting: white is drawn anew");
  image.value("--strength", o.strength, "X",
              "How far the picture is drawn anew, above 0 to 1 (0.8; 1.0 with --mask)");

  register_model_options(app, o.model);
  OptionBinder model(app, "Model");
  model.value("--dtype", o.dtype, "auto|f32|f16|bf16",
              "Type of its numbers (auto: the fastest that the device really has)");
  model.flag("--vae-tiling", o.vae_tiling, "Decode in tiles: less memory for large pictures");
}

CLI::App* register_generate(CLI::App& program, GenerateOptions& options) {
  CLI::App* app = program.add_subcommand("generate", "Draw pictures from a prompt");
  register_picture_options(*app, options);
  for (const std::string& name : option_names(*app)) options.picture_option_names.insert(name);
  register_output_options(*app, options);
  register_run_options(*app, options.run);
  return app;
}

GenerateOptions with_prompts_read(GenerateOptions options) {
  PromptReader reader;
  const auto read = [&](const char* option, std::optional<std::string>& text) {
    if (text) text = reader.read(option, *text);
  };
  read("--prompt", options.prompt);
  read("--negative-prompt", options.negative_prompt);
  read("--prompt-2", options.prompt_2);
  read("--negative-prompt-2", options.negative_prompt_2);
  return options;
}

GenerationRequest resolve_request(const GenerateOptions& options,
                                  const std::optional<RecordedRequest>& recorded) {
  if (!recorded && !options.prompt)
    throw ConfigError(
        "no prompt; wanted -p \"TEXT\" (-p - reads standard input), see 'molar generate -h'");
  GenerationRequest request = recorded ? recorded->request : GenerationRequest{};
  take_prompts(options, request);
  take_adapters(options, request.adapters);
  take_mole(options.mole, request.mole);
  take(options.clip_skip, request.clip_skip);
  take(options.sampler, request.sampler);
  take(options.steps, request.num_steps);
  take(options.cfg_scale, request.guidance_scale);
  take(options.guidance_rescale, request.guidance_rescale);
  take(options.eta, request.eta);
  take(options.width, request.width_px);
  take(options.height, request.height_px);
  take(options.count, request.count);
  take(options.init_image, request.init_image);
  take(options.mask, request.mask);
  take(options.strength, request.strength);
  request.vae_tiling = request.vae_tiling || options.vae_tiling;
  take(options.seed, request.seed);
  request.validate();
  // An unknown name is told before the model is loaded.
  resolve_merge_method(request.adapters.merge, {.hypernetwork = true, .coefficients = true});
  check_seed(request);
  return request;
}

ModelRequest resolve_model(const GenerateOptions& options,
                           const std::optional<RecordedRequest>& recorded) {
  ModelRequest model = recorded ? recorded->model : ModelRequest{};
  take_model(options.model, model);
  model.compute.device = parse_device(options.machine.device.value_or("auto"));
  if (options.dtype || !recorded)
    model.compute.dtype = parse_dtype(options.dtype.value_or("auto"), model.compute.device);
  return model;
}

}  // namespace molar::cli
