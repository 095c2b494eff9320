#include "molar/pipeline/mole_experts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <torch/torch.h>

#include <algorithm>
#include <utility>

#include "molar/core/error.h"
#include "molar/io/file.h"
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
      is_observed_(record_gates || regions_.waits()),
      experts_(adaptable_layers(*unet_), set,
               {.strengths = strengths_of(request), .cap = request.cap.value_or(0)}) {
  if (record_gates) trace_ = GateTrace{.experts = set.gates.experts, .steps = {}};
  if (is_observed_)
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
  experts_.act(acts_at(share));
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

MoleExperts::MoleExperts(const MoleRequest& request, std::shared_ptr<const ExpertFolder> folder,
                         MapSize picture_px)
    : request_(request), folder_(std::move(folder)) {
  const std::vector<std::string>& names = folder_->set.gates.experts;
  check_names(request, names);
  regions_.emplace(request.regions, names, picture_px);
  std::vector<std::string> parts = folder_->sha256;
  for (const ExpertRegion& region : request.regions)
    if (const auto* mask = std::get_if<std::filesystem::path>(&region.where))
      parts.push_back(file_state(*mask));
  key_ = fmt::format("{} {}x{} {}", GenerationRequest{.mole = request}.to_json().dump(),
                     picture_px.width, picture_px.height, fmt::join(parts, " "));
}

std::unique_ptr<SampledExperts> MoleExperts::attach_to(UNet2DConditionModel unet, MapSize latents,
                                                       bool record_gates) const {
  if (!folder_) return nullptr;
  return std::make_unique<SampledExperts>(std::move(unet), folder_->set, request_, *regions_,
                                          latents, record_gates);
}

std::vector<ExpertRecord> MoleExperts::records() const {
  if (!folder_) return {};
  std::vector<ExpertRecord> records;
  const auto strengths = strengths_of(request_);
  const std::vector<Expert>& experts = folder_->set.experts;
  for (size_t i = 0; i < experts.size(); ++i) {
    const auto found = strengths.find(experts[i].name);
    records.push_back({.name = experts[i].name,
                       .file = experts[i].weights.path,
                       .weight = found == strengths.end() ? 1.0 : found->second,
                       .sha256 = folder_->sha256[i]});
  }
  records.push_back({.name = kGatesRecord,
                     .file = folder_->set.gates.path,
                     .weight = 1.0,
                     .sha256 = folder_->sha256.back()});
  return records;
}

}  // namespace molar
