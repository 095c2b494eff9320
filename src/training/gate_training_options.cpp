#include "molar/training/gate_training_options.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "molar/adapters/mole/expert_gates.h"
#include "molar/core/error.h"

namespace molar {
namespace {

constexpr std::pair<const char*, LearntGates> kLearntGates[] = {
    {"both", LearntGates::kBoth}, {"local", LearntGates::kLocal}, {"global", LearntGates::kGlobal}};

}  // namespace

LearntGates parse_learnt_gates(const std::string& name) {
  for (const auto& [known, gates] : kLearntGates)
    if (name == known) return gates;
  throw ConfigError(fmt::format("--gates '{}': wanted both, local or global", name));
}

void GateTrainingOptions::validate() const {
  if (folder.empty()) throw ConfigError("no folder of experts; wanted -o DIR");
  if (pictures.empty())
    throw ConfigError("no pictures to learn from; wanted --instance-images DIR");
  if (experts.empty()) throw ConfigError("no --experts; wanted face,hand or other names");
  for (const std::string& name : experts)
    if (!is_expert_name(name))
      throw ConfigError(fmt::format(
          "--experts: '{}' is no name of an expert; wanted letters, digits, '-' and '_'", name));
  if (std::set(experts.begin(), experts.end()).size() != experts.size())
    throw ConfigError("--experts: a name is there twice");
  PictureTrainingOptions::validate();
}

Json GateTrainingOptions::to_json() const {
  Json json = PictureTrainingOptions::to_json();
  if (pictures.front().prompt) json["instance-prompt"] = *pictures.front().prompt;
  for (const auto& [name, gates] : kLearntGates)
    if (gates == learnt) json["gates"] = name;
  return json;
}

}  // namespace molar
