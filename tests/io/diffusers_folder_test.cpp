// Folders as diffusers and transformers wrote them over the years, and what is refused.
#include <ATen/ops/arange.h>
#include <sys/stat.h>

#include "io/checkpoint_fixtures.h"

namespace molar {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;

using DiffusersFolder = CheckpointTest;

TEST_F(DiffusersFolder, EveryFamilyOpensWithItsParts) {
  struct Wanted {
    const char* model;
    ModelFamily family;
    size_t num_components;
    const char* name;
  };
  constexpr Wanted kWanted[] = {{"sd15-tiny", ModelFamily::kSd1, 3, "SD 1.x"},
                                {"sd15-inpaint-tiny", ModelFamily::kSd1, 3, "SD 1.x"},
                                {"sd21-tiny", ModelFamily::kSd2, 3, "SD 2.x"},
                                {"sdxl-tiny", ModelFamily::kSdxl, 4, "SDXL"}};
  for (const auto& [model, family, num_components, name] : kWanted) {
    const fs::path path = golden(std::string("models/") + model);
    const Checkpoint checkpoint = open_checkpoint(path, {});
    EXPECT_EQ(checkpoint.family, family) << model;
    EXPECT_EQ(family_name(checkpoint.family), name);
    EXPECT_EQ(checkpoint.components.size(), num_components) << model;
    EXPECT_EQ(checkpoint.path, path);
    EXPECT_EQ(checkpoint.has("text_encoder_2"), family == ModelFamily::kSdxl);
    EXPECT_EQ(checkpoint.tokenizers.contains("tokenizer_2"), family == ModelFamily::kSdxl);
    EXPECT_EQ(checkpoint.tokenizers.at("tokenizer").folder, path / "tokenizer");
    EXPECT_TRUE(checkpoint.tokenizers.at("tokenizer").vocabulary.empty());
    EXPECT_EQ(checkpoint.scheduler_config, read_json(path / "scheduler/scheduler_config.json"));
    EXPECT_EQ(checkpoint.model_index, read_json(path / "model_index.json"));
    EXPECT_EQ(checkpoint.component("unet").config, read_json(path / "unet/config.json"));
    expect_same_tensors(checkpoint.component("unet").weights, read_tensors(path / kUnetWeights));
    expect_same_tensors(checkpoint.component("vae").weights, read_tensors(path / kVaeWeights));
    for (const auto& [key, component] : checkpoint.components) EXPECT_EQ(component.name, key);
    EXPECT_EQ(checkpoint.weight_files.front(), path / kUnetWeights);
    EXPECT_EQ(checkpoint.weight_files.back().extension(), ".json");
  }
}

TEST_F(DiffusersFolder, AbsentComponentIsNamed) {
  const Checkpoint checkpoint = open_checkpoint(golden("models/sd15-tiny"), {});
  expect_error<FileError>([&] { checkpoint.component("text_encoder_2"); }, {"'text_encoder_2'"});
}

TEST_F(DiffusersFolder, BothTransformersSpellingsGetThePrefix) {
  const fs::path model = copy_model("sd15-tiny");
  StateDict with_prefix, without_prefix;
  const Checkpoint original = open_checkpoint(model, {});
  for (const auto& [name, tensor] : original.component("text_encoder").weights) {
    ASSERT_TRUE(name.starts_with("text_model.")) << name;
    with_prefix.emplace(name, tensor.clone());
    without_prefix.emplace(name.substr(std::string_view("text_model.").size()), tensor.clone());
  }
  without_prefix.emplace("embeddings.position_ids", at::arange(77).unsqueeze(0));
  for (const StateDict& stored : {with_prefix, without_prefix}) {
    write_safetensors(model / kTextWeights, OnExist::kOverwrite, stored, {});
    expect_same_tensors(open_checkpoint(model, {}).component("text_encoder").weights, with_prefix);
  }
}

TEST_F(DiffusersFolder, Transformers4AndItsTokenizerFilesOpen) {
  const Checkpoint four = open_checkpoint(golden("models/sd15-tiny-transformers4"), {});
  EXPECT_TRUE(fs::exists(four.tokenizers.at("tokenizer").folder / "vocab.json"));
  EXPECT_FALSE(fs::exists(four.tokenizers.at("tokenizer").folder / "tokenizer.json"));
  for (const auto& [name, tensor] : four.component("text_encoder").weights)
    EXPECT_TRUE(name.starts_with("text_model.")) << name;
}

TEST_F(DiffusersFolder, ProjectionStaysOutsideTheTextModel) {
  const Checkpoint checkpoint = open_checkpoint(golden("models/sdxl-tiny"), {});
  const StateDict& weights = checkpoint.component("text_encoder_2").weights;
  EXPECT_TRUE(weights.contains("text_projection.weight"));
  EXPECT_FALSE(weights.contains("text_model.text_projection.weight"));
}

TEST_F(DiffusersFolder, VariantFilesAreFoundAndFullPrecisionWins) {
  const fs::path model = copy_model("sd15-tiny");
  const fs::path plain = model / kUnetWeights;
  const fs::path half = model / "unet/diffusion_pytorch_model.fp16.safetensors";
  const fs::path brain = model / "unet/diffusion_pytorch_model.bf16.safetensors";
  fs::copy(plain, half);
  fs::copy(plain, brain);
  for (const fs::path& wanted : {plain, half, brain}) {
    EXPECT_EQ(open_checkpoint(model, {}).weight_files.front(), wanted);
    fs::remove(wanted);
  }
  expect_refused(model, {"unet", "no weights", "diffusion_pytorch_model.safetensors", "none"});
}

/// Splits the UNet into two shards beside `index_name`; returns tensor -> shard.
Json write_shards(const fs::path& unet, const std::string& index_name) {
  const StateDict tensors = read_tensors(unet / "diffusion_pytorch_model.safetensors");
  std::map<std::string, StateDict> shards;
  Json weight_map = Json::object();
  size_t i = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::string shard = fmt::format("part-{}.safetensors", i++ % 2);
    shards[shard].emplace(name, tensor);
    weight_map[name] = shard;
  }
  for (const auto& [shard, content] : shards)
    write_safetensors(unet / shard, OnExist::kOverwrite, content, {});
  write_text(unet / index_name, Json{{"weight_map", weight_map}}.dump());
  return weight_map;
}

TEST_F(DiffusersFolder, ShardsOpenUnderEverySpellingOfTheIndex) {
  const fs::path model = copy_model("sd15-tiny");
  const StateDict wanted = read_tensors(golden(std::string("models/sd15-tiny/") + kUnetWeights));
  for (const char* const index : {"diffusion_pytorch_model.safetensors.index.json",
                                  "diffusion_pytorch_model.fp16.safetensors.index.json",
                                  "diffusion_pytorch_model.safetensors.index.fp16.json",
                                  "diffusion_pytorch_model.bf16.safetensors.index.json"}) {
    fs::copy(golden(std::string("models/sd15-tiny/") + kUnetWeights), model / kUnetWeights,
             fs::copy_options::overwrite_existing);
    write_shards(model / "unet", index);
    fs::remove(model / kUnetWeights);
    const Checkpoint checkpoint = open_checkpoint(model, {});
    expect_same_tensors(checkpoint.component("unet").weights, wanted);
    EXPECT_EQ(checkpoint.weight_files.at(1), model / "unet/part-1.safetensors") << index;
    fs::remove(model / "unet" / index);
  }
}

TEST_F(DiffusersFolder, BrokenShardIndexesAreRefused) {
  const fs::path model = copy_model("sd15-tiny");
  const fs::path index = model / "unet/diffusion_pytorch_model.safetensors.index.json";
  const Json good = write_shards(model / "unet", index.filename());
  fs::remove(model / kUnetWeights);
  const auto refused_as = [&](const Json& content, const std::vector<std::string>& parts) {
    write_text(index, content.dump());
    expect_refused(model, parts);
  };
  refused_as(Json::array(), {"index.json", "no 'weight_map'"});
  refused_as({{"weight_map", Json::object()}}, {"no 'weight_map'"});
  refused_as({{"weight_map", {{"conv_in.weight", 3}}}}, {"weight_map['conv_in.weight'] is number"});
  for (const std::string& shard :
       std::vector<std::string>{"../part-0.safetensors", "/etc/passwd", "a/../../b.safetensors", "",
                                "..", "part-0.safetensors\0x"s})
    refused_as({{"weight_map", {{"conv_in.weight", shard}}}},
               {"leaves the folder", "shard path '"});
  Json map = good;
  map["conv_in.weight"] = "part-9.safetensors";
  refused_as({{"weight_map", map}}, {"shard 'part-9.safetensors' is missing"});
  map = good;
  map["conv_in.weight"] =
      good["conv_in.weight"] == "part-0.safetensors" ? "part-1.safetensors" : "part-0.safetensors";
  refused_as({{"weight_map", map}}, {"tensor 'conv_in.weight' is in this shard"});
  map = good;
  map.erase("conv_in.weight");
  refused_as({{"weight_map", map}}, {"'conv_in.weight'", "puts it into none"});
  map = good;
  map["extra.weight"] = "part-0.safetensors";
  refused_as({{"weight_map", map}}, {"tensor 'extra.weight' is not in shard"});
}

TEST_F(DiffusersFolder, OptionalPartsMayBeMissing) {
  const fs::path model = copy_model("sd15-tiny");
  set_field(model / "model_index.json", "safety_checker",
            {"stable_diffusion", "StableDiffusionSafetyChecker"});
  set_field(model / "model_index.json", "feature_extractor",
            {"transformers", "CLIPImageProcessor"});
  set_field(model / "model_index.json", "image_encoder", nullptr);
  EXPECT_EQ(open_checkpoint(model, {}).components.size(), 3U);
}

TEST_F(DiffusersFolder, RequiredPartsAreNamedWhereMissing) {
  for (const std::string part :
       {"unet", "vae", "text_encoder", "text_encoder_2", "scheduler", "tokenizer", "tokenizer_2"}) {
    const fs::path model = copy_model("sdxl-tiny");
    const Json entry = read_json(model / "model_index.json")[part];
    set_field(model / "model_index.json", part, {nullptr, nullptr});
    // Without its first text encoder it is what the refiner looks like.
    if (part != "text_encoder") expect_refused(model, {"has no '" + part + "'"});
    set_field(model / "model_index.json", part, "present");
    expect_refused(model, {"'" + part + "' is \"present\"", "wanted [library, class]"});
    set_field(model / "model_index.json", part, entry);
    fs::remove_all(model / part);
    expect_refused(model, {"folder '" + part + "' is missing"});
    fs::remove_all(model);
  }
}

TEST_F(DiffusersFolder, MissingFilesOfAPartAreNamed) {
  for (const std::string file : {"unet/config.json", "vae/config.json", "text_encoder/config.json",
                                 "scheduler/scheduler_config.json"}) {
    const fs::path model = copy_model("sd15-tiny");
    fs::remove(model / file);
    expect_refused(model, {file});
    fs::remove_all(model);
  }
  const fs::path model = copy_model("sd15-tiny-transformers4");
  fs::remove(model / "tokenizer/merges.txt");
  expect_refused(model, {"tokenizer: no tokenizer", "vocab.json and merges.txt"});
}

TEST_F(DiffusersFolder, PicklesAreRefusedWithTheWayToConvertThem) {
  const fs::path model = copy_model("sd15-tiny");
  fs::rename(model / kVaeWeights, model / "vae/diffusion_pytorch_model.bin");
  expect_refused(model, {"vae", "diffusion_pytorch_model.bin", "python -c", "save_pretrained",
                         "safe_serialization=True", model.string() + "-safetensors"});
}

TEST_F(DiffusersFolder, OtherPipelinesAreRefusedByName) {
  const fs::path model = copy_model("sd15-tiny");
  for (const std::string pipeline :
       {"FluxPipeline", "StableDiffusion3Pipeline", "PixArtAlphaPipeline",
        "StableDiffusionInstructPix2PixPipeline", "StableDiffusionUpscalePipeline"}) {
    set_field(model / "model_index.json", "_class_name", pipeline);
    expect_refused(model, {"a " + pipeline, "wanted a Stable Diffusion 1.x, 2.x or XL"});
  }
  set_field(model / "model_index.json", "_class_name", nullptr);
  expect_refused(model, {"model_index.json", "_class_name"});
}

TEST_F(DiffusersFolder, TheRefinerIsRefusedByName) {
  const fs::path model = copy_model("sdxl-tiny");
  set_field(model / "model_index.json", "_class_name", "StableDiffusionXLImg2ImgPipeline");
  set_field(model / "model_index.json", "text_encoder", {nullptr, nullptr});
  expect_refused(model, {"SDXL refiner", "base"});
}

TEST_F(DiffusersFolder, UnknownPartsAreRefused) {
  const fs::path model = copy_model("sd15-tiny");
  set_field(model / "model_index.json", "motion_adapter", {"diffusers", "MotionAdapter"});
  expect_refused(model, {"'motion_adapter'", "not supported"});
}

TEST_F(DiffusersFolder, ClassesOfThePartsAreChecked) {
  const fs::path model = copy_model("sd15-tiny");
  set_field(model / "model_index.json", "vae", {"diffusers", "AutoencoderTiny"});
  expect_refused(model, {"'vae' is a AutoencoderTiny", "wanted AutoencoderKL"});
  set_field(model / "model_index.json", "vae", {"diffusers", "AutoencoderKL"});
  set_field(model / "vae/config.json", "_class_name", "VQModel");
  expect_refused(model, {"vae/config.json", "a VQModel", "wanted AutoencoderKL"});
  set_field(model / "vae/config.json", "_class_name", nullptr);
  EXPECT_NO_THROW(open_checkpoint(model, {}));
  set_field(model / "text_encoder/config.json", "architectures", Json::array({"T5EncoderModel"}));
  expect_refused(model, {"text_encoder/config.json", "a T5EncoderModel", "wanted CLIPTextModel"});
}

TEST_F(DiffusersFolder, TheIndexNamesTheSchedulersClassAsInDiffusers) {
  const fs::path model = copy_model("sd15-tiny");
  const fs::path file = model / "scheduler/scheduler_config.json";
  Json wanted = read_json(file);
  ASSERT_EQ(wanted["_class_name"], "PNDMScheduler");
  wanted["_class_name"] = "DDIMScheduler";
  set_field(model / "model_index.json", "scheduler", {"diffusers", "DDIMScheduler"});
  EXPECT_EQ(open_checkpoint(model, {}).scheduler_config, wanted);
  set_field(file, "_class_name", nullptr);
  EXPECT_EQ(open_checkpoint(model, {}).scheduler_config, wanted);
  set_field(file, "_class_name", 7);
  expect_refused(model, {"scheduler_config.json", "'_class_name' must be a string, is 7"});
}

TEST_F(DiffusersFolder, TokenizersOfOtherClassesAreRefused) {
  const fs::path model = copy_model("sdxl-tiny");
  set_field(model / "model_index.json", "tokenizer", {"transformers", "CLIPTokenizerFast"});
  EXPECT_NO_THROW(open_checkpoint(model, {}));
  set_field(model / "model_index.json", "tokenizer_2", {"transformers", "T5Tokenizer"});
  expect_refused(model, {"'tokenizer_2' is a T5Tokenizer", "wanted CLIPTokenizer"});
}

TEST_F(DiffusersFolder, PipesAreRefusedWithoutWaiting) {
  const fs::path model = copy_model("sd15-tiny"), pipe = folder() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_refused(pipe, {"pipe", "wanted a regular file"});
  expect_refused(model, {"pipe", "wanted a regular file"}, {.vae = pipe});
  fs::remove(model / kUnetWeights);
  fs::rename(pipe, model / kUnetWeights);
  expect_refused(model, {"diffusion_pytorch_model", "wanted a regular file"});
}

TEST_F(DiffusersFolder, PipelineAndUNetMustAgreeAboutSdxl) {
  const fs::path small = copy_model("sd15-tiny");
  set_field(small / "unet/config.json", "addition_embed_type", "text_time");
  expect_refused(small, {"addition_embed_type is text_time", "other than SDXL"});
  const fs::path large = copy_model("sdxl-tiny");
  set_field(large / "unet/config.json", "addition_embed_type", nullptr);
  expect_refused(large, {"addition_embed_type is not text_time", "of SDXL"});
}

TEST_F(DiffusersFolder, Sd2IsToldByHeadListOrLinearProjection) {
  const fs::path model = copy_model("sd15-tiny");
  set_field(model / "unet/config.json", "use_linear_projection", true);
  EXPECT_EQ(open_checkpoint(model, {}).family, ModelFamily::kSd2);
  set_field(model / "unet/config.json", "use_linear_projection", false);
  EXPECT_EQ(open_checkpoint(model, {}).family, ModelFamily::kSd1);
  set_field(model / "unet/config.json", "attention_head_dim", {2, 2});
  EXPECT_EQ(open_checkpoint(model, {}).family, ModelFamily::kSd2);
}

TEST_F(DiffusersFolder, FoldersThatAreNoModelSayWhatTheyAre) {
  expect_refused(folder(), {"no model_index.json", "diffusers folder"});
  write_text(folder() / "some.safetensors", "");
  expect_refused(folder(), {"no model_index.json", "some.safetensors"});
  expect_refused(golden("models/sd15-tiny/unet"), {"one component", "folder above"});
  fs::create_directories(folder() / "hub/snapshots/0a1b");
  expect_refused(folder() / "hub", {"download cache", "under its snapshots/"});
  write_text(folder() / "adapter_config.json", "{}");
  expect_refused(folder(), {"PEFT LoRA", "--lora", "-m"});
}

TEST_F(DiffusersFolder, OldVaeAttentionNamesAndFormsAreTranslated) {
  const fs::path model = copy_model("sd15-tiny");
  const StateDict wanted = read_tensors(model / kVaeWeights);
  constexpr std::pair<const char*, const char*> kOld[] = {
      {"to_q.", "query."}, {"to_k.", "key."}, {"to_v.", "value."}, {"to_out.0.", "proj_attn."}};
  for (const bool as_convolutions : {false, true}) {
    StateDict old;
    for (const auto& [stored_name, stored] : wanted) {
      std::string name = stored_name;
      Tensor tensor = stored.clone();
      for (const auto& [to, from] : kOld)
        if (const auto at = name.find(to); at != std::string::npos) {
          name.replace(at, std::string(to).size(), from);
          if (as_convolutions && tensor.dim() == 2) tensor = tensor.unsqueeze(-1).unsqueeze(-1);
        }
      old.emplace(name, tensor);
    }
    ASSERT_TRUE(old.contains("encoder.mid_block.attentions.0.proj_attn.weight"));
    write_safetensors(model / kVaeWeights, OnExist::kOverwrite, old, {});
    expect_same_tensors(open_checkpoint(model, {}).component("vae").weights, wanted);
  }
}

TEST_F(DiffusersFolder, WeightsOfOtherTypesAreRefused) {
  const fs::path model = copy_model("sd15-tiny");
  StateDict tensors;
  for (const auto& [name, tensor] : read_tensors(model / kUnetWeights))
    tensors.emplace(name, tensor.clone());
  tensors["conv_in.bias"] = tensors["conv_in.bias"].to(at::kDouble);
  write_safetensors(model / kUnetWeights, OnExist::kOverwrite, tensors, {});
  expect_refused(model, {"'conv_in.bias'", "float64", "wanted float32, float16 or bfloat16"});
}

}  // namespace
}  // namespace molar
