#include "molar/models/model_fit.h"

#include <fmt/format.h>

#include "molar/core/error.h"
#include "molar/models/clip_tokenizer.h"

namespace molar {
namespace {

void check_positions(const CLIPTextConfig& config, size_t i) {
  if (config.max_position_embeddings < CLIPTokenizer::kModelMaxLength)
    throw FileError(
        fmt::format("{}/config.json: 'max_position_embeddings' is {}; wanted {} or more, the "
                    "length of a tokenized prompt",
                    i == 0 ? "text_encoder" : "text_encoder_2", config.max_position_embeddings,
                    CLIPTokenizer::kModelMaxLength));
}

void check_text_widths(const UNet2DConditionConfig& unet,
                       const std::vector<CLIPTextConfig>& encoders) {
  int64_t width = 0;
  for (const CLIPTextConfig& encoder : encoders) width += encoder.hidden_size;
  if (width != unet.cross_attention_dim)
    throw FileError(
        fmt::format("unet/config.json: 'cross_attention_dim' is {}, but the text encoders give {} "
                    "values per token; are the parts of one model?",
                    unet.cross_attention_dim, width));
  if (!unet.addition_time_embed_dim) return;
  constexpr int64_t kNumTimeIds = 6;  // original size, crop offset, target size
  const int64_t pooled = encoders.back().projection_dim.value_or(0);
  const int64_t given = pooled + kNumTimeIds * *unet.addition_time_embed_dim;
  if (given != unet.add_embedding_input_dim)
    throw FileError(fmt::format(
        "unet/config.json: 'projection_class_embeddings_input_dim' is {}; wanted {}: {} of the "
        "second text encoder and {} times 'addition_time_embed_dim' {}",
        unet.add_embedding_input_dim, given, pooled, kNumTimeIds, *unet.addition_time_embed_dim));
}

}  // namespace

void check_parts_fit(const UNet2DConditionConfig& unet,
                     const std::vector<CLIPTextConfig>& encoders) {
  for (size_t i = 0; i < encoders.size(); ++i) check_positions(encoders[i], i);
  check_text_widths(unet, encoders);
}

}  // namespace molar
