#include "molar/pipeline/generation_request.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <utility>

#include "molar/core/error.h"
#include "support/expect_error.h"

namespace molar {
namespace {

GenerationRequest full_request() {
  GenerationRequest request;
  request.prompt = "a \"dog\", (big:1.2)";
  request.negative_prompt = "";
  request.prompt_2 = "second";
  request.negative_prompt_2 = "not this";
  request.prompt_syntax = PromptSyntax::kPlain;
  request.sampler = "dpmpp_2m";
  request.num_steps = 7;
  request.guidance_scale = 3.25;
  request.guidance_rescale = 0.5;
  request.eta = 0.25;
  request.clip_skip = 2;
  request.width_px = 64;
  request.height_px = 72;
  request.seed = 18446744073709551615ULL;
  request.count = 3;
  request.init_image = "in.png";
  request.mask = "mask.png";
  request.strength = 0.75;
  request.vae_tiling = true;
  request.adapters.subject = LoraUse{"dog.safetensors", 0.5};
  request.adapters.style = LoraUse{"ink.safetensors", -1.5};
  request.adapters.loras = {{"a.safetensors", 1.0}, {"b.safetensors", 0.25}};
  request.adapters.merge = "concat";
  request.adapters.allow_partial = true;
  request.mole = {.folder = "mole",
                  .off = false,
                  .strengths = {{"face", 0.5}, {"hand", -1}},
                  .cap = 0.75,
                  .start = 0.25,
                  .end = 0.5,
                  .regions = {{"face", PixelBox{1, 2, 3, 4}},
                              {"hand", std::filesystem::path("hand.png")},
                              {"ear", FoundByGates{}}}};
  return request;
}

TEST(GenerationRequest, EveryFieldSurvivesJson) {
  const Json json = full_request().to_json();
  const Json again = GenerationRequest::from_json(Json::parse(json.dump())).to_json();
  EXPECT_EQ(json, again);
  EXPECT_EQ(json.size(), 31U) << "a field is missing from the table or from full_request()";
}

TEST(GenerationRequest, UnsetFieldsStayUnset) {
  const GenerationRequest request = GenerationRequest::from_json(GenerationRequest{}.to_json());
  EXPECT_FALSE(request.negative_prompt.has_value());
  EXPECT_FALSE(request.strength.has_value());
  EXPECT_FALSE(request.width_px.has_value());
  EXPECT_TRUE(request.adapters.empty());
}

TEST(GenerationRequest, RefusesUnknownKeysAndWrongTypes) {
  EXPECT_THROW(GenerationRequest::from_json(Json::parse(R"({"promt": "x"})")), InputError);
  EXPECT_THROW(GenerationRequest::from_json(Json::parse(R"({"steps": "many"})")), InputError);
  EXPECT_THROW(GenerationRequest::from_json(Json::parse(R"({"subject": {"file": "x"}})")),
               InputError);
  EXPECT_THROW(GenerationRequest::from_json(Json::parse("[]")), InputError);
}

TEST(GenerationRequest, RefusesValuesThatNoOptionCouldHave) {
  const std::pair<const char*, const char*> cases[] = {
      {"prompt", R"("a \u0000 dog")"},
      {"prompt", "null"},
      {"prompt-syntax", R"("compel")"},
      {"steps", "1.9"},
      {"steps", "18446744073709551615"},
      {"seed", "-1"},
      {"seed", "1e30"},
      {"width", "64.5"},
      {"vae-tiling", "1"},
      {"mask", R"("")"},
      {"subject", R"({"file": "a", "weight": 1, "colour": 2})"},
      {"subject", R"({"file": "a", "weight": "1"})"},
      {"lora", R"({"file": "a", "weight": 1})"},
      {"lora", R"([{"file": "a\u0000b", "weight": 1}])"},
      {"mole", R"("")"},
      {"no-mole", "1"},
      {"expert", R"({"name": "face", "weight": 1})"},
      {"expert", R"([{"name": "face"}])"},
      {"expert", R"([{"name": "face", "weight": 1, "colour": 2}])"},
      {"region", R"([{"expert": "face"}])"},
      {"region", R"([{"expert": "face", "auto": false}])"},
      {"region", R"([{"expert": "face", "box": [1, 2, 3]}])"},
      {"region", R"([{"expert": "face", "box": [1, 2, 3, 4], "mask": "x"}])"},
      {"region", R"(["face=auto"])"},
  };
  for (const auto& [key, value] : cases)
    test::expect_error<InputError>(
        [&] {
          GenerationRequest::from_json(Json::parse(fmt::format(R"({{"{}": {}}})", key, value)));
        },
        {"request", fmt::format("'{}'", key)});
}

TEST(GenerationRequest, JsonHoldsAbsolutePaths) {
  const Json json = full_request().to_json();
  const auto here = [](const char* name) {
    return (std::filesystem::current_path() / name).string();
  };
  EXPECT_EQ(json.at("init-image"), here("in.png"));
  EXPECT_EQ(json.at("mask"), here("mask.png"));
  EXPECT_EQ(json.at("subject").at("file"), here("dog.safetensors"));
  EXPECT_EQ(json.at("style").at("file"), here("ink.safetensors"));
  EXPECT_EQ(json.at("lora").at(1).at("file"), here("b.safetensors"));
  EXPECT_EQ(json.at("mole"), here("mole"));
  EXPECT_EQ(json.at("region").at(1).at("mask"), here("hand.png"));
}

TEST(GenerationRequest, AcceptsWhatItsOptionsAllow) { EXPECT_NO_THROW(full_request().validate()); }

TEST(GenerationRequest, NamesTheOptionThatIsOutOfRange) {
  struct Case {
    const char* option;
    std::function<void(GenerationRequest&)> spoil;
  };
  const Case cases[] = {
      {"--steps", [](GenerationRequest& r) { r.num_steps = 0; }},
      {"--steps", [](GenerationRequest& r) { r.num_steps = 1001; }},
      {"--cfg-scale", [](GenerationRequest& r) { r.guidance_scale = -1; }},
      {"--cfg-scale",
       [](GenerationRequest& r) { r.guidance_scale = std::numeric_limits<double>::quiet_NaN(); }},
      {"--guidance-rescale", [](GenerationRequest& r) { r.guidance_rescale = 1.5; }},
      {"--eta", [](GenerationRequest& r) { r.eta = 2; }},
      {"--count", [](GenerationRequest& r) { r.count = 0; }},
      {"--clip-skip", [](GenerationRequest& r) { r.clip_skip = -1; }},
      {"--width", [](GenerationRequest& r) { r.width_px = 60; }},
      {"--width", [](GenerationRequest& r) { r.width_px = 0; }},
      {"--height", [](GenerationRequest& r) { r.height_px = 100000; }},
      {"--strength", [](GenerationRequest& r) { r.strength = 0; }},
      {"--strength", [](GenerationRequest& r) { r.init_image.clear(), r.mask.clear(); }},
      {"--mask", [](GenerationRequest& r) { r.init_image.clear(), r.strength.reset(); }},
      {"--subject",
       [](GenerationRequest& r) {
         r.adapters.subject->weight = std::numeric_limits<double>::infinity();
       }},
      {"--style",
       [](GenerationRequest& r) {
         r.adapters.style->weight = std::numeric_limits<double>::infinity();
       }},
      {"--lora",
       [](GenerationRequest& r) {
         r.adapters.loras[0].weight = std::numeric_limits<double>::quiet_NaN();
       }},
      {"--lora", [](GenerationRequest& r) { r.adapters.loras[1].weight = -1e39; }},
      {"--expert", [](GenerationRequest& r) { r.mole.strengths[0].weight = 1e39; }},
      {"two strengths", [](GenerationRequest& r) { r.mole.strengths[1].name = "face"; }},
      {"--mole-cap", [](GenerationRequest& r) { r.mole.cap = 0; }},
      {"--mole-start", [](GenerationRequest& r) { r.mole.start = -0.1; }},
      {"--mole-end", [](GenerationRequest& r) { r.mole.end = 1.1; }},
      {"leave the experts no step", [](GenerationRequest& r) { r.mole.end = r.mole.start; }},
      {"--region face=1,2,0,4",
       [](GenerationRequest& r) { r.mole.regions[0].where = PixelBox{1, 2, 0, 4}; }},
      {"--region face=-1,2,3,4",
       [](GenerationRequest& r) { r.mole.regions[0].where = PixelBox{-1, 2, 3, 4}; }},
      {"--no-mole exclude", [](GenerationRequest& r) { r.mole.off = true; }},
      {"--mole-cap does nothing", [](GenerationRequest& r) { r.mole = {.off = true, .cap = 1.0}; }},
      {"dpmpp_2mm", [](GenerationRequest& r) { r.sampler = "dpmpp_2mm"; }},
  };
  for (const Case& c : cases) {
    GenerationRequest request = full_request();
    c.spoil(request);
    try {
      request.validate();
      ADD_FAILURE() << c.option << ": nothing was thrown";
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(c.option), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace molar
