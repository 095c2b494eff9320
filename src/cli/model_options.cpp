#include "model_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "molar/core/error.h"
#include "molar/core/nearest_name.h"
#include "option_binder.h"
#include "resources.h"

namespace molar::cli {
namespace {

void check_prediction_type(const std::string& type) {
  static const std::vector<std::string> kTypes = {"epsilon", "v_prediction", "sample"};
  if (std::find(kTypes.begin(), kTypes.end(), type) == kTypes.end())
    throw ConfigError(fmt::format("--prediction-type '{}': wanted {}{}", type,
                                  fmt::join(kTypes, ", "), suggestion(type, kTypes)));
}

}  // namespace

void register_model_options(CLI::App& app, ModelOptions& options) {
  OptionBinder model(app, "Model");
  model.value("-m,--model", options.model, "PATH",
              "Diffusers folder or single .safetensors file (the bundled model)");
  model.value("--vae", options.vae, "PATH", "Another VAE");
  model.value("--tokenizer", options.tokenizer, "DIR", "Another tokenizer");
  model.value("--prediction-type", options.prediction_type, "epsilon|v_prediction|sample",
              "What the UNet predicts, for single files that do not say (the model's own)");
}

void take_model(const ModelOptions& options, ModelRequest& request) {
  take(options.model, request.model);
  take(options.vae, request.vae);
  take(options.tokenizer, request.tokenizer);
  if (options.prediction_type) check_prediction_type(*options.prediction_type);
  take(options.prediction_type, request.prediction_type);
  request.clip_vocabulary = clip_vocabulary();
  if (request.model.empty()) request.model = require_bundled_model();
}

}  // namespace molar::cli
