/// Files that come with the program, found from where the program is.
#pragma once

#include <filesystem>
#include <optional>

namespace molar::cli {

/// The bundled model, nullopt where none was installed: `toyland` in `<exe>/../models` or
/// `<exe>/../share/molar/models`.
std::optional<std::filesystem::path> bundled_model();
/// The same for a command that cannot do without a model. Throws ConfigError that says how to name
/// one.
std::filesystem::path require_bundled_model();

/// OpenCLIP's vocabulary for single-file checkpoints (clip/bpe_simple_vocab_16e6.txt.gz in the same
/// folders); an empty path where set-up did not fetch it.
std::filesystem::path clip_vocabulary();

}  // namespace molar::cli
