#include "molar/evaluation/prompt_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>

#include "molar/core/error.h"
#include "molar/io/json_config.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr std::pair<std::string_view, PictureKind> kKinds[] = {
    {"face", PictureKind::kFace}, {"hand", PictureKind::kHand}, {"scene", PictureKind::kScene}};
constexpr int64_t kMostPeople = 100, kMostFingers = 10;

PictureKind parse_kind(const std::string& text) {
  for (const auto& [name, kind] : kKinds)
    if (text == name) return kind;
  throw InputError(fmt::format("'kind' is '{}', wanted face, hand or scene", text));
}

void check_range(const char* field, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most)
    throw InputError(fmt::format("'{}' is {}, wanted {} to {}", field, value, least, most));
}

/// Throws InputError or FileError without the line, which the caller knows.
WantedPicture parse_row(const std::string& line) {
  const Json json = parse_json(line, "row");
  const JsonConfig fields(json, "row");
  WantedPicture row;
  row.prompt = fields.get<std::string>("prompt");
  if (const auto kind = fields.get_optional<std::string>("kind")) row.kind = parse_kind(*kind);
  row.people = fields.get_or("people", int64_t{1});
  row.fingers = fields.get_optional<std::vector<int64_t>>("fingers");
  row.seed = fields.get_optional<int64_t>("seed");
  row.repeat = fields.get_or("repeat", int64_t{0});
  fields.refuse_unread_keys();
  check_range("people", row.people, 1, row.kind == PictureKind::kScene ? kMostPeople : 1);
  check_range("repeat", row.repeat, 0, 1000);
  if (!row.fingers) return row;
  for (const int64_t fingers : *row.fingers) check_range("fingers", fingers, 0, kMostFingers);
  if (std::ssize(*row.fingers) > row.num_hands())
    throw InputError(fmt::format("'fingers' has {} numbers, but the picture {} hands",
                                 row.fingers->size(), row.num_hands()));
  return row;
}

/// The number at the start of a file's name.
std::optional<int64_t> leading_number(const fs::path& path) {
  const std::string name = path.filename().string();
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || number < 1) return std::nullopt;
  return number;
}

}  // namespace

int64_t WantedPicture::num_faces() const {
  return !kind || kind == PictureKind::kHand ? 0 : people;
}

int64_t WantedPicture::num_hands() const {
  if (!kind || kind == PictureKind::kFace) return 0;
  return kind == PictureKind::kHand ? 1 : 2 * people;
}

std::string WantedPicture::group() const {
  for (const auto& [name, known] : kKinds)
    if (kind == known)
      return kind == PictureKind::kScene ? fmt::format("{} of {}", name, people)
                                         : std::string(name);
  return "";
}

PromptSet PromptSet::load(const fs::path& file) {
  std::ifstream stream(file);
  if (!stream)
    throw InputError(
        fmt::format("'{}' cannot be read; wanted a file of prompts, JSON lines", file.string()));
  PromptSet set;
  set.file_ = file;
  int64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      set.prompts_.push_back(parse_row(line));
    } catch (const Error& error) {
      throw InputError(fmt::format("'{}', line {}: {}", file.string(), number, error.what()));
    }
    const WantedPicture& row = set.prompts_.back();
    if (!set.rows_.emplace(std::pair(row.prompt, row.seed), set.prompts_.size() - 1).second)
      throw InputError(fmt::format("'{}', line {}: the same prompt and seed stand in row {}",
                                   file.string(), number,
                                   set.rows_.at({row.prompt, row.seed}) + 1));
  }
  if (set.prompts_.empty()) throw InputError(fmt::format("'{}' has no prompts", file.string()));
  return set;
}

const WantedPicture& PromptSet::of(const LabelledPicture& picture) const {
  if (!picture.prompt) {
    const auto number = leading_number(picture.path);
    if (number && *number <= std::ssize(prompts_))
      return prompts_[static_cast<size_t>(*number - 1)];
    throw InputError(
        fmt::format("'{}' carries no molar record, and its name starts with no number from 1 to "
                    "{}, a row of '{}'",
                    picture.path.string(), prompts_.size(), file_.string()));
  }
  for (const auto& seed : {picture.seed, std::optional<int64_t>()})
    if (const auto found = rows_.find({*picture.prompt, seed}); found != rows_.end())
      return prompts_[found->second];
  throw InputError(fmt::format("'{}': no row of '{}' has its prompt '{}'{}", picture.path.string(),
                               file_.string(), *picture.prompt,
                               picture.seed ? fmt::format(" with seed {}", *picture.seed) : ""));
}

}  // namespace molar
