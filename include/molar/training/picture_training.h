/// What trainings on pictures have in common: how they can be killed and continued, and what they
/// come to.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "molar/adapters/lora_writer.h"

namespace molar {

/// Each --sample-every steps and after the last: the result as it would be written now.
using SampleSink = std::function<void(int64_t step, const LoraFileContent&)>;

/// "dog.safetensors" -> "dog.checkpoint.safetensors": where an unfinished training keeps what it
/// learnt, moments and step, until the result is written.
///
/// Note [Resuming]. The metadata of result and checkpoint hold the run's description: the options
/// that decide the result, digests of pictures, captions and model. The same run again: where the
/// result is there, nothing is left to do; else the checkpoint is gone on from; else it starts.
/// Another run under the same name is refused, unless `start_anew`.
std::filesystem::path checkpoint_path(const std::filesystem::path& output);

}  // namespace molar
