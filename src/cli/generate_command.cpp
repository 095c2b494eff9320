#include "generate_command.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "molar/core/error.h"
#include "molar/core/random.h"
#include "molar/io/hash.h"
#include "molar/io/image.h"
#include "molar/pipeline/stable_diffusion_pipeline.h"
#include "picture_writer.h"
#include "progress_display.h"
#include "result_stream.h"
#include "signals.h"
#include "warnings.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

std::string size_text(const fs::path& path) {
  std::error_code error;
  const auto bytes = fs::is_regular_file(path, error) ? fs::file_size(path, error) : 0;
  if (error || bytes == 0) return "";
  return bytes < 1'000'000'000 ? fmt::format(" ({:.1f} MB)", static_cast<double>(bytes) / 1e6)
                               : fmt::format(" ({:.1f} GB)", static_cast<double>(bytes) / 1e9);
}

Json plan_json(const GenerationRequest& request, const ModelRequest& model, std::string_view family,
               const PictureWriter& writer) {
  Json pictures = Json::array();
  for (const PlannedPicture& picture : writer.plan())
    pictures.push_back(
        {{"path", picture.path.string()}, {"seed", picture.seed}, {"skipped", picture.exists}});
  return {{"schema", 1},
          {"dry_run", true},
          {"request", request.to_json()},
          {"model",
           {{"path", fs::absolute(model.model).string()},
            {"family", family},
            {"device", model.compute.device.str()},
            {"dtype", dtype_option(model.compute.dtype)}}},
          {"pictures", std::move(pictures)}};
}

void print_plan(const Json& plan, bool json) {
  if (json) {
    write_result_json(plan);
    return;
  }
  std::string text;
  for (const char* part : {"model", "request"})
    for (const auto& [key, value] : plan[part].items())
      text += fmt::format("{}: {}\n", key,
                          value.is_string() ? value.get<std::string>() : dump_json(value));
  for (const Json& picture : plan["pictures"])
    text += fmt::format("{}: {}\n", picture["skipped"].get<bool>() ? "skip" : "write",
                        picture["path"].get<std::string>());
  write_result(text);
}

/// The pictures that are not there yet, in runs of consecutive seeds; each run is one call of the
/// pipeline.
void draw(StableDiffusionPipeline& pipeline, const GenerationRequest& request, RunContext context,
          PictureWriter& writer, const LogSession& log) {
  const std::vector<PlannedPicture>& plan = writer.plan();
  for (size_t i = 0; i < plan.size();) {
    if (plan[i].exists) {
      writer.report_skipped(i++);
      continue;
    }
    const auto run_end = std::find_if(plan.begin() + static_cast<std::ptrdiff_t>(i), plan.end(),
                                      [](const PlannedPicture& picture) { return picture.exists; });
    GenerationRequest part = request;
    part.seed = plan[i].seed;
    part.count = run_end - (plan.begin() + static_cast<std::ptrdiff_t>(i));
    pipeline.generate(part, context,
                      [&](const Picture& picture) { writer.write(i++, picture, log.warnings()); });
  }
}

/// The record holds each LoRA's hash: a file that changed since draws another picture, and says so.
void warn_of_changed_files(const fs::path& picture) try {
  for (const auto& [keyword, text] : read_png_text(picture)) {
    if (keyword != "molar") continue;
    const Json record = parse_json(text, picture.string());
    Json files = record.at("loras");
    for (const Json& expert : record.value("experts", Json::array())) files.push_back(expert);
    for (const Json& used : files) {
      const std::string file = used.at("file"), sha256 = used.at("sha256");
      if (fs::is_regular_file(file) && sha256_safetensors_data(file) != sha256)
        spdlog::warn("'{}' has another content than when '{}' was drawn", file, picture.string());
    }
  }
} catch (const Json::exception&) {
  throw InputError(
      fmt::format("the molar record of '{}' lacks a list of LoRA files", picture.string()));
}

}  // namespace

CommandHelp generate_help() {
  return {.usage = "-p TEXT [options]",
          .examples =
              {"molar generate -p \"a dog in watercolor style\" --subject dog.safetensors --style "
               "watercolor.safetensors -o dog.png",
               "molar generate -m sd15/ -p \"a castle (at night:1.2)\" -b 4 -s 7 --steps 20 -o "
               "\"out/{seed}.png\""},
          .common_options = {"--prompt", "--negative-prompt", "--model", "--subject", "--style",
                             "--sampler", "--steps", "--seed", "--width", "--height", "--count",
                             "--output"}};
}

void run_generate(const GenerateOptions& options, const LogSession& log) {
  const CancellationToken& cancellation = handle_signals(options.run.quiet);
  std::optional<RecordedRequest> recorded;
  if (options.from) {
    recorded = read_recorded_request(*options.from);
    warn_of_changed_files(*options.from);
  }
  GenerationRequest request = resolve_request(with_prompts_read(options), recorded);
  if (!options.seed && !recorded) request.seed = random_seed();
  const ModelRequest model = resolve_model(options, recorded);
  set_threads(options.machine.threads);

  PictureWriterOptions writer_options{.metadata = !options.no_metadata, .json = options.run.json};
  if (options.output) writer_options.output = *options.output;
  if (options.on_exist) writer_options.on_exist = *options.on_exist;
  writer_options.heatmaps = options.heatmaps;
  PictureWriter writer(writer_options, request);

  if (!options.dry_run && writer.nothing_to_draw()) {
    for (size_t i = 0; i < writer.plan().size(); ++i) writer.report_skipped(i);
    return;
  }
  spdlog::info("loading {}{}, {} on {}, seed {}", model.model.string(), size_text(model.model),
               dtype_option(model.compute.dtype), model.compute.device.str(), request.seed);
  StableDiffusionPipeline pipeline = StableDiffusionPipeline::open(model);
  if (options.heatmaps && !pipeline.draws_with_experts(request))
    throw ConfigError(
        fmt::format("--heatmaps '{}' shows the gates of experts, but there are none: "
                    "wanted --mole DIR, or a folder 'mole' beside the model",
                    options.heatmaps->string()));
  if (options.dry_run) {
    print_plan(plan_json(pipeline.plan(request), model, pipeline.family(), writer),
               options.run.json);
    return;
  }
  const std::unique_ptr<ProgressSink> progress =
      make_progress_display(options.machine.progress_style(options.run.quiet));
  draw(pipeline, request,
       {.progress = *progress,
        .cancellation = cancellation,
        .record_gates = options.heatmaps.has_value()},
       writer, log);
  repeat_warnings(log, options.run.quiet);
}

}  // namespace molar::cli
