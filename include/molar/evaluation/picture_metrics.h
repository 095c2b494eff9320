/// The models that pictures are compared with: CLIP (CLIP-I, CLIP-T) and DINO.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "molar/core/device.h"
#include "molar/evaluation/image_processor.h"
#include "molar/models/clip_text_model.h"
#include "molar/models/clip_tokenizer.h"
#include "molar/models/clip_vision_model.h"
#include "molar/models/dino_model.h"

namespace molar {

/// How pictures become what CLIP sees.
enum class PictureProtocol {
  kOwn,    ///< as the model's folder says
  kHpsV2,  ///< as HPS v2 does, whatever the folder says
};

/// A CLIPModel folder as transformers writes it: config.json, model.safetensors,
/// preprocessor_config.json and a tokenizer. Embeddings have length 1; their products are cosines.
class ImageTextPair {
 public:
  /// Throws FileError.
  static ImageTextPair load(const std::filesystem::path& folder, at::Device device,
                            PictureProtocol protocol = PictureProtocol::kOwn);

  /// uint8 [H, W, 3] each, of any size: [N, D], float32 on the CPU.
  Tensor embed_pictures(const std::vector<Tensor>& pictures);
  /// Texts past 77 tokens are cut, as the metric is defined. [N, D].
  Tensor embed_texts(const std::vector<std::string>& texts);

 private:
  ImageTextPair(CLIPTokenizer tokenizer, ImageProcessor processor)
      : tokenizer_(std::move(tokenizer)), processor_(std::move(processor)) {}
  CLIPTokenizer tokenizer_;
  ImageProcessor processor_;
  CLIPVisionModel vision_{nullptr};
  CLIPTextModel text_{nullptr};
};

/// A ViTModel (DINO) or Dinov2Model folder, likewise.
class SelfSupervisedEncoder {
 public:
  static SelfSupervisedEncoder load(const std::filesystem::path& folder, at::Device device);
  Tensor embed_pictures(const std::vector<Tensor>& pictures);

 private:
  explicit SelfSupervisedEncoder(ImageProcessor processor) : processor_(std::move(processor)) {}
  ImageProcessor processor_;
  DinoModel model_{nullptr};
  at::Device device_{at::kCPU};
};

}  // namespace molar
