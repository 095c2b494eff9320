// Single-file checkpoints: the tiny models against their diffusers folders, the public sizes
// against diffusers' names and shapes. What is refused: single_file_errors_test.cpp.
#include <ATen/ops/linspace.h>
#include <ATen/ops/zeros.h>

#include <set>

#include "io/checkpoint_fixtures.h"
#include "molar/io/hash.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

using SingleFile = CheckpointTest;
using SingleFilePrediction = CheckpointTest;
using FullSizeSingleFile = CheckpointTest;

constexpr const char* kUnet = "model.diffusion_model.";
constexpr const char* kFamilies[] = {"sd15", "sd21", "sdxl"};

TEST_F(SingleFile, EqualsTheDiffusersFolderTensorByTensor) {
  for (const std::string family : kFamilies) {
    const Checkpoint single = open_checkpoint(tiny_file(family), {});
    const Checkpoint wanted = open_checkpoint(golden("models/" + family + "-tiny"), {});
    EXPECT_EQ(single.family, wanted.family);
    ASSERT_EQ(single.components.size(), wanted.components.size());
    for (const auto& [name, component] : wanted.components) {
      SCOPED_TRACE(family + " " + name);
      expect_same_tensors(single.component(name).weights, component.weights);
    }
    EXPECT_EQ(single.weight_files, std::vector<fs::path>{tiny_file(family)});
  }
}

TEST_F(SingleFile, ConfigsSayWhatTheFoldersConfigsSay) {
  for (const std::string family : kFamilies) {
    const Checkpoint single = open_checkpoint(tiny_file(family), {});
    const Checkpoint wanted = open_checkpoint(golden("models/" + family + "-tiny"), {});
    for (const auto& [name, component] : single.components)
      for (const auto& [field, value] : component.config.items())
        EXPECT_EQ(value, wanted.component(name).config.at(field))
            << family << " " << name << " " << field;
    for (const auto& [field, value] : wanted.scheduler_config.items())
      if (field != "_diffusers_version") {
        EXPECT_EQ(single.scheduler_config.at(field), value) << family << " " << field;
      }
    for (const auto& [part, value] : single.model_index.items())
      EXPECT_EQ(value, wanted.model_index.at(part)) << family << " " << part;
  }
}

TEST_F(SingleFile, WeightsAreViewsOfTheFile) {
  const Checkpoint single = open_checkpoint(tiny_file("sdxl"), {});
  const StateDict& text = single.component("text_encoder_2").weights;
  const std::string layer = "text_model.encoder.layers.0.self_attn.";
  const Tensor &q = text.at(layer + "q_proj.weight"), &k = text.at(layer + "k_proj.weight");
  EXPECT_TRUE(q.is_alias_of(k)) << "both look into the fused tensor";
  EXPECT_EQ(static_cast<const char*>(q.data_ptr()) + q.nbytes(), k.data_ptr());
  EXPECT_FALSE(text.at("text_projection.weight").is_contiguous()) << "a transposed view";
}

TEST_F(SingleFile, TokenizersComeFromTheVocabularyWithTheFamilysPadding) {
  const fs::path vocabulary = folder() / "bpe.txt.gz";
  write_text(vocabulary, "x");
  const std::map<std::string, std::map<std::string, std::string>> kWanted = {
      {"sd15", {{"tokenizer", "<|endoftext|>"}}},
      {"sd21", {{"tokenizer", "!"}}},
      {"sdxl", {{"tokenizer", "<|endoftext|>"}, {"tokenizer_2", "!"}}}};
  for (const auto& [family, pads] : kWanted) {
    const auto found = open_checkpoint(tiny_file(family), {.clip_vocabulary = vocabulary});
    ASSERT_EQ(found.tokenizers.size(), pads.size());
    for (const auto& [name, pad] : pads) {
      EXPECT_EQ(found.tokenizers.at(name).pad_token, pad) << family;
      EXPECT_EQ(found.tokenizers.at(name).vocabulary, vocabulary);
      EXPECT_TRUE(found.tokenizers.at(name).folder.empty());
    }
  }
  EXPECT_TRUE(open_checkpoint(tiny_file("sd15"), {}).tokenizers.at("tokenizer").vocabulary.empty());
  expect_refused(tiny_file("sd15"), {"none.gz: no such file"},
                 {.clip_vocabulary = folder() / "none.gz"});
  const fs::path own = golden("models/sd15-tiny/tokenizer");
  EXPECT_EQ(
      open_checkpoint(tiny_file("sd15"), {.tokenizer = own}).tokenizers.at("tokenizer").folder,
      own);
}

TEST_F(SingleFile, TextModelPrefixMayBeMissing) {
  SingleFileContent content("sd15");
  content.rename_prefix("cond_stage_model.transformer.text_model.",
                        "cond_stage_model.transformer.");
  const auto file = write_tensors("old.safetensors", content.tensors, content.metadata);
  expect_same_tensors(open_checkpoint(file, {}).component("text_encoder").weights,
                      open_checkpoint(tiny_file("sd15"), {}).component("text_encoder").weights);
}

TEST_F(SingleFile, Sd2InSgmLayoutOpens) {
  SingleFileContent content("sd21");
  content.rename_prefix("cond_stage_model.model.", "conditioner.embedders.0.model.");
  const auto file = write_tensors("sgm.safetensors", content.tensors, content.metadata);
  const Checkpoint found = open_checkpoint(file, {});
  EXPECT_EQ(found.family, ModelFamily::kSd2);
  expect_same_tensors(found.component("text_encoder").weights,
                      open_checkpoint(tiny_file("sd21"), {}).component("text_encoder").weights);
}

TEST_F(SingleFile, Sd2WithoutItsUnusedLastLayerOpens) {
  SingleFileContent content("sd21");
  const auto wanted = open_checkpoint(tiny_file("sd21"), {}).component("text_encoder").config;
  content.erase_prefix(fmt::format("cond_stage_model.model.transformer.resblocks.{}.",
                                   wanted["num_hidden_layers"].get<int>()));
  content.tensors.erase("cond_stage_model.model.text_projection");
  const auto file = write_tensors("used.safetensors", content.tensors, content.metadata);
  EXPECT_EQ(open_checkpoint(file, {}).component("text_encoder").config["num_hidden_layers"],
            wanted["num_hidden_layers"]);
}

TEST_F(SingleFile, TrainingStateIsLeftOut) {
  SingleFileContent content("sd15");
  const size_t before = open_checkpoint(tiny_file("sd15"), {}).component("unet").weights.size();
  for (const std::string name :
       {"model_ema.diffusion_modelinput_blocks00weight", "model_ema.num_updates",
        "first_stage_model.loss.discriminator.main.0.weight", "sqrt_recipm1_alphas_cumprod",
        "cond_stage_model.logit_scale", "global_step", "posterior_mean_coef2"})
    content.tensors.emplace(name, at::zeros({1}));
  const auto file = write_tensors("trained.safetensors", content.tensors, content.metadata);
  EXPECT_EQ(open_checkpoint(file, {}).component("unet").weights.size(), before);
}

TEST_F(SingleFile, NineInputChannelsMeanInpainting) {
  for (const std::string family : kFamilies) {
    SingleFileContent content(family);
    const std::string conv_in = std::string(kUnet) + "input_blocks.0.0.weight";
    const int64_t channels = content.tensors.at(conv_in).size(0);
    content.tensors[conv_in] = at::zeros({channels, 9, 3, 3}, at::kHalf);
    content.forget("unet", "sample_size");
    content.metadata.erase("modelspec.prediction_type");
    content.forget("scheduler", "prediction_type");
    const auto file = write_tensors(family + ".safetensors", content.tensors, content.metadata);
    const Checkpoint found = open_checkpoint(file, {});
    EXPECT_EQ(found.component("unet").config["in_channels"], 9);
    EXPECT_EQ(found.component("unet").config["sample_size"], family == "sdxl" ? 128 : 64);
    EXPECT_EQ(found.model_index["_class_name"], family == "sdxl"
                                                    ? "StableDiffusionXLInpaintPipeline"
                                                    : "StableDiffusionInpaintPipeline");
    EXPECT_EQ(found.scheduler_config["prediction_type"], "epsilon") << family;
  }
}

TEST_F(SingleFile, VaeMayBeMissingWhereAnotherIsGiven) {
  SingleFileContent content("sd15");
  content.erase_prefix("first_stage_model.");
  const auto file = write_tensors("no-vae.safetensors", content.tensors, content.metadata);
  expect_refused(file, {"no VAE", "first_stage_model", "--vae"});
  const auto found = open_checkpoint(file, {.vae = golden("models/sd15-tiny")});
  EXPECT_EQ(found.component("vae").source, golden("models/sd15-tiny/vae").string());
  EXPECT_EQ(found.weight_files.size(), 3U) << "file, VAE, the VAE's config";
}

TEST_F(SingleFilePrediction, MarkersMetadataAndOptionInTheirOrder) {
  SingleFileContent content("sdxl");
  content.forget("scheduler", "prediction_type");
  content.forget("scheduler", "rescale_betas_zero_snr");
  const auto opened = [&](const CheckpointOptions& options) {
    const auto file = write_tensors("p.safetensors", content.tensors, content.metadata);
    return open_checkpoint(file, options).scheduler_config;
  };
  EXPECT_EQ(opened({})["prediction_type"], "epsilon");
  EXPECT_FALSE(opened({}).contains("rescale_betas_zero_snr"));
  content.metadata["modelspec.prediction_type"] = "v";
  EXPECT_EQ(opened({})["prediction_type"], "v_prediction");
  content.metadata["modelspec.prediction_type"] = "epsilon";
  content.tensors.emplace("v_pred", at::zeros({0}));
  content.tensors.emplace("ztsnr", at::zeros({0}));
  {
    const CapturedLog log;
    EXPECT_EQ(opened({})["prediction_type"], "v_prediction");
    EXPECT_NE(log.text().find("warning: "), std::string::npos);
    EXPECT_NE(log.text().find("marker v_pred"), std::string::npos);
  }
  EXPECT_EQ(opened({})["rescale_betas_zero_snr"], true);
  EXPECT_EQ(opened({.prediction_type = "epsilon"})["prediction_type"], "epsilon");
}

TEST_F(SingleFilePrediction, UnknownMetadataIsAnErrorUnlessTheOptionDecides) {
  SingleFileContent content("sd15");
  content.forget("scheduler", "prediction_type");
  content.metadata["modelspec.prediction_type"] = "flow";
  const auto file = write_tensors("p.safetensors", content.tensors, content.metadata);
  expect_refused(file, {"modelspec.prediction_type is 'flow'", "--prediction-type"});
  EXPECT_NO_THROW(open_checkpoint(file, {.prediction_type = "epsilon"}));
}

TEST_F(SingleFilePrediction, SilentSd2FilesAreTakenForVPredictionWithAWarning) {
  SingleFileContent content("sd21");
  content.forget("scheduler", "prediction_type");
  const auto file = write_tensors("p.safetensors", content.tensors, content.metadata);
  const CapturedLog log;
  EXPECT_EQ(open_checkpoint(file, {}).scheduler_config["prediction_type"], "v_prediction");
  EXPECT_NE(log.text().find("warning: "), std::string::npos);
  EXPECT_NE(log.text().find("--prediction-type epsilon"), std::string::npos);
  const CapturedLog quiet;
  open_checkpoint(file, {.prediction_type = "v_prediction"});
  EXPECT_EQ(quiet.text(), "");
}

/// The golden's tree of names ends in lists: the shapes.
void collect_shapes(const Json& node, const std::string& prefix, Shapes& out) {
  for (const auto& [name, child] : node.items()) {
    const std::string path = prefix.empty() ? name : prefix + "." + name;
    if (child.is_array())
      out[path] = child.get<std::vector<int64_t>>();
    else
      collect_shapes(child, path, out);
  }
}

Shapes full_shapes(const std::string& family) {
  Shapes shapes;
  collect_shapes(read_json(golden("single_file/full_" + family + ".json"))["tensors"], "", shapes);
  return shapes;
}

/// Bytes of `file`'s mappings that are in memory.
int64_t resident_bytes(const fs::path& file) {
  std::ifstream maps("/proc/self/smaps");
  int64_t bytes = 0;
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) inside = line.find(file.string()) != std::string::npos;
    if (inside && line.starts_with("Rss:")) bytes += 1024 * std::stoll(line.substr(4));
  }
  return bytes;
}

TEST_F(FullSizeSingleFile, NamesAndShapesAreDiffusers) {
  for (const std::string family : kFamilies) {
    const Json wanted = read_json(golden("single_file/full_" + family + ".json"));
    const auto file = write_hollow(family + ".safetensors", full_shapes(family));
    const Checkpoint found = open_checkpoint(file, {.prediction_type = "epsilon"});
    ASSERT_EQ(found.components.size(), wanted["diffusers"].size()) << family;
    for (const auto& [name, digest] : wanted["diffusers"].items()) {
      const StateDict& weights = found.component(name).weights;
      EXPECT_EQ(weights.size(), digest["count"].get<size_t>()) << family << " " << name;
      std::string lines;
      for (const auto& [tensor, value] : weights)
        lines += fmt::format("{} {}\n", tensor, shape_string(value.sizes()));
      EXPECT_EQ(sha256_hex(lines), digest["sha256"]) << family << " " << name;
    }
    fs::remove(file);
  }
}

TEST_F(FullSizeSingleFile, ConfigsAreInferredAsPublished) {
  // A config that was never saved names no architecture; nothing reads SD's projection_dim.
  const std::set<std::string> kNotCompared = {"architectures", "projection_dim"};
  for (const std::string family : kFamilies) {
    const Json wanted = read_json(golden("single_file/full_" + family + ".json"))["config"];
    const auto file = write_hollow(family + ".safetensors", full_shapes(family));
    const Checkpoint found = open_checkpoint(file, {.prediction_type = "epsilon"});
    for (const auto& [name, component] : found.components)
      for (const auto& [field, value] : component.config.items())
        if (wanted[name].contains(field) && !kNotCompared.contains(field)) {
          EXPECT_EQ(value, wanted[name][field]) << family << " " << name << " " << field;
        }
    fs::remove(file);
  }
}

TEST_F(FullSizeSingleFile, OpeningReadsNoWeights) {
  const auto file = write_hollow("xl.safetensors", full_shapes("sdxl"));
  ASSERT_GT(fs::file_size(file), 6'000'000'000U);
  const Checkpoint found = open_checkpoint(file, {});
  EXPECT_EQ(found.family, ModelFamily::kSdxl);
  // The header is 0.4 MB; the system maps a few neighbouring pages with each that is read.
  EXPECT_GT(resident_bytes(file), 0) << "the mapping was not found";
  EXPECT_LT(resident_bytes(file), 2'000'000);
}

TEST_F(FullSizeSingleFile, Sd2TellsItsPredictionByOneBias) {
  Shapes shapes = full_shapes("sd21");
  const std::string bias =
      std::string(kUnet) + "output_blocks.11.1.transformer_blocks.0.norm1.bias";
  const auto file = write_hollow("sd2.safetensors", shapes);
  {
    const CapturedLog log;
    EXPECT_EQ(open_checkpoint(file, {}).scheduler_config["prediction_type"], "v_prediction");
    EXPECT_NE(log.text().find("warning: "), std::string::npos) << "zeros were never trained";
  }
  const auto opened = SafetensorsFile::open(file);
  const auto& entry = opened.entries().at(bias);
  const auto data_start = fs::file_size(file) - opened.data_bytes().size();
  for (const auto& [spread, wanted] : {std::pair{0.3, "v_prediction"}, {0.03, "epsilon"}}) {
    // Evenly spread over [-a, a] the deviation is a / sqrt(3).
    const auto values = at::linspace(-spread, spread, 320, at::kFloat).to(at::kHalf);
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(data_start + entry.begin_bytes));
    stream.write(static_cast<const char*>(values.data_ptr()),
                 static_cast<std::streamsize>(values.nbytes()));
    stream.close();
    const CapturedLog log;
    EXPECT_EQ(open_checkpoint(file, {}).scheduler_config["prediction_type"], wanted);
    EXPECT_EQ(log.text().find("warning: "), std::string::npos);
  }
}

TEST_F(FullSizeSingleFile, PrunedUNetsAreRefused) {
  Shapes shapes = full_shapes("sdxl");
  std::erase_if(shapes, [](const auto& entry) {
    return entry.first.find("input_blocks.8.1.transformer_blocks.9.") != std::string::npos;
  });
  expect_refused(write_hollow("pruned.safetensors", shapes), {"pruned UNet", "10", "9"});
  shapes = full_shapes("sdxl");
  std::erase_if(shapes, [](const auto& entry) {
    return entry.first.find("middle_block.1.transformer_blocks.9.") != std::string::npos;
  });
  expect_refused(write_hollow("middle.safetensors", shapes), {"middle block's depth is 9"});
  shapes = full_shapes("sdxl");
  for (const char* const block : {"output_blocks.0.1.", "output_blocks.1.1.", "output_blocks.2.1."})
    std::erase_if(shapes, [&](const auto& entry) {
      return entry.first.find(fmt::format("{}transformer_blocks.9.", block)) != std::string::npos;
    });
  expect_refused(write_hollow("up.safetensors", shapes), {"up_blocks.0.attentions' depth is 9"});
  shapes = full_shapes("sd15");
  std::erase_if(shapes, [](const auto& entry) {
    return entry.first.find(".output_blocks.9.") != std::string::npos ||
           entry.first.find(".output_blocks.10.") != std::string::npos ||
           entry.first.find(".output_blocks.11.") != std::string::npos;
  });
  expect_refused(write_hollow("short.safetensors", shapes), {"number of up blocks is 3"});
}

TEST_F(FullSizeSingleFile, OtherNumberTypesAreRefused) {
  const auto file = write_hollow("f8.safetensors", full_shapes("sd15"), {}, "F8_E4M3");
  expect_refused(file, {"Float8", "wanted float32, float16 or bfloat16"});
}

}  // namespace
}  // namespace molar
