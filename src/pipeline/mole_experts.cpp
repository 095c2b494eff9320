#include "molar/pipeline/mole_experts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <algorithm>
#include <utility>

#include "molar/core/error.h"
#include "molar/io/hash.h"
#include "molar/models/module_index.h"

namespace molar {
namespace {

// By then the picture's parts are in their places, and most steps of drawing them are ahead.
constexpr double kFindRegionsAt = 0.4;

std::map<std::string, double> strengths_of(const MoleRequest& request) {
  std::map<std::string, double> strengths;
  for (const auto& [name, weight] : request.strengths) strengths[name] = weight;
  return strengths;
}

void check_names(const MoleRequest& request, const std::vector<std::string>& experts) {
  for (const ExpertStrength& one : request.strengths)
    if (std::ranges::find(experts, one.name) == experts.end())
      throw ConfigError(fmt::format("--expert {}={}: wanted one of the experts {}", one.name,
                                    one.weight, fmt::join(experts, ", ")));
}

}  // namespace

SampledExperts::SampledExperts(UNet2DConditionModel unet, const ExpertSet& set,
                               const MoleRequest& request, ExpertRegions regions, MapSize latents,
                               bool record_gates)
    : unet_(std::move(unet)),
      request_(request),
      regions_(std::move(regions)),
      latents_(latents),
      recorder_(unet_->config(), latents),
      experts_(adaptable_layers(*unet_), set,
               {.strengths = strengths_of(request), .cap = request.cap.value_or(0)}) {
  if (record_gates) trace_ = GateTrace{.experts = set.gates.experts, .steps = {}};
  if (record_gates || regions_.waits())
    experts_.observe([this](const std::string& module, const GateValues& values) {
      recorder_.observe(module, values);
    });
  experts_.act(false);
}

void SampledExperts::begin_picture() {
  if (trace_) trace_->steps.clear();
  last_ = {};
  regions_.forget_found();
  apply_regions();
}

void SampledExperts::apply_regions() {
  if (regions_.empty()) return;
  std::map<std::pair<int64_t, int64_t>, ExpertMask> by_size;  // shared by the layers of a level
  experts_.mask([&](const std::string& module) -> ExpertMask {
    const auto size = token_map_size(unet_->config(), module, latents_);
    if (!size) return {};  // it reads text: the learnt gate alone
    const auto [mask, is_new] = by_size.try_emplace({size->height, size->width});
    if (is_new)
      mask->second = ExpertMask(regions_.tokens(*size).to(unet_->parameters().front().device()));
    return mask->second;
  });
}

void SampledExperts::begin_evaluation(double share) {
  experts_.act(share >= request_.start && share < request_.end);
  if (share < kFindRegionsAt || !regions_.waits() || last_.levels.empty()) return;
  for (const std::string& name : regions_.find_in(last_))
    spdlog::warn("--region {}=auto: its gates are alike everywhere; it acts on the whole picture",
                 name);
  apply_regions();
}

void SampledExperts::end_evaluation() {
  GateStep step = recorder_.take();
  if (regions_.waits()) last_ = step;
  if (trace_) trace_->steps.push_back(std::move(step));
}

std::optional<GateTrace> SampledExperts::take_trace() {
  if (!trace_) return std::nullopt;
  GateTrace taken = *trace_;
  trace_->steps.clear();
  return taken;
}

MoleExperts::MoleExperts(const MoleRequest& request, const ModelLayers& layers, MapSize picture_px,
                         const LoadLoraOptions& options)
    : request_(request), set_(load_expert_set(request.folder, layers, options)) {
  check_names(request, set_->gates.experts);
  regions_.emplace(request.regions, set_->gates.experts, picture_px);
  spdlog::info("experts {}: {} on {} layers", request.folder.string(),
               fmt::format("{}", fmt::join(set_->gates.experts, ", ")), set_->gates.layers.size());
}

std::unique_ptr<SampledExperts> MoleExperts::attach_to(UNet2DConditionModel unet, MapSize latents,
                                                       bool record_gates) const {
  if (!set_) return nullptr;
  return std::make_unique<SampledExperts>(std::move(unet), *set_, request_, *regions_, latents,
                                          record_gates);
}

std::vector<ExpertRecord> MoleExperts::records() const {
  if (!set_) return {};
  std::vector<ExpertRecord> records;
  const auto strengths = strengths_of(request_);
  for (const Expert& expert : set_->experts) {
    const auto found = strengths.find(expert.name);
    records.push_back({.name = expert.name,
                       .file = expert.weights.path,
                       .weight = found == strengths.end() ? 1.0 : found->second,
                       .sha256 = sha256_safetensors_data(expert.weights.path)});
  }
  records.push_back({.name = kGatesRecord,
                     .file = set_->gates.path,
                     .weight = 1.0,
                     .sha256 = sha256_safetensors_data(set_->gates.path)});
  return records;
}

}  // namespace molar
