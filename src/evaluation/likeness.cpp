#include "molar/evaluation/likeness.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <set>

#include "molar/core/error.h"
#include "molar/io/image.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kBatch = 32;

using Embed = std::function<Tensor(const std::vector<Tensor>& pictures)>;

/// Embeddings of picture files, each computed once.
class Gallery {
 public:
  Gallery(Embed embed, ProgressSink& progress, const CancellationToken& cancellation)
      : embed_(std::move(embed)), progress_(progress), cancellation_(cancellation) {}

  void add(const std::set<fs::path>& files, const std::string& label) {
    progress_.begin(label, std::ssize(files));
    std::vector<fs::path> batch;
    for (auto file = files.begin(); file != files.end();) {
      cancellation_.stop_here_if_requested();
      std::vector<Tensor> pictures;
      for (batch.clear(); file != files.end() && std::ssize(batch) < kBatch; ++file) {
        pictures.push_back(read_image(*file));
        batch.push_back(*file);
      }
      const Tensor embeddings = embed_(pictures);
      for (size_t i = 0; i < batch.size(); ++i) {
        embeddings_[batch[i]] = embeddings[static_cast<int64_t>(i)];
        progress_.advance();
      }
    }
    progress_.end();
  }

  const Tensor& of(const fs::path& file) const { return embeddings_.at(file); }

  double mean_cosine(const fs::path& picture, const std::vector<fs::path>& others) const {
    double sum = 0;
    for (const fs::path& other : others) sum += of(picture).dot(of(other)).item<double>();
    return sum / static_cast<double>(others.size());
  }

 private:
  Embed embed_;
  ProgressSink& progress_;
  const CancellationToken& cancellation_;
  std::map<fs::path, Tensor> embeddings_;  // [D], length 1
};

/// A kind of reference: the measures that compare with it, and what a picture is compared with.
struct Comparison {
  const char *clip_i, *dino;
  std::function<std::vector<fs::path>(const LabelledPicture&)> references;  // empty: none
};

fs::path truth_of(const fs::path& folder, const LabelledPicture& picture) {
  const fs::path truth = folder / picture.subject / picture.style / picture.path.filename();
  if (!fs::is_regular_file(truth))
    throw InputError(
        fmt::format("'{}' is missing: the truth of '{}'", truth.string(), picture.path.string()));
  return truth;
}

std::vector<Comparison> comparisons(const ReferenceFolders& folders) {
  using Paths = std::vector<fs::path>;
  std::vector<Comparison> all;
  const auto add_named = [&](const char* clip_i, const char* dino,
                             const std::optional<fs::path>& folder,
                             std::string LabelledPicture::* name) {
    if (!folder) return;
    all.push_back({clip_i, dino, [folder = *folder, name](const LabelledPicture& picture) {
                     const std::string& label = picture.*name;
                     return label.empty() ? Paths() : reference_pictures(folder, label);
                   }});
  };
  add_named("clip_i_subject", "dino_subject", folders.subjects, &LabelledPicture::subject);
  add_named("clip_i_style", "dino_style", folders.styles, &LabelledPicture::style);
  if (folders.truth)
    all.push_back({"truth_clip_i", "truth_dino", [&folders](const LabelledPicture& picture) {
                     return Paths{truth_of(*folders.truth, picture)};
                   }});
  return all;
}

/// `factor` times the cosine with the prompt.
void add_text_likeness(const std::vector<LabelledPicture>& pictures, ImageTextPair& pair,
                       const Gallery& gallery, const char* measure, double factor,
                       std::vector<Scores>& scores) {
  std::map<std::string, Tensor> embeddings;
  for (const LabelledPicture& picture : pictures)
    if (picture.prompt) embeddings.try_emplace(*picture.prompt);
  for (auto& [text, embedding] : embeddings) embedding = pair.embed_texts({text})[0];
  for (size_t i = 0; i < pictures.size(); ++i)
    if (const auto& prompt = pictures[i].prompt)
      scores[i][measure] =
          factor * gallery.of(pictures[i].path).dot(embeddings.at(*prompt)).item<double>();
}

}  // namespace

std::vector<fs::path> reference_pictures(const fs::path& folder, const std::string& name) {
  std::vector<fs::path> pictures;
  if (fs::is_directory(folder / name))
    for (const auto& entry : fs::directory_iterator(folder / name))
      if (entry.is_regular_file() && is_picture_name(entry.path()))
        pictures.push_back(entry.path());
  if (pictures.empty())
    throw InputError(
        fmt::format("'{}' holds no pictures (png, jpg, jpeg); wanted references of "
                    "'{}'",
                    (folder / name).string(), name));
  std::ranges::sort(pictures);
  return pictures;
}

std::vector<Scores> measure_likeness(const std::vector<LabelledPicture>& pictures,
                                     const Encoders& encoders, const ReferenceFolders& references,
                                     ProgressSink& progress,
                                     const CancellationToken& cancellation) {
  const std::vector<Comparison> all = comparisons(references);
  std::vector<std::vector<std::vector<fs::path>>> compared_with(all.size());
  std::set<fs::path> files;
  for (const LabelledPicture& picture : pictures) files.insert(picture.path);
  for (size_t c = 0; c < all.size(); ++c)
    for (const LabelledPicture& picture : pictures) {
      compared_with[c].push_back(all[c].references(picture));
      files.insert(compared_with[c].back().begin(), compared_with[c].back().end());
    }

  std::vector<Scores> scores(pictures.size());
  const auto compare = [&](const Gallery& gallery, const char* Comparison::* measure) {
    for (size_t c = 0; c < all.size(); ++c)
      for (size_t i = 0; i < pictures.size(); ++i)
        if (const auto& others = compared_with[c][i]; !others.empty())
          scores[i][all[c].*measure] = gallery.mean_cosine(pictures[i].path, others);
  };
  if (ImageTextPair* pair = encoders.image_text_pair) {
    Gallery gallery([pair](const auto& batch) { return pair->embed_pictures(batch); }, progress,
                    cancellation);
    gallery.add(files, "CLIP");
    compare(gallery, &Comparison::clip_i);
    add_text_likeness(pictures, *pair, gallery, "clip_t", 1.0, scores);
  }
  if (ImageTextPair* pair = encoders.preference) {
    Gallery gallery([pair](const auto& batch) { return pair->embed_pictures(batch); }, progress,
                    cancellation);
    std::set<fs::path> judged;
    for (const LabelledPicture& picture : pictures) judged.insert(picture.path);
    gallery.add(judged, "HPS v2");
    add_text_likeness(pictures, *pair, gallery, "hps", 100.0, scores);
  }
  if (SelfSupervisedEncoder* encoder = encoders.self_supervised) {
    Gallery gallery([encoder](const auto& batch) { return encoder->embed_pictures(batch); },
                    progress, cancellation);
    gallery.add(files, "DINO");
    compare(gallery, &Comparison::dino);
  }
  return scores;
}

}  // namespace molar
