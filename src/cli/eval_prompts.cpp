#include "eval_prompts.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "molar/core/error.h"
#include "molar/io/image.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

Json part_json(const JudgedPart& part) {
  return {{"x", part.x_px},
          {"y", part.y_px},
          {"half_height", part.half_height_px},
          {"heat", part.heat}};
}

}  // namespace

std::vector<LabelledPicture> find_prompted_pictures(const std::vector<std::string>& run_folders,
                                                    std::optional<std::string>& baseline,
                                                    const std::optional<PictureLayout>& layout) {
  const auto name_of = [](const std::string& folder) {
    const std::string name = fs::path(folder).lexically_normal().string();
    return name.size() > 1 && name.ends_with('/') ? name.substr(0, name.size() - 1) : name;
  };
  const bool by_folder = !layout || !layout->names("method");
  std::vector<std::string> folders;
  const auto add = [&](const std::string& folder) {
    if (std::ranges::find(folders, folder) == folders.end()) folders.push_back(folder);
  };
  for (const std::string& folder : run_folders) add(name_of(folder));
  if (by_folder && baseline) {
    baseline = name_of(*baseline);
    add(*baseline);
  }
  std::vector<LabelledPicture> pictures;
  for (const std::string& folder : folders)
    for (LabelledPicture& picture : find_pictures({folder}, layout, Records::kOptional)) {
      if (by_folder) picture.method = folder;
      pictures.push_back(std::move(picture));
    }
  return pictures;
}

std::vector<PromptedPicture> match_prompts(const PromptSet& prompts,
                                           std::vector<LabelledPicture>& pictures) {
  std::vector<PromptedPicture> prompted;
  for (LabelledPicture& picture : pictures) {
    const WantedPicture& row = prompts.of(picture);
    prompted.push_back({&row, {}});
    if (!picture.prompt) picture.prompt = row.prompt;
  }
  return prompted;
}

void judge_humans(std::vector<PromptedPicture>& prompted, const HumanJudges& judges,
                  const std::vector<LabelledPicture>& pictures, std::vector<Scores>& scores,
                  ProgressSink& progress, const CancellationToken& cancellation) {
  for (size_t i = 0; i < pictures.size(); ++i)
    if (!prompted[i].row->kind)
      throw InputError(fmt::format("'{}': --human needs a 'kind' in its row (prompt '{}')",
                                   pictures[i].path.string(), prompted[i].row->prompt));
  progress.begin("Hands and faces", std::ssize(pictures));
  const int64_t side = judges.picture_px();
  for (size_t i = 0; i < pictures.size(); ++i) {
    cancellation.stop_here_if_requested();
    const Tensor pixels = read_image(pictures[i].path);
    if (pixels.size(0) != side || pixels.size(1) != side)
      throw InputError(fmt::format("'{}' has {} x {} pixels; the judges know {} x {}",
                                   pictures[i].path.string(), pixels.size(1), pixels.size(0), side,
                                   side));
    prompted[i].findings = judges.judge({pixels}).front();
    scores[i].merge(score_humans(*prompted[i].findings, *prompted[i].row));
    progress.advance();
  }
  progress.end();
}

std::vector<ScoredPicture> in_repeats(const std::vector<LabelledPicture>& pictures,
                                      const std::vector<PromptedPicture>& prompted,
                                      const std::vector<Scores>& scores) {
  std::vector<ScoredPicture> all;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const WantedPicture& row = *prompted[i].row;
    const std::optional<int64_t> seed = pictures[i].seed ? pictures[i].seed : row.seed;
    all.push_back({.method = pictures[i].method,
                   .unit = std::to_string(row.repeat),
                   .twin = fmt::format("{}\n{}", seed ? std::to_string(*seed) : "", row.prompt),
                   .scores = scores[i]});
  }
  return all;
}

std::vector<ScoreTable> prompt_tables(const std::vector<ScoredPicture>& pictures,
                                      const std::vector<PromptedPicture>& prompted,
                                      const std::optional<std::string>& baseline) {
  std::vector<ScoreTable> tables{
      tabulate(pictures, {.baseline = baseline, .title = "All", .unit = Unit::kRepeat})};
  for (const TableRow& row : tables.front().differences)
    if (row.estimates.empty())
      throw ConfigError(fmt::format(
          "--baseline {}: '{}' has no picture of the same prompt and seed", *baseline, row.method));
  std::map<std::string, std::vector<ScoredPicture>> groups;
  for (size_t i = 0; i < pictures.size(); ++i)
    groups[prompted[i].row->group()].push_back(pictures[i]);
  if (groups.size() == 1) return tables;
  for (const auto& [group, members] : groups) {
    const bool has_baseline = std::ranges::any_of(
        members, [&](const ScoredPicture& picture) { return picture.method == baseline; });
    tables.push_back(tabulate(members, {.baseline = has_baseline ? baseline : std::nullopt,
                                        .title = group,
                                        .unit = Unit::kRepeat}));
  }
  return tables;
}

Json prompted_json(const PromptedPicture& picture) {
  const WantedPicture& row = *picture.row;
  Json json{{"group", row.group()}, {"repeat", row.repeat}};
  if (!picture.findings) return json;
  Json faces = Json::array(), hands = Json::array();
  for (const JudgedFace& face : picture.findings->faces) {
    faces.push_back(part_json(face.part));
    faces.back()["wrong_parts"] = face.wrong_parts;
  }
  for (const JudgedHand& hand : picture.findings->hands) {
    hands.push_back(part_json(hand.part));
    hands.back()["gesture"] = hand.is_whole() ? Json(hand.gesture) : Json();
    hands.back()["fingers"] = hand.is_whole() ? Json(hand.num_fingers) : Json();
  }
  json.update({{"wanted_faces", row.num_faces()},
               {"wanted_hands", row.num_hands()},
               {"wanted_fingers", row.fingers ? Json(*row.fingers) : Json()},
               {"faces", faces},
               {"hands", hands}});
  return json;
}

}  // namespace molar::cli
