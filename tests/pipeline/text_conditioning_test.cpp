#include "molar/pipeline/text_conditioning.h"

#include <ATen/record_function.h>

#include <functional>
#include <string_view>

#include "pipeline_goldens.h"
#include "support/expect_error.h"

namespace molar {
namespace {

using test::expect_error;
using test::LoadedModel;

// Embeddings are of size 1 to 6. Two to three layers in float32 on other processors end within
// 1e-5 of each other; a wrong token or weight moves them by more than 0.01.
constexpr Tolerance kSameMathOtherOrder{.atol = 2e-4, .rtol = 1e-4};
const CancellationToken kNeverStopped;

TextConditioning encode(const LoadedModel& model, const GenerationRequest& request,
                        const TextConditioningOptions& options,
                        const CancellationToken& cancellation = kNeverStopped) {
  std::vector<TextEncoder> encoders;
  for (size_t i = 0; i < model.encoders.size(); ++i)
    encoders.push_back({model.tokenizers[i], model.encoders[i]});
  return encode_prompts(encoders, request, options, cancellation);
}

TextConditioning encode(const LoadedModel& model, const std::string& prompt) {
  GenerationRequest request;
  request.prompt = prompt;
  return encode(model, request, {.is_sdxl = model.is_sdxl()});
}

LoadedModel tiny_model(const std::string& family) {
  return LoadedModel(test::goldens() / "models" / (family + "-tiny"));
}

/// Calls `action` at every run of a text encoder on this thread, while it lives.
class AtEveryRun {
 public:
  explicit AtEveryRun(std::function<void()> action) {
    action_ = std::move(action);
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback(&notice).scopes({at::RecordScope::FUNCTION}));
  }
  ~AtEveryRun() {
    at::removeCallback(handle_);
    action_ = nullptr;
  }
  AtEveryRun(const AtEveryRun&) = delete;
  AtEveryRun& operator=(const AtEveryRun&) = delete;

 private:
  // argmax: each run looks once for the end token.
  static std::unique_ptr<at::ObserverContext> notice(const at::RecordFunction& function) {
    if (std::string_view(function.name()) == "aten::argmax") action_();
    return nullptr;
  }
  static thread_local std::function<void()> action_;
  at::CallbackHandle handle_;
};
thread_local std::function<void()> AtEveryRun::action_;

std::string words(const std::string& word, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += word + " ";
  return text;
}

class TextConditioningGolden : public test::PipelineGolden {};
MOLAR_FOR_EVERY_PIPELINE_CASE(TextConditioningGolden);

TEST_P(TextConditioningGolden, EmbeddingsAreThoseOfDiffusers) {
  LoadedModel model(case_.model);
  model.fuse(case_.request.adapters);
  const TextConditioning text = encode(model, case_.request,
                                       {.is_sdxl = model.is_sdxl(),
                                        .with_negative = case_.request.guidance_scale > 1.0,
                                        .zeros_for_absent_negative = model.is_sdxl()});
  EXPECT_TRUE(is_close(text.encoder_hidden_states, case_.golden.at("encoder_hidden_states"),
                       kSameMathOtherOrder));
  ASSERT_EQ(text.pooled.defined(), model.is_sdxl());
  if (model.is_sdxl()) {
    EXPECT_TRUE(is_close(text.pooled, case_.golden.at("text_embeds"), kSameMathOtherOrder));
  }
  EXPECT_EQ(text.num_chunks * 77, case_.golden.at("encoder_hidden_states").size(1));
}

TEST(TextConditioning, RowsAreNegativePromptThenPrompt) {
  const at::NoGradGuard no_grad;
  const LoadedModel model = tiny_model("sd15");
  GenerationRequest request;
  request.prompt = "a dog";
  request.negative_prompt = "rain";
  const TextConditioning both = encode(model, request, {});
  ASSERT_EQ(both.encoder_hidden_states.sizes(), (std::vector<int64_t>{2, 77, 32}));
  const TextConditioning prompt = encode(model, request, {.with_negative = false});
  EXPECT_TRUE(prompt.encoder_hidden_states.equal(both.encoder_hidden_states.narrow(0, 1, 1)));
  std::swap(request.prompt, *request.negative_prompt);
  EXPECT_TRUE(
      encode(model, request, {}).encoder_hidden_states.equal(both.encoder_hidden_states.flip(0)));
}

TEST(TextConditioning, WeightsKeepTheMean) {
  const at::NoGradGuard no_grad;
  const LoadedModel model = tiny_model("sd15");
  const Tensor plain = encode(model, "a dog").encoder_hidden_states[1];
  const Tensor heavy = encode(model, "a (dog:1.5)").encoder_hidden_states[1];
  EXPECT_FALSE(is_close(heavy, plain, {.atol = 0.01, .rtol = 0}));
  EXPECT_TRUE(is_close(heavy.mean(), plain.mean()));
  // BOS has weight 1, "dog" 1.5: their factors differ by just that.
  const Tensor factor = (heavy / plain).mean(1);  // [77]
  EXPECT_NEAR((factor[2] / factor[0]).item<double>(), 1.5, 1e-3);
}

TEST(TextConditioning, ShortPromptsGetTheEmptyChunksOfLongOnes) {
  const at::NoGradGuard no_grad;
  const LoadedModel model = tiny_model("sd15");
  GenerationRequest request;
  request.prompt = words("dog", 80);
  request.negative_prompt = "rain";
  const TextConditioning text = encode(model, request, {});
  EXPECT_EQ(text.num_chunks, 2);
  EXPECT_EQ(text.num_tokens, 80);
  const Tensor empty = encode(model, "").encoder_hidden_states[1];
  EXPECT_TRUE(text.encoder_hidden_states[0].slice(0, 77).equal(empty));
}

TEST(TextConditioning, EachDistinctChunkIsEncodedOnce) {
  const at::NoGradGuard no_grad;
  const LoadedModel model = tiny_model("sd15");
  int runs = 0;
  const AtEveryRun count([&] { ++runs; });
  GenerationRequest request;
  request.prompt = words("dog", 4 * 75 + 1);  // four chunks of 75 dogs, one of a single dog
  request.negative_prompt = "rain";           // one chunk, and four empty ones
  EXPECT_EQ(encode(model, request, {}).num_chunks, 5);
  EXPECT_EQ(runs, 4);
}

TEST(TextConditioning, OneChunkUnderTwoWeightsIsTwoThings) {
  const at::NoGradGuard no_grad;
  const LoadedModel model = tiny_model("sd15");
  const Tensor chunks = encode(model, "a dog BREAK a (dog:1.5)").encoder_hidden_states[1];
  EXPECT_TRUE(chunks.slice(0, 0, 77).equal(encode(model, "a dog").encoder_hidden_states[1]));
  EXPECT_TRUE(chunks.slice(0, 77).equal(encode(model, "a (dog:1.5)").encoder_hidden_states[1]));
}

TEST(TextConditioning, StopsBeforeTheNextChunk) {
  const at::NoGradGuard no_grad;
  const LoadedModel model = tiny_model("sd15");
  CancellationToken cancellation;
  int runs = 0;
  const AtEveryRun stop_after_one([&] {
    ++runs;
    cancellation.request();
  });
  GenerationRequest request;
  request.prompt = "a dog BREAK a cat BREAK a bird";
  EXPECT_THROW(encode(model, request, {}, cancellation), StoppedError);
  EXPECT_EQ(runs, 1);
}

TEST(TextConditioning, RefusesTextsOfTooManyChunks) {
  const at::NoGradGuard no_grad;
  const LoadedModel model = tiny_model("sdxl");
  const std::string most = words("dog", 256 * 75), over = words("dog", 256 * 75 + 1);
  EXPECT_EQ(encode(model, most).num_chunks, 256);
  struct Row {
    const char* option;
    void (*set)(GenerationRequest&, const std::string&);
  };
  const Row rows[] = {
      {"--prompt:", [](GenerationRequest& r, const std::string& s) { r.prompt = s; }},
      {"--prompt-2:", [](GenerationRequest& r, const std::string& s) { r.prompt_2 = s; }},
      {"--negative-prompt:",
       [](GenerationRequest& r, const std::string& s) { r.negative_prompt = s; }},
      {"--negative-prompt-2:",
       [](GenerationRequest& r, const std::string& s) { r.negative_prompt_2 = s; }},
  };
  for (const Row& row : rows) {
    GenerationRequest request;
    row.set(request, over);
    expect_error<InputError>([&] { encode(model, request, {.is_sdxl = true}); },
                             {row.option, "256 chunks", "found 257"});
  }
}

TEST(TextConditioning, RefusesToSkipMoreLayersThanThereAre) {
  const LoadedModel model = tiny_model("sd15");
  GenerationRequest request;
  request.clip_skip = 3;  // leaves the embeddings
  EXPECT_NO_THROW(encode(model, request, {}));
  request.clip_skip = 4;
  expect_error<ConfigError>([&] { encode(model, request, {}); }, {"--clip-skip", "3 layers"});
}

class ChunkTokens : public testing::Test {
 protected:
  const CLIPTokenizer tokenizer_ = tiny_model("sd15").tokenizers.front();
  std::vector<int64_t> sizes(const std::string& text, PromptSyntax syntax) const {
    std::vector<int64_t> found;
    for (const TokenChunk& chunk : chunk_tokens(tokenizer_, parse_prompt(text, syntax), syntax)) {
      EXPECT_EQ(chunk.ids.size(), 77U);
      EXPECT_EQ(chunk.weights.size(), 77U);
      EXPECT_EQ(chunk.ids.front(), tokenizer_.bos_token_id());
      EXPECT_EQ(chunk.ids.at(static_cast<size_t>(chunk.num_tokens) + 1), tokenizer_.eos_token_id());
      found.push_back(chunk.num_tokens);
    }
    return found;
  }
  using Sizes = std::vector<int64_t>;
};

TEST_F(ChunkTokens, AFullChunkIsNotOver) {
  EXPECT_EQ(sizes("", PromptSyntax::kA1111), Sizes({0}));
  EXPECT_EQ(sizes(words("dog", 75), PromptSyntax::kA1111), Sizes({75}));
  EXPECT_EQ(sizes(words("dog", 76), PromptSyntax::kA1111), Sizes({75, 1}));
}

TEST_F(ChunkTokens, ACommaAmongTheLast20TokensEndsTheChunk) {
  const auto text = [](int before, int after) {
    return words("dog", before) + ", " + words("dog", after);
  };
  EXPECT_EQ(sizes(text(60, 20), PromptSyntax::kA1111), Sizes({61, 20}));
  EXPECT_EQ(sizes(text(55, 25), PromptSyntax::kA1111), Sizes({56, 25})) << "the 20th from the end";
  EXPECT_EQ(sizes(text(54, 26), PromptSyntax::kA1111), Sizes({75, 6})) << "the 21st";
  EXPECT_EQ(sizes(text(60, 14), PromptSyntax::kA1111), Sizes({75})) << "full, and not over";
  EXPECT_EQ(sizes(text(60, 20), PromptSyntax::kPlain), Sizes({75, 6}));
}

TEST_F(ChunkTokens, BreakEndsTheChunk) {
  EXPECT_EQ(sizes("a dog BREAK cat", PromptSyntax::kA1111), Sizes({2, 1}));
  EXPECT_EQ(sizes("BREAK cat", PromptSyntax::kA1111), Sizes({0, 1}));
  EXPECT_EQ(sizes("cat BREAK", PromptSyntax::kA1111), Sizes({1}));
}

TEST(HiddenStateChoice, SdxlStartsOneLayerLowerAndHasNoNorm) {
  EXPECT_EQ(hidden_state_choice(false, {}).layers_from_end, 0);
  EXPECT_EQ(hidden_state_choice(false, 2).layers_from_end, 2);
  EXPECT_EQ(hidden_state_choice(true, {}).layers_from_end, 1);
  EXPECT_EQ(hidden_state_choice(true, 2).layers_from_end, 3);
  EXPECT_TRUE(hidden_state_choice(false, 2).final_layer_norm);
  EXPECT_FALSE(hidden_state_choice(true, 2).final_layer_norm);
}

}  // namespace
}  // namespace molar
