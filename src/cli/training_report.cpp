#include "training_report.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "molar/io/hash.h"
#include "molar/io/json_config.h"
#include "result_stream.h"

namespace molar::cli {
namespace {

constexpr int kSchema = 1;

}  // namespace

void report_step(const TrainingStep& step) {
  Json line{{"schema", kSchema},
            {"step", step.step},
            {"loss", step.loss},
            {"learning_rate", step.learning_rate},
            {"grad_norm", step.grad_norm}};
  for (const auto& [name, value] : step.terms) line[name] = value;
  write_result_json(line);
}

void report_outcome(const TrainingResult& result, bool json,
                    const std::vector<std::string>& warnings) {
  if (result.already_finished)
    spdlog::info("'{}' is finished: an earlier run took its {} steps; nothing to do",
                 result.path.string(), result.num_steps);
  if (!json) {
    write_result_line(result.path.string());
    return;
  }
  write_result_json({{"schema", kSchema},
                     {"path", result.path.string()},
                     {"skipped", result.already_finished},
                     {"steps", result.num_steps},
                     {"sha256", sha256_safetensors_data(result.path)},
                     {"warnings", warnings}});
}

}  // namespace molar::cli
