/// Captions -> what the UNet attends to, by frozen encoders once or by trained ones in every pass.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "molar/core/cancellation.h"
#include "molar/core/device.h"
#include "molar/core/progress.h"
#include "molar/io/checkpoint.h"
#include "molar/models/text_encoding.h"
#include "molar/models/unet_2d_condition.h"

namespace molar {

/// Names of the model's text encoders: "text_encoder", for SDXL "text_encoder_2" too.
std::vector<std::string> text_encoder_names(ModelFamily family);

/// Captions are plain text, without prompt weights. Long ones are encoded in chunks of 75 tokens,
/// never cut; shorter ones then get empty chunks, so that all have one length.
class CaptionEncoder {
 public:
  /// Loads the encoders. `captions`: every caption there is. Throws FileError, and InputError for
  /// text that is not UTF-8.
  CaptionEncoder(const Checkpoint& checkpoint, const ComputeOptions& compute,
                 const std::vector<std::string>& captions);

  /// Encodes every caption now and gives the encoders' memory back: they do not change. Throws
  /// StoppedError after a cancellation.
  void freeze(ProgressSink& progress, const CancellationToken& cancellation);
  /// encoder_hidden_states [B, 77 * num_chunks, D] and, for SDXL, text_embeds [B, P]; the caller
  /// adds the rest. Gradients flow to what is attached to the encoders, unless frozen.
  UNetConditioning encode(const std::vector<std::string>& captions);

  /// Until frozen: an encoder by its component's name.
  CLIPTextModel encoder(const std::string& name) const { return encoders_.at(name).model; }

 private:
  struct Encoder {
    CLIPTextModel model{nullptr};
    std::map<std::string, Tensor> ids;  // caption -> int64 [num_chunks, 77]
  };
  UNetConditioning run(const std::vector<std::string>& captions);

  bool is_sdxl_;
  std::vector<std::string> captions_;
  std::map<std::string, Encoder> encoders_;
  std::map<std::string, UNetConditioning> frozen_;  // caption -> its row, B = 1
};

}  // namespace molar
