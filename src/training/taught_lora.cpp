#include "taught_lora.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "molar/adapters/lora_io.h"
#include "molar/adapters/lora_summary.h"
#include "molar/core/error.h"
#include "molar/io/hash.h"
#include "run_description.h"

namespace molar {
namespace fs = std::filesystem;

ListedLora list_taught_lora(const TaughtLora& taught, const ModelLayers& layers,
                            const PictureSourceNames& names) {
  LoraWeights weights = load_lora(taught.file, layers);
  const auto num_layers = static_cast<int64_t>(weights.layers.size());
  if (const int64_t others = num_layers - weights.num_layers("unet"); others > 0)
    spdlog::warn("'{}': {} layers of a text encoder are left out of the training",
                 taught.file.string(), others);
  PictureSource pictures = taught.pictures;
  if (!pictures.prompt)
    if (const std::string words = read_lora_documentation(weights.metadata).trigger_words;
        !words.empty())
      pictures.prompt = words;
  std::string sha256 = sha256_safetensors_data(weights.path);
  return {std::move(weights), std::move(sha256), list_pictures(pictures, names)};
}

std::vector<ListedLora> list_taught_loras(const fs::path& folder, const ModelLayers& layers,
                                          const std::string& option) {
  if (!fs::is_directory(folder))
    throw InputError(
        fmt::format("{} '{}': wanted a folder of LoRA files", option, folder.string()));
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors" && entry.is_regular_file())
      files.push_back(entry.path());
  if (files.empty())
    throw InputError(fmt::format("{} '{}': no .safetensors file in it", option, folder.string()));
  std::ranges::sort(files);
  std::vector<ListedLora> loras;
  for (const fs::path& file : files) {
    const fs::path pictures = fs::path(file).replace_extension();
    if (!fs::is_directory(pictures))
      throw InputError(fmt::format("{}: '{}' has no folder '{}' with the pictures it was taught",
                                   option, file.string(), pictures.string()));
    loras.push_back(list_taught_lora({file, {pictures, std::nullopt}}, layers,
                                     {option, "trigger words in the LoRA's metadata"}));
  }
  return loras;
}

std::vector<std::vector<TrainingPicture>> list_joint_pictures(
    const fs::path& folder, const std::vector<ListedLora>& subjects,
    const std::vector<ListedLora>& styles) {
  constexpr const char* kOption = "--joint-images";
  std::vector<std::vector<TrainingPicture>> lists;
  int64_t num_pairs = 0;
  for (const ListedLora& subject : subjects)
    for (const ListedLora& style : styles) {
      const fs::path own = folder / subject.weights.path.stem() / style.weights.path.stem();
      lists.emplace_back();
      if (!fs::is_directory(own)) continue;
      lists.back() = list_pictures({own, std::nullopt},
                                   {kOption, "prompt for the pictures of --joint-images"});
      ++num_pairs;
    }
  if (num_pairs == 0)
    throw InputError(
        fmt::format("{} '{}': wanted folders SUBJECT/STYLE named as the LoRA files, as "
                    "'{}/{}'; found none",
                    kOption, folder.string(), subjects[0].weights.path.stem().string(),
                    styles[0].weights.path.stem().string()));
  spdlog::info("{} '{}': pictures of {} of {} pairs", kOption, folder.string(), num_pairs,
               lists.size());
  return lists;
}

Json describe_taught_lora(const ListedLora& listed) {
  return {{"sha256", listed.sha256}, {"images", pictures_digest(listed.pictures)}};
}

Json describe_taught_loras(const std::vector<ListedLora>& listed) {
  Json all = Json::array();
  for (const ListedLora& lora : listed) all.push_back(describe_taught_lora(lora));
  return all;
}

std::vector<std::string> captions_of(const std::vector<ListedLora>& loras) {
  std::vector<std::string> captions;
  for (const ListedLora& lora : loras)
    for (const std::string& caption : captions_of(lora.pictures)) captions.push_back(caption);
  return captions;
}

TrainingModelOptions training_model_options(const MergeTrainingOptions& options) {
  return {.compute = options.compute, .gradient_checkpointing = options.gradient_checkpointing};
}

std::vector<PictureSet> encode_picture_lists(const std::vector<std::vector<TrainingPicture>>& lists,
                                             const Checkpoint& checkpoint,
                                             const MergeTrainingOptions& options,
                                             ProgressSink& progress,
                                             const CancellationToken& cancellation) {
  std::vector<TrainingPicture> pictures;
  for (const std::vector<TrainingPicture>& list : lists)
    pictures.insert(pictures.end(), list.begin(), list.end());
  const std::vector<PictureLatents> latents =
      encode_pictures(pictures, checkpoint.component("vae"),
                      {.side_px = resolve_resolution(options.resolution_px, checkpoint),
                       .flip = false,
                       .device = options.compute.device},
                      progress, cancellation);
  std::vector<PictureSet> sets;
  auto next = latents.begin();
  for (const std::vector<TrainingPicture>& list : lists) {
    const auto count = static_cast<std::ptrdiff_t>(list.size());
    sets.emplace_back(std::vector<PictureLatents>(next, next + count), captions_of(list),
                      EpochOrder(options.seed, RandomStream::kInstances, count));
    next += count;
  }
  return sets;
}

std::vector<EncodedLora> encode_taught_loras(const std::vector<ListedLora>& loras,
                                             const Checkpoint& checkpoint,
                                             const MergeTrainingOptions& options,
                                             ProgressSink& progress,
                                             const CancellationToken& cancellation) {
  std::vector<std::vector<TrainingPicture>> lists;
  for (const ListedLora& lora : loras) lists.push_back(lora.pictures);
  std::vector<PictureSet> sets =
      encode_picture_lists(lists, checkpoint, options, progress, cancellation);
  std::vector<EncodedLora> encoded;
  for (size_t i = 0; i < loras.size(); ++i)
    encoded.push_back({loras[i].weights, loras[i].sha256, std::move(sets[i])});
  return encoded;
}

}  // namespace molar
