// MoLE's pictures against diffusers with hooks: scripts/reference/make_mole_goldens.py.
#include "molar/pipeline/stable_diffusion_pipeline.h"
#include "pipeline_goldens.h"

namespace molar {
namespace {

struct MoleCase {
  std::filesystem::path model;
  GenerationRequest request;
  StateDict golden;
};

Json mole_manifest() { return read_json_file(test::goldens() / "mole/MANIFEST.json"); }

std::vector<std::string> mole_case_names() {
  const Json manifest = mole_manifest();
  std::vector<std::string> names;
  for (const Json& one : manifest.at("cases")) names.push_back(one.at("name"));
  return names;
}

MoleCase mole_case(const std::string& name) {
  const Json manifest = mole_manifest();
  for (const Json& one : manifest.at("cases")) {
    if (one.at("name") != name) continue;
    MoleCase found{
        test::goldens() / one.at("model").get<std::string>(),
        GenerationRequest::from_json(one.at("request")),
        SafetensorsFile::open(test::goldens() / "mole" / (name + ".safetensors")).state_dict()};
    MoleRequest& mole = found.request.mole;
    mole.folder = test::goldens() / mole.folder;
    for (ExpertRegion& region : mole.regions)
      if (auto* mask = std::get_if<std::filesystem::path>(&region.where))
        *mask = test::goldens() / *mask;
    for (std::optional<LoraUse>* role :
         {&found.request.adapters.subject, &found.request.adapters.style})
      if (*role) (*role)->file = test::goldens() / (*role)->file;
    return found;
  }
  throw std::runtime_error("no golden of MoLE is called " + name);
}

Tensor draw_alone(const MoleCase& one, const GenerationRequest& request) {
  NoProgress progress;
  const CancellationToken cancellation;
  Tensor pixels;
  StableDiffusionPipeline::open({.model = one.model, .compute = test::kFloat32})
      .generate(request, {progress, cancellation},
                [&](Picture picture) { pixels = std::move(picture.pixels); });
  return pixels;
}

// One pipeline keeps its UNet; experts come, change and go, beside LoRAs and without.
TEST(MolePipeline, SideBySideEveryPictureHasTheBitsThatItHasAlone) {
  const MoleCase one = mole_case("sd15_wide_with_a_lora_pair");
  const auto variant = [&](auto change) {
    MoleRequest mole{.folder = one.request.mole.folder};
    change(mole);
    return mole;
  };
  const std::vector<MoleRequest> variants = {
      variant([](MoleRequest&) {}),
      variant([](MoleRequest& mole) { mole.strengths = {{"face", 0.5}}; }),
      {.off = true},
      variant([](MoleRequest& mole) { mole.regions = {{"hand", PixelBox{8, 8, 16, 16}}}; }),
      variant([](MoleRequest& mole) { mole.regions = {{"face", FoundByGates{}}}; }),
      variant([](MoleRequest& mole) { mole.cap = 0.2; }),
      variant([](MoleRequest& mole) { mole.start = 0.5; }),
      variant([](MoleRequest& mole) { mole.end = 0.5; })};
  auto pipeline = StableDiffusionPipeline::open({.model = one.model, .compute = test::kFloat32},
                                                {.keep_loaded = true, .cache_bytes = 1 << 20});
  NoProgress progress;
  const CancellationToken cancellation;
  for (const MoleRequest& mole : variants)
    for (const bool with_loras : {true, false}) {
      std::vector<GenerationRequest> requests(3, one.request);
      for (size_t i = 0; i < requests.size(); ++i) {
        requests[i].seed = i;
        requests[i].mole = mole;
        if (!with_loras) requests[i].adapters = {};
      }
      std::vector<Tensor> together(requests.size());
      pipeline.generate_together(requests, {progress, cancellation},
                                 [&](size_t i, const Picture& picture) {
                                   together[i] = picture.pixels;
                                   EXPECT_EQ(picture.record.experts.empty(), mole.off);
                                 });
      for (size_t i = 0; i < requests.size(); ++i)
        EXPECT_TRUE(together[i].equal(draw_alone(one, requests[i])))
            << requests[i].to_json() << ", picture " << i;
    }
}

class MoleGolden : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Case, MoleGolden, testing::ValuesIn(mole_case_names()),
                         [](const auto& row) { return row.param; });

TEST_P(MoleGolden, DrawsThePictureOfTheHooksAndReportsTheirGates) {
  const MoleCase one = mole_case(GetParam());
  NoProgress progress;
  const CancellationToken cancellation;
  std::vector<Picture> pictures;
  StableDiffusionPipeline::open({.model = one.model, .compute = test::kFloat32})
      .generate(one.request,
                {.progress = progress, .cancellation = cancellation, .record_gates = true},
                [&](Picture picture) { pictures.push_back(std::move(picture)); });
  ASSERT_EQ(pictures.size(), 1U);
  EXPECT_TRUE(test::is_same_picture(pictures[0].pixels, one.golden.at("picture")));

  ASSERT_TRUE(pictures[0].gates.has_value());
  const GateTrace& trace = *pictures[0].gates;
  EXPECT_EQ(trace.experts, (std::vector<std::string>{"face", "hand"}));
  const Tensor& wanted = one.golden.at("global");  // [S, E]
  ASSERT_EQ(static_cast<int64_t>(trace.steps.size()), wanted.size(0));
  const GateStep* last = nullptr;
  for (int64_t i = 0; i < wanted.size(0); ++i) {
    const GateStep& step = trace.steps[static_cast<size_t>(i)];
    if (std::isnan(wanted[i][0].item<double>())) {
      EXPECT_TRUE(step.global.empty()) << "evaluation " << i << " is without experts";
      continue;
    }
    ASSERT_EQ(step.global.size(), 2U) << "evaluation " << i;
    EXPECT_NEAR(step.global[0], wanted[i][0].item<double>(), 1e-4);
    EXPECT_NEAR(step.global[1], wanted[i][1].item<double>(), 1e-4);
    last = &step;
  }
  ASSERT_NE(last, nullptr);
  // Latents of two programs drift apart in their last digits, step by step.
  EXPECT_TRUE(is_close(last->levels.front(), one.golden.at("local"), {.atol = 1e-3, .rtol = 0}));

  const RunRecord& record = pictures[0].record;
  ASSERT_EQ(record.experts.size(), 3U);
  EXPECT_EQ(record.experts[0].name, "face");
  EXPECT_EQ(record.experts[2].name, kGatesRecord);
  EXPECT_EQ(record.experts[2].sha256.size(), 64U);
}

}  // namespace
}  // namespace molar
