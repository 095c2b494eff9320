// Every way in which a single file can be something else, or broken.
#include <ATen/ops/zeros.h>

#include "io/checkpoint_fixtures.h"

namespace molar {
namespace {

using SingleFileErrors = CheckpointTest;

TEST_F(SingleFileErrors, OtherKindsOfFilesAreNamed) {
  struct Case {
    const char* tensor;
    std::vector<std::string> parts;
  };
  const Case cases[] = {
      {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", {"a LoRA", "--lora", "-m"}},
      {"unet.down_blocks.1.attentions.0.attn1.to_q.lora_A.weight", {"a LoRA"}},
      {"unet.down_blocks.1.attn1.processor.to_q_lora.down.weight", {"a LoRA"}},
      {"text_encoder.x.lora_linear_layer.down.weight", {"a LoRA"}},
      {"lora_unet_x.hada_w1_a", {"a LoRA"}},
      {"lora_unet_x.lokr_w1", {"a LoRA"}},
      {"input_k.weight", {"hypernetwork", "--hypernet"}},
      {"moe_lora_unet_x.softmoe.Phi_1.weight", {"MoLE gates", "--mole"}},
      {"control_model.time_embed.0.weight", {"ControlNet"}},
      {"down_blocks.0.motion_modules.0.x", {"AnimateDiff"}},
      {"double_blocks.0.img_attn.norm.key_norm.scale", {"Flux"}},
      {"model.diffusion_model.joint_blocks.0.x", {"Stable Diffusion 3"}},
      {"transformer.adaln_single.linear.weight", {"PixArt"}},
      {"model.diffusion_model.head.modulation", {"Wan"}},
      {"edm_mean", {"Playground 2.5"}},
      {"edm_vpred.sigma_max", {"CosXL"}},
      {"emb_params", {"textual inversion"}},
      {"down_blocks.0.resnets.0.conv1.weight", {"one component", "diffusers folder"}},
      {"text_model.embeddings.token_embedding.weight", {"one component"}},
      {"embeddings.token_embedding.weight", {"one component"}},
      {"encoder.conv_in.weight", {"a VAE", "--vae"}},
      {"decoder.conv_in.weight", {"a VAE", "--vae"}},
      {"anything.else", {"not a Stable Diffusion checkpoint", "model.diffusion_model"}},
      {"model_ema.diffusion_modelinput_blocks00weight", {"only EMA weights", "emaonly"}},
  };
  for (const auto& [tensor, parts] : cases) {
    SCOPED_TRACE(tensor);
    expect_refused(write_hollow("other.safetensors", {{tensor, {2, 2}}}), parts);
  }
}

TEST_F(SingleFileErrors, TheRefinerIsNamed) {
  expect_refused(
      write_hollow("refiner.safetensors", {{"conditioner.embedders.0.model.ln_final.weight", {2}},
                                           {"model.diffusion_model.label_emb.0.0.weight", {2, 2}}}),
      {"SDXL refiner", "base"});
}

TEST_F(SingleFileErrors, MissingTextEncodersAreNamed) {
  SingleFileContent alone("sd15");
  alone.erase_prefix("cond_stage_model.");
  expect_refused(write_tensors("a.safetensors", alone.tensors, alone.metadata),
                 {"no text encoder", "UNet and a VAE alone"});
  SingleFileContent first("sdxl");
  first.erase_prefix("conditioner.embedders.0.");
  expect_refused(write_tensors("b.safetensors", first.tensors, first.metadata),
                 {"without its first text encoder", "conditioner.embedders.0"});
  SingleFileContent second("sdxl");
  second.erase_prefix("conditioner.embedders.1.");
  expect_refused(write_tensors("c.safetensors", second.tensors, second.metadata),
                 {"without its second text encoder", "conditioner.embedders.1"});
  SingleFileContent sizes("sdxl");
  sizes.erase_prefix("model.diffusion_model.label_emb.");
  expect_refused(write_tensors("d.safetensors", sizes.tensors, sizes.metadata),
                 {"two text encoders", "label_emb"});
}

TEST_F(SingleFileErrors, UnknownTensorsAreNamedWithTheirNumber) {
  struct Case {
    const char *family, *prefix, *name;
  };
  constexpr Case kCases[] = {
      {"sd15", "", "stray.weight"},
      {"sd15", "model.diffusion_model.", "stray.weight"},
      {"sd15", "model.diffusion_model.", "output_blocks.0.2.conv.weight"},
      {"sd15", "first_stage_model.", "encoder.stray.weight"},
      {"sd21", "cond_stage_model.model.", "stray.weight"},
      {"sdxl", "", "conditioner.embedders.2.weight"},
  };
  for (const auto& [family, prefix, name] : kCases) {
    SingleFileContent content(family);
    content.tensors.emplace(std::string(prefix) + name, at::zeros({1}));
    expect_refused(write_tensors("x.safetensors", content.tensors, content.metadata),
                   {"1 tensor(s) with names that no", name});
  }
  SingleFileContent many("sd15");
  for (int i = 0; i < 7; ++i) many.tensors.emplace(fmt::format("stray.{}", i), at::zeros({1}));
  expect_refused(write_tensors("y.safetensors", many.tensors, many.metadata),
                 {"7 tensor(s)", "stray.0, stray.1, stray.2, stray.3, stray.4 and 2 more"});
}

TEST_F(SingleFileErrors, TensorsUnderTwoPrefixesAreRefused) {
  SingleFileContent content("sd15");
  content.tensors.emplace("vae.quant_conv.bias", at::zeros({8}));
  expect_refused(write_tensors("x.safetensors", content.tensors, content.metadata),
                 {"'vae.quant_conv.bias' is there twice"});
}

TEST_F(SingleFileErrors, HeadsThatDoNotShowAreAskedFor) {
  SingleFileContent unet("sd21");
  unet.forget("unet", "attention_head_dim");
  expect_refused(write_tensors("x.safetensors", unet.tensors, unet.metadata),
                 {"number of heads of a UNet block", "multiple of 64", "molar.config"});
  SingleFileContent text("sd15");
  text.forget("text_encoder", "num_attention_heads");
  expect_refused(write_tensors("y.safetensors", text.tensors, text.metadata),
                 {"number of heads of a text encoder", "multiple of 64"});
}

TEST_F(SingleFileErrors, BrokenConfigMetadataIsRefused) {
  const std::map<std::string, std::string> cases = {
      {"{", "molar.config"},
      {"[]", "wanted an object"},
      {R"({"controlnet": {}})", "'controlnet' is not"},
      {R"({"unet": 3})", "'unet' is not"}};
  for (const auto& [text, part] : cases) {
    SingleFileContent content("sd15");
    content.metadata["molar.config"] = text;
    expect_refused(write_tensors("x.safetensors", content.tensors, content.metadata), {part});
  }
}

TEST_F(SingleFileErrors, TensorsThatTheConfigNeedsAreNamedWhereMissing) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"model.diffusion_model.input_blocks.0.0.weight", "'conv_in.weight' is missing"},
      {"model.diffusion_model.input_blocks.1.0.in_layers.2.weight", "conv1.weight' is missing"},
      {"first_stage_model.encoder.conv_in.weight", "'encoder.conv_in.weight' is missing"},
      {"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
       "token_embedding.weight' is missing"}};
  for (const auto& [name, part] : cases) {
    SingleFileContent content("sd15");
    content.tensors.erase(name);
    expect_refused(write_tensors("x.safetensors", content.tensors, content.metadata), {part});
  }
}

TEST_F(SingleFileErrors, ShapesThatCannotBeAreRefused) {
  SingleFileContent content("sd15");
  content.tensors["model.diffusion_model.input_blocks.0.0.weight"] = at::zeros({4});
  expect_refused(write_tensors("a.safetensors", content.tensors, content.metadata),
                 {"'conv_in.weight' has shape [4]", "at least 2 axes"});
  SingleFileContent fused("sd21");
  const std::string layer = "cond_stage_model.model.transformer.resblocks.0.attn.";
  fused.tensors[layer + "in_proj_weight"] = at::zeros({64, 32});
  expect_refused(write_tensors("b.safetensors", fused.tensors, fused.metadata),
                 {"fused attention weight", "[64, 32]", "3n rows"});
  SingleFileContent projection("sdxl");
  projection.tensors["conditioner.embedders.1.model.text_projection"] = at::zeros({4});
  expect_refused(write_tensors("c.safetensors", projection.tensors, projection.metadata),
                 {"text_projection has shape [4]", "a matrix"});
  SingleFileContent sizes("sdxl");
  sizes.tensors["model.diffusion_model.label_emb.0.0.weight"] = at::zeros({64, 33});
  expect_refused(write_tensors("d.safetensors", sizes.tensors, sizes.metadata),
                 {"the size embedding takes 33 values"});
  SingleFileContent blocks("sd15");
  blocks.erase_prefix("model.diffusion_model.input_blocks.");
  expect_refused(write_tensors("e.safetensors", blocks.tensors, blocks.metadata),
                 {"a UNet without down blocks"});
}

}  // namespace
}  // namespace molar
