/// Progress on standard error: a bar with the remaining time on a terminal, plain lines elsewhere.
#pragma once

#include <memory>

#include "molar/core/progress.h"
#include "value_parsing.h"

namespace molar::cli {

/// kAuto: a bar where standard error is a terminal that can rewrite a line, else plain lines.
/// While a bar is shown, log lines are written above it: construct it after the LogSession.
std::unique_ptr<ProgressSink> make_progress_display(ProgressStyle style);

/// "0:07", "12:34", "3:25:45".
std::string clock_text(double seconds);

}  // namespace molar::cli
