// What open_checkpoint does for both forms; see diffusers_folder_test.cpp, single_file_test.cpp.
#include "molar/io/checkpoint.h"

#include <ATen/ops/zeros.h>

#include <algorithm>

#include "io/checkpoint_fixtures.h"

namespace molar {
namespace {

namespace fs = std::filesystem;

using ReplacedVae = CheckpointTest;
using ReplacedTokenizer = CheckpointTest;
using OpenCheckpoint = CheckpointTest;

TEST_F(OpenCheckpoint, InputChannelsOfOtherPipelinesAreNamed) {
  const fs::path model = copy_model("sd15-tiny");
  constexpr std::pair<int, const char*> kCases[] = {
      {5, "depth"}, {7, "upscaler"}, {8, "InstructPix2Pix"}, {6, "wanted 4, or 9"}};
  for (const auto& [channels, part] : kCases) {
    set_field(model / "unet/config.json", "in_channels", channels);
    expect_refused(model, {fmt::format("{} channels", channels), part});
  }
  set_field(model / "unet/config.json", "in_channels", 9);
  EXPECT_NO_THROW(open_checkpoint(model, {}));
}

TEST_F(OpenCheckpoint, LatentChannelsOfTheVaeMustFit) {
  const fs::path model = copy_model("sd15-tiny");
  set_field(model / "vae/config.json", "latent_channels", 16);
  expect_refused(model, {"16 latent channels", "wants 4"});
}

TEST_F(OpenCheckpoint, PathsThatDoNotExistAreNamed) {
  const fs::path model = golden("models/sd15-tiny");
  expect_refused(folder() / "nothing", {"nothing: no such file or folder"});
  expect_refused(model, {"no-vae: no such"}, {.vae = folder() / "no-vae"});
  expect_refused(model, {"no-tok: no such"}, {.tokenizer = folder() / "no-tok"});
}

TEST_F(OpenCheckpoint, PickledAndGgufFilesAreRefusedByContentAndByName) {
  const std::string pickle =
      "\x80\x02\x8a\nl\xfc\x9c"
      "F\xf9 ";
  for (const std::string name : {"a.ckpt", "b.safetensors", "c"}) {
    write_text(folder() / name, pickle);
    expect_refused(folder() / name, {"a pickle", "from_single_file", "safe_serialization=True"});
  }
  write_text(folder() / "zip.safetensors", std::string("PK\x03\x04\0\0\x08\x08\0\0", 10));
  expect_refused(folder() / "zip.safetensors", {"a pickle"});
  for (const std::string name : {"d.bin", "e.pt", "f.pth"}) {
    write_text(folder() / name, "whatever");
    expect_refused(folder() / name, {"a pickle"});
  }
  write_text(folder() / "g.gguf", "GGUF\3\0\0\0");
  expect_refused(folder() / "g.gguf", {"GGUF", "wanted .safetensors"});
}

TEST_F(OpenCheckpoint, HeaderLengthsThatLookLikeAPickleAreFine) {
  // 0x280 and 0x380 are "\x80\x02" and "\x80\x03": header lengths that do occur.
  for (const size_t length : {0x280, 0x380, 0x480}) {
    std::string text = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    text.append(length - text.size(), ' ');
    std::string file(8, '\0');
    file[0] = static_cast<char>(length & 0xff);
    file[1] = static_cast<char>(length >> 8);
    write_text(folder() / "x.safetensors", file + text + std::string(4, '\0'));
    expect_refused(folder() / "x.safetensors", {"not a Stable Diffusion checkpoint"});
  }
}

TEST_F(OpenCheckpoint, PredictionTypeOptionReplacesTheSchedulers) {
  const fs::path model = golden("models/sd15-tiny");
  EXPECT_EQ(open_checkpoint(model, {}).scheduler_config["prediction_type"], "epsilon");
  for (const std::string type : {"epsilon", "v_prediction", "sample"})
    EXPECT_EQ(open_checkpoint(model, {.prediction_type = type}).scheduler_config["prediction_type"],
              type);
  expect_error<ConfigError>([&] { open_checkpoint(model, {.prediction_type = "v"}); },
                            {"'v'", "v_prediction"});
}

TEST_F(ReplacedVae, FolderOfAModelOrItsVaeMayBeGiven) {
  const fs::path model = copy_model("sd15-tiny");
  fs::remove_all(model / "vae");
  const fs::path other = golden("models/sdxl-tiny");
  Component wanted = open_checkpoint(other, {}).component("vae");
  for (const char* statistic : {"latents_mean", "latents_std"}) {
    ASSERT_TRUE(wanted.config.contains(statistic));
    wanted.config.erase(statistic);  // diffusers' SD 1.x does not look at them
  }
  for (const fs::path& vae : {other, other / "vae"}) {
    const Checkpoint checkpoint = open_checkpoint(model, {.vae = vae});
    EXPECT_EQ(checkpoint.component("vae").config, wanted.config);
    expect_same_tensors(checkpoint.component("vae").weights, wanted.weights);
    const auto& files = checkpoint.weight_files;
    EXPECT_EQ(files.at(0), model / kUnetWeights);
    EXPECT_EQ(files.at(2), other / kVaeWeights) << "weights stand before configs";
    EXPECT_EQ(std::ranges::count(files, other / "vae/config.json"), 1);
  }
  expect_refused(model, {"unet/config.json", "wanted AutoencoderKL"},
                 {.vae = golden("models/sd15-tiny/unet")});
}

TEST_F(ReplacedVae, SingleFilesUnderAnyNamesMayBeGiven) {
  const fs::path model = golden("models/sd15-tiny");
  const fs::path whole = golden("single_file/sd15-tiny.safetensors");
  const SafetensorsFile file = SafetensorsFile::open(whole);
  StateDict ldm, prefixed;
  for (const auto& [name, tensor] : file.state_dict())
    if (name.starts_with("first_stage_model.")) {
      ldm.emplace(name.substr(std::string_view("first_stage_model.").size()), tensor);
      prefixed.emplace("vae." + name.substr(std::string_view("first_stage_model.").size()), tensor);
    }
  ldm.emplace("loss.logvar", at::zeros({1}));
  const fs::path diffusers = folder() / "diffusers.safetensors";
  fs::copy(model / kVaeWeights, diffusers);
  const StateDict wanted = read_tensors(model / kVaeWeights);
  for (const fs::path& vae : {whole, diffusers, write_tensors("ldm.safetensors", ldm, {}),
                              write_tensors("prefixed.safetensors", prefixed, {})}) {
    const Checkpoint checkpoint = open_checkpoint(model, {.vae = vae});
    const Component& found = checkpoint.component("vae");
    expect_same_tensors(found.weights, wanted);
    EXPECT_EQ(found.config["block_out_channels"], Json({8, 16, 16, 16})) << vae;
    EXPECT_EQ(found.config["layers_per_block"], 1);
    EXPECT_EQ(found.config["latent_channels"], 4);
    EXPECT_EQ(found.config["scaling_factor"], 0.18215);
    EXPECT_EQ(found.config["norm_num_groups"], vae == whole ? 4 : 32) << "molar.config or default";
    EXPECT_EQ(std::ranges::count(checkpoint.weight_files, vae), 1);
  }
  EXPECT_EQ(open_checkpoint(golden("models/sdxl-tiny"), {.vae = diffusers})
                .component("vae")
                .config["scaling_factor"],
            0.13025)
      << "the latents are the model's";
}

TEST_F(ReplacedVae, FilesWithoutAVaeAreRefused) {
  const fs::path model = golden("models/sd15-tiny");
  expect_refused(model, {"no VAE in this file"}, {.vae = model / kTextWeights});
  StateDict tensors;
  for (const auto& [name, tensor] : read_tensors(model / kVaeWeights))
    tensors.emplace(name, tensor);
  tensors.emplace("stray.weight", at::zeros({1}));
  expect_refused(model, {"1 tensor(s)", "stray.weight"},
                 {.vae = write_tensors("stray.safetensors", tensors, {})});
  write_text(folder() / "vae.pt", "x");
  expect_refused(model, {"a pickle"}, {.vae = folder() / "vae.pt"});
}

TEST_F(ReplacedTokenizer, OneFolderServesBothOrEachHasItsOwn) {
  const fs::path small = golden("models/sd15-tiny"), large = golden("models/sdxl-tiny");
  const auto shared = open_checkpoint(large, {.tokenizer = small / "tokenizer"}).tokenizers;
  EXPECT_EQ(shared.at("tokenizer").folder, small / "tokenizer");
  EXPECT_EQ(shared.at("tokenizer").pad_token, "");
  EXPECT_EQ(shared.at("tokenizer_2").folder, small / "tokenizer");
  EXPECT_EQ(shared.at("tokenizer_2").pad_token, "!");
  const fs::path copy = copy_model("sdxl-tiny");
  fs::remove_all(copy / "tokenizer");
  fs::remove_all(copy / "tokenizer_2");
  const auto own = open_checkpoint(copy, {.tokenizer = large}).tokenizers;
  EXPECT_EQ(own.at("tokenizer").folder, large / "tokenizer");
  EXPECT_EQ(own.at("tokenizer_2").folder, large / "tokenizer_2");
  EXPECT_EQ(own.at("tokenizer_2").pad_token, "");
  EXPECT_FALSE(open_checkpoint(small, {.tokenizer = large}).tokenizers.contains("tokenizer_2"));
  expect_refused(small, {"no tokenizer here", "vocab.json and merges.txt"},
                 {.tokenizer = small / "unet"});
}

}  // namespace
}  // namespace molar
