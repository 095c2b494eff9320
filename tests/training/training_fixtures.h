/// The tiny models and pictures of tests/goldens, for the tests of training.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <string>
#include <vector>

#include "molar/core/cancellation.h"
#include "molar/core/progress.h"
#include "molar/io/checkpoint.h"
#include "molar/io/safetensors.h"
#include "molar/training/lora_trainer.h"
#include "support/expect_close.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace molar::test {

inline std::filesystem::path golden(const std::string& relative) {
  return std::filesystem::path(MOLAR_TEST_DATA_DIR) / relative;
}

inline Checkpoint open_tiny(const std::string& name) {
  return open_checkpoint(golden("models/" + name), {});
}

/// Attention of sd15-tiny from three pictures, quickly.
inline LoraTrainingOptions quick_options() {
  LoraTrainingOptions options;
  options.instance = {golden("training/instance"), "a photo of sks dog"};
  options.rank = 2;
  options.num_steps = 6;
  options.learning_rate = 1e-2;
  return options;
}

inline TrainingPictures pictures_of(const LoraTrainingOptions& options) {
  TrainingPictures pictures;
  pictures.instance = list_pictures(options.instance, option_names_of("instance"));
  if (options.classes) pictures.classes = list_pictures(*options.classes, option_names_of("class"));
  return pictures;
}

/// A trainer that nobody watches.
struct QuietTrainer {
  QuietTrainer(const LoraTrainingOptions& options, const Checkpoint& checkpoint)
      : trainer(options, checkpoint, pictures_of(options), progress, cancellation) {}
  NoProgress progress;
  CancellationToken cancellation;
  LoraTrainer trainer;
};

inline const LowRankFactors& factors_of(const LoraWeights& lora, const LayerName& name) {
  return std::get<LowRankFactors>(lora.layers.at(name).factors);
}

inline void expect_equal_factors(const LoraWeights& a, const LoraWeights& b) {
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (const auto& [name, layer] : a.layers) {
    EXPECT_TRUE(at::equal(factors_of(a, name).down, factors_of(b, name).down)) << name.module;
    EXPECT_TRUE(at::equal(factors_of(a, name).up, factors_of(b, name).up)) << name.module;
  }
}

}  // namespace molar::test
