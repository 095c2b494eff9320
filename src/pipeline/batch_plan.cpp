#include "molar/pipeline/batch_plan.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <span>
#include <string>

namespace molar {
namespace {

/// Two pictures with equal texts share what the text stands for.
struct SharedParts {
  std::string adapters, experts, kind, prompts;
};

SharedParts shared_parts(const GenerationRequest& r) {
  return {.adapters = adapters_key(r),
          .experts = GenerationRequest{.mole = r.mole}.to_json().dump(),
          .kind = Json{GenerationRequest{.sampler = r.sampler,
                                         .num_steps = r.num_steps,
                                         .eta = r.eta,
                                         .width_px = r.width_px,
                                         .height_px = r.height_px,
                                         .init_image = r.init_image,
                                         .mask = r.mask,
                                         .strength = r.strength,
                                         .vae_tiling = r.vae_tiling}
                           .to_json(),
                       r.guidance_scale > 1}
                      .dump(),
          .prompts = texts_key(r)};
}

/// Numbers texts in the order of their first appearance.
class Ranks {
 public:
  size_t operator()(const std::string& text) {
    return ranks_.try_emplace(text, ranks_.size()).first->second;
  }

 private:
  std::map<std::string, size_t> ranks_;
};

}  // namespace

std::vector<std::vector<size_t>> plan_batch(const std::vector<GenerationRequest>& pictures,
                                            BatchOrder order) {
  Ranks adapters, experts, kinds, prompts;
  std::vector<std::array<size_t, 4>> ranks;
  for (const GenerationRequest& picture : pictures) {
    const SharedParts parts = shared_parts(picture);
    ranks.push_back({adapters(parts.adapters), experts(parts.experts), kinds(parts.kind),
                     prompts(parts.prompts)});
  }
  std::vector<size_t> sequence(pictures.size());
  std::iota(sequence.begin(), sequence.end(), size_t{0});
  if (order == BatchOrder::kShared)
    std::ranges::stable_sort(sequence, {}, [&](size_t i) { return ranks[i]; });

  std::vector<std::vector<size_t>> groups;
  for (const size_t i : sequence) {
    const auto all_but_prompts = [&](size_t picture) {
      return std::span(ranks[picture]).first<3>();
    };
    const bool joins =
        !groups.empty() && pictures[i].init_image.empty() &&
        std::ranges::equal(all_but_prompts(groups.back().front()), all_but_prompts(i));
    if (!joins) groups.emplace_back();
    groups.back().push_back(i);
  }
  return groups;
}

}  // namespace molar
