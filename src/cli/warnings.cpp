#include "warnings.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace molar::cli {
namespace {

constexpr size_t kMaxRepeated = 20;

}  // namespace

void repeat_warnings(const LogSession& log, bool quiet) {
  const std::vector<std::string> warnings = log.warnings();
  if (quiet || warnings.empty()) return;
  spdlog::info("done, with {} warning{}:", warnings.size(), warnings.size() == 1 ? "" : "s");
  for (size_t i = 0; i < std::min(warnings.size(), kMaxRepeated); ++i)
    spdlog::info("  {}", warnings[i]);
  if (warnings.size() > kMaxRepeated)
    spdlog::info("  ... and {} more", warnings.size() - kMaxRepeated);
}

}  // namespace molar::cli
