#include "run_options.h"

#include "molar/core/error.h"
#include "option_binder.h"

namespace molar::cli {

Verbosity RunOptions::verbosity() const {
  if (quiet && verbose) throw ConfigError("-q and -v exclude each other; give one of them");
  return quiet ? Verbosity::kQuiet : verbose ? Verbosity::kVerbose : Verbosity::kNormal;
}

void register_run_options(CLI::App& app, RunOptions& options) {
  OptionBinder output(app, "Talking");
  output.flag("--json", options.json, "Results as JSON, one object per line");
  output.flag("-q,--quiet", options.quiet, "Errors only on standard error");
  output.flag("-v,--verbose", options.verbose, "More on standard error");
  output.value("--config", options.config, "FILE",
               "TOML file of options: key = value, keys as the long names");
}

}  // namespace molar::cli
