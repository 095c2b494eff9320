/// A LoRA with its encoded pictures, as trainings of merges use it.
#pragma once

#include "molar/adapters/lora.h"
#include "molar/training/merge_training_options.h"
#include "training_model.h"
#include "training_rows.h"

namespace molar {

/// A LoRA and the pictures that it was taught, listed but not encoded.
struct ListedLora {
  LoraWeights weights;
  std::string sha256;  ///< of the file's numbers
  std::vector<TrainingPicture> pictures;
};

/// A LoRA and what trainings draw from its pictures.
struct EncodedLora {
  LoraWeights weights;
  std::string sha256;
  PictureSet pictures;
};

/// Pictures without a caption get the source's prompt, else the trigger words that the LoRA's
/// metadata names. Warns of a text encoder's
/// layers, which these trainings leave out. Throws as load_lora and list_pictures.
ListedLora list_taught_lora(const TaughtLora& taught, const ModelLayers& layers,
                            const PictureSourceNames& names);

/// Every NAME.safetensors of a folder with the pictures in NAME/ beside it, by name. Throws
/// InputError: no folder, no LoRA in it, no pictures.
std::vector<ListedLora> list_taught_loras(const std::filesystem::path& folder,
                                          const ModelLayers& layers, const std::string& option);

/// Pictures that show both, of every pair: folder/SUBJECT/STYLE, named as the files are; an empty
/// list where there is no such folder. Throws InputError where there is none for any pair.
std::vector<std::vector<TrainingPicture>> list_joint_pictures(
    const std::filesystem::path& folder, const std::vector<ListedLora>& subjects,
    const std::vector<ListedLora>& styles);

/// {"sha256": of the LoRA's numbers, "images": digest of pictures and captions}
Json describe_taught_lora(const ListedLora& listed);
Json describe_taught_loras(const std::vector<ListedLora>& listed);

/// Of all pictures, in order.
std::vector<std::string> captions_of(const std::vector<ListedLora>& loras);

/// What the frozen model is to be for them.
TrainingModelOptions training_model_options(const MergeTrainingOptions& options);

/// Each list as a set of its own, no list empty. Throws FileError, InputError, StoppedError.
std::vector<PictureSet> encode_picture_lists(const std::vector<std::vector<TrainingPicture>>& lists,
                                             const Checkpoint& checkpoint,
                                             const MergeTrainingOptions& options,
                                             ProgressSink& progress,
                                             const CancellationToken& cancellation);

/// Likewise.
std::vector<EncodedLora> encode_taught_loras(const std::vector<ListedLora>& loras,
                                             const Checkpoint& checkpoint,
                                             const MergeTrainingOptions& options,
                                             ProgressSink& progress,
                                             const CancellationToken& cancellation);

}  // namespace molar
