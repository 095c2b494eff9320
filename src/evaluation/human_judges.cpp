#include "molar/evaluation/human_judges.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "judge_networks.h"
#include "molar/core/error.h"
#include "molar/models/model_loader.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr const char* kKind = "human-judge";
constexpr int64_t kBatch = 64;
constexpr double kLeastHeat = 0.35;
constexpr double kNear = 0.6;  // of one kind, in half heights of the surer: nearer ones are one
constexpr int64_t kFace = 0, kHand = 1, kNumKinds = 2;
constexpr double kCropHalf[] = {0.95,
                                1.3};  // of face and hand: half a crop's side, in half heights

/// A judge's file: its tensors and what its metadata say.
class JudgeFile {
 public:
  JudgeFile(const fs::path& folder, const std::string& name)
      : path_(folder / (name + ".safetensors")) {
    if (!fs::exists(path_))
      throw FileError(
          fmt::format("'{}' is missing: a folder of judges holds detector.safetensors, "
                      "hand.safetensors and face.safetensors",
                      path_.string()));
    const SafetensorsFile file = SafetensorsFile::open(path_);
    metadata_ = file.metadata();
    for (const auto& [key, wanted] : {std::pair<std::string, std::string>{"molar.kind", kKind},
                                      {"molar.judge", name},
                                      {"molar.version", "1"}})
      if (text(key) != wanted)
        throw FileError(fmt::format("'{}' is no judge for this: metadata '{}' is '{}', wanted '{}'",
                                    path_.string(), key, text(key), wanted));
    component_ = {
        .name = name, .source = path_.string(), .config = {}, .weights = file.state_dict()};
  }

  const Component& component() const { return component_; }
  int64_t picture_px() const {
    const Json side = json("picture_px");
    if (!side.is_number_integer() || side < 16 || side > 1024 || side.get<int64_t>() % 8 != 0)
      throw wrong("picture_px", "a multiple of 8, 16 to 1024");
    return side.get<int64_t>();
  }
  /// [["fist", 0], ...]
  std::vector<std::pair<std::string, int64_t>> gestures() const {
    return list<std::pair<std::string, int64_t>>("gestures", "pairs of a gesture and its fingers");
  }
  /// ["left_eye", ...]
  std::vector<std::string> parts() const {
    return list<std::string>("parts", "names of a face's parts");
  }

 private:
  std::string text(const std::string& key) const {
    const auto found = metadata_.find(key);
    return found == metadata_.end() ? "" : found->second;
  }
  Json json(const std::string& key) const {
    return parse_json(text(key), fmt::format("{}: metadata '{}'", path_.string(), key));
  }
  FileError wrong(const std::string& key, const std::string& wanted) const {
    return FileError(fmt::format("'{}': metadata '{}' is '{}', wanted {}", path_.string(), key,
                                 text(key), wanted));
  }
  template <typename T>
  std::vector<T> list(const std::string& key, const std::string& wanted) const {
    try {
      const auto items = json(key).get<std::vector<T>>();
      if (!items.empty()) return items;
    } catch (const Json::exception&) {
    }
    throw wrong(key, wanted);
  }

  fs::path path_;
  std::map<std::string, std::string> metadata_;
  Component component_;
};

JudgeDetector load_detector(const JudgeFile& file, const LoadOptions& options) {
  const auto merge = file.component().weights.find("merge.weight");
  const int64_t merged = merge == file.component().weights.end() || merge->second.dim() == 0
                             ? 1  // load_weights says what is missing
                             : merge->second.size(0);
  JudgeDetector detector(judge_widths(file.component()), merged);
  load_weights(*detector, file.component(), options);
  return detector;
}

JudgeClassifier load_classifier(const JudgeFile& file, int64_t num_outputs,
                                const LoadOptions& options) {
  JudgeClassifier classifier(judge_widths(file.component()), num_outputs);
  load_weights(*classifier, file.component(), options);
  return classifier;
}

/// One picture's maps, [8, h, w] on the CPU -> its faces or hands, the surest first.
std::vector<JudgedPart> find_parts(const Tensor& maps, int64_t kind) {
  const Tensor heat = maps[kind].sigmoid();  // [h, w]
  const Tensor peaks = at::max_pool2d(heat.view({1, 1, heat.size(0), heat.size(1)}), 3, 1, 1);
  const Tensor places = at::nonzero((heat == peaks[0][0]) & (heat >= kLeastHeat));  // [N, 2]
  const auto values = maps.accessor<float, 3>();
  std::vector<JudgedPart> candidates;
  for (int64_t i = 0; i < places.size(0); ++i) {
    const auto row = places[i][0].item<int64_t>(), column = places[i][1].item<int64_t>();
    const auto value = [&](int64_t k) {
      return static_cast<double>(values[kNumKinds + 3 * kind + k][row][column]);
    };
    candidates.push_back({.x_px = (static_cast<double>(column) + 0.5 + value(0)) * kJudgeCellPx,
                          .y_px = (static_cast<double>(row) + 0.5 + value(1)) * kJudgeCellPx,
                          .half_height_px = std::exp(std::clamp(value(2), -1.0, 5.0)),
                          .heat = heat[row][column].item<double>()});
  }
  std::ranges::stable_sort(candidates, std::greater<>(), &JudgedPart::heat);
  std::vector<JudgedPart> parts;
  for (const JudgedPart& one : candidates)
    if (std::ranges::none_of(parts, [&](const JudgedPart& other) {
          return std::hypot(one.x_px - other.x_px, one.y_px - other.y_px) <
                 kNear * other.half_height_px;
        }))
      parts.push_back(one);
  return parts;
}

/// How many of the hands are as the prompt wants them.
int64_t count_correct(const std::vector<JudgedHand>& hands, const WantedPicture& prompt) {
  std::vector<int64_t> left = prompt.fingers.value_or(std::vector<int64_t>());
  // Hands that the prompt says nothing of may show anything.
  const int64_t free = prompt.num_hands() - std::ssize(left);
  int64_t correct = 0, any = 0;
  for (const JudgedHand& hand : hands) {
    if (!hand.is_whole()) continue;
    const auto found = std::ranges::find(left, hand.num_fingers);
    if (found == left.end()) {
      ++any;
      continue;
    }
    left.erase(found);
    ++correct;
  }
  return correct + std::min(free, any);
}

}  // namespace

struct HumanJudges::Networks {
  JudgeDetector detector{nullptr};
  JudgeClassifier classifiers[kNumKinds] = {nullptr, nullptr};
  std::vector<std::pair<std::string, int64_t>> gestures;  // name, extended fingers
  std::vector<std::string> face_parts;
  int64_t picture_px = 0;
  at::Device device = at::kCPU;

  /// Logits [N, outputs] on the CPU for parts of one kind. picture: [3, H, W].
  Tensor classify(const Tensor& picture, const std::vector<JudgedPart>& parts, int64_t kind) {
    std::vector<float> x, y, half;
    for (const JudgedPart& part : parts) {
      x.push_back(static_cast<float>(part.x_px));
      y.push_back(static_cast<float>(part.y_px));
      half.push_back(static_cast<float>(part.half_height_px * kCropHalf[kind]));
    }
    const auto count = static_cast<int64_t>(parts.size());
    const auto column = [&](const std::vector<float>& numbers) {
      return at::tensor(numbers, at::kFloat).to(device);
    };
    const Tensor crops = crop_around(picture.unsqueeze(0).expand({count, -1, -1, -1}), column(x),
                                     column(y), column(half));
    return classifiers[kind](crops).to(at::kCPU);
  }

  HumanFindings read(const Tensor& picture, const Tensor& maps) {
    HumanFindings findings;
    if (const auto parts = find_parts(maps, kFace); !parts.empty()) {
      const Tensor in_place = classify(picture, parts, kFace) > 0;
      for (size_t i = 0; i < parts.size(); ++i) {
        JudgedFace face{.part = parts[i], .wrong_parts = {}};
        for (size_t k = 0; k < face_parts.size(); ++k)
          if (!in_place[static_cast<int64_t>(i)][static_cast<int64_t>(k)].item<bool>())
            face.wrong_parts.push_back(face_parts[k]);
        findings.faces.push_back(std::move(face));
      }
    }
    if (const auto parts = find_parts(maps, kHand); !parts.empty()) {
      const Tensor named = classify(picture, parts, kHand).argmax(1);
      for (size_t i = 0; i < parts.size(); ++i) {
        JudgedHand hand{.part = parts[i], .gesture = {}};
        // The last output: broken.
        if (const auto k = named[static_cast<int64_t>(i)].item<int64_t>(); k < std::ssize(gestures))
          std::tie(hand.gesture, hand.num_fingers) = gestures[static_cast<size_t>(k)];
        findings.hands.push_back(std::move(hand));
      }
    }
    return findings;
  }
};

bool is_human_judge(const SafetensorsFile& file) {
  const auto kind = file.metadata().find("molar.kind");
  return kind != file.metadata().end() && kind->second == kKind;
}

HumanJudgeSummary describe_human_judge(const fs::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  HumanJudgeSummary summary;
  if (const auto name = file.metadata().find("molar.judge"); name != file.metadata().end())
    summary.name = name->second;
  if (const auto text = file.metadata().find("held_out"); text != file.metadata().end())
    summary.held_out =
        parse_json(text->second, fmt::format("{}: metadata 'held_out'", path.string()));
  for (const auto& [name, entry] : file.entries()) {
    int64_t count = 1;
    for (const int64_t length : entry.shape) count *= length;
    summary.num_parameters += count;
  }
  return summary;
}

HumanJudges::HumanJudges(std::unique_ptr<Networks> networks) : networks_(std::move(networks)) {}
HumanJudges::HumanJudges(HumanJudges&&) noexcept = default;
HumanJudges::~HumanJudges() = default;

HumanJudges HumanJudges::load(const fs::path& folder, at::Device device) {
  const LoadOptions options{.device = device, .dtype = at::kFloat};
  auto networks = std::make_unique<Networks>();
  networks->device = device;
  const JudgeFile detector(folder, "detector"), hand(folder, "hand"), face(folder, "face");
  networks->picture_px = detector.picture_px();
  networks->gestures = hand.gestures();
  networks->face_parts = face.parts();
  networks->detector = load_detector(detector, options);
  networks->classifiers[kHand] = load_classifier(hand, std::ssize(networks->gestures) + 1, options);
  networks->classifiers[kFace] = load_classifier(face, std::ssize(networks->face_parts), options);
  return HumanJudges(std::move(networks));
}

int64_t HumanJudges::picture_px() const { return networks_->picture_px; }

std::vector<HumanFindings> HumanJudges::judge(const std::vector<Tensor>& pictures) const {
  const c10::InferenceMode inference;
  std::vector<HumanFindings> findings;
  for (auto at = pictures.begin(); at != pictures.end();) {
    const auto count = std::min<std::ptrdiff_t>(kBatch, pictures.end() - at);
    std::vector<Tensor> batch;
    for (const auto end = at + count; at != end; ++at) {
      check_shape(*at, {picture_px(), picture_px(), 3}, "pixels");
      batch.push_back(at->permute({2, 0, 1}).to(at::kFloat) / 127.5 - 1);
    }
    const Tensor pixels = at::stack(batch).to(networks_->device);
    const Tensor maps = networks_->detector(pixels).to(at::kCPU).contiguous();
    for (int64_t i = 0; i < count; ++i) findings.push_back(networks_->read(pixels[i], maps[i]));
  }
  return findings;
}

Scores score_humans(const HumanFindings& findings, const WantedPicture& prompt) {
  Scores scores;
  const auto add = [&](const std::string& what, int64_t wanted, size_t found, int64_t correct) {
    if (wanted == 0) return;
    const int64_t number = static_cast<int64_t>(found);
    scores["correct_" + what] =
        static_cast<double>(correct) / static_cast<double>(std::max(wanted, number));
    scores["counted_" + what] = number == wanted ? 1.0 : 0.0;
  };
  add("faces", prompt.num_faces(), findings.faces.size(),
      std::ranges::count_if(findings.faces, &JudgedFace::is_whole));
  add("hands", prompt.num_hands(), findings.hands.size(), count_correct(findings.hands, prompt));
  return scores;
}

}  // namespace molar
