/// The record that every picture carries: a JSON object, schema 1, and A1111's `parameters` text.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "molar/io/image.h"
#include "molar/io/json_config.h"
#include "molar/pipeline/generation_request.h"

namespace molar {

/// What drawing one picture took, on the wall clock. Not part of the record: two runs of one
/// request write the same bytes.
struct RunTimings {
  double load_s = 0, text_encoding_s = 0, decode_s = 0;
  double first_step_s = 0;        ///< from process start to the start of the first model evaluation
  std::vector<double> step_s;     ///< one entry per model evaluation
  int64_t peak_memory_bytes = 0;  ///< of the process so far
  /// {"timings": {...}, "peak_memory_bytes": n}
  Json to_json() const;
};

/// What a file contributed to a picture.
struct LoraRecord {
  std::filesystem::path file;
  std::string role;  ///< "subject", "style", "lora"
  double weight = 1.0;
  std::string blocks;  ///< as block_strengths_text has it; empty: all alike
  std::string sha256;  ///< of the bytes after the header, as A1111 and kohya count it
  std::string key_family;
  int64_t num_layers = 0, num_skipped_keys = 0;
  std::string trigger_words, licence;
};

/// The name of the gates' own record.
inline constexpr const char* kGatesRecord = "gates";

/// An expert of MoLE, or the gates of all.
struct ExpertRecord {
  std::string name;  ///< "face", ..., or kGatesRecord
  std::filesystem::path file;
  double weight = 1.0;
  std::string sha256;  ///< as LoraRecord has it
};

/// Everything needed to draw the picture again.
struct RunRecord {
  GenerationRequest
      request;  ///< as resolved: sizes, strength and this picture's seed are set, count = 1
  ModelRequest model;
  std::string model_family;  ///< "SD 1.x", ...
  std::string sampler;  ///< a name of sampler_names(), the model's own where none was asked for
  std::string scheduler_class;
  std::string merge_method;  ///< as resolved; empty without two roles
  std::vector<LoraRecord> loras;
  std::vector<ExpertRecord> experts;
  int64_t num_chunks = 1, num_tokens = 0;

  /// {"schema": 1, "request": {...}, "model": {...}, ...}, all paths absolute
  Json to_json() const;
  /// A1111's infotext: prompt, "Negative prompt: ...", then `key: value` pairs; values with ',' ':'
  /// or a newline are JSON strings. Grammar: docs of `parameters` in README.
  std::string parameters_text() const;
  /// The chunks of the PNG: `parameters` and `molar`.
  PngText png_text() const;
};

/// Reads the request and model back from a picture that molar made.
/// Throws InputError: no PNG, no `molar` chunk, unknown schema or keys, wrong types. Paths of older
/// pictures may be relative, and stay so.
struct RecordedRequest {
  GenerationRequest request;
  ModelRequest model;
};
RecordedRequest read_recorded_request(const std::filesystem::path& png);

}  // namespace molar
