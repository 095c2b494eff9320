/// A model that sees pictures, behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, ...).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "molar/core/cancellation.h"
#include "molar/core/error.h"

namespace molar {

/// The judge could not be reached, refused, or said nothing that can be used.
using NetworkError = ErrorOf<ExitCode::kNetwork>;

struct ChatEndpointOptions {
  /// "http://localhost:8000/v1"; "/chat/completions" is appended where it does not end with it.
  std::string url;
  std::string model;  ///< the server's name of the model
  /// Holds the key that is sent as a bearer token; none: no key is sent.
  std::optional<std::filesystem::path> key_file;
  int64_t num_retries = 5;   ///< after the first try
  double timeout_s = 60;     ///< of one try, from the connection to the last byte; (0, 3600]
  int64_t max_tokens = 256;  ///< the answer's
  double backoff_s = 1.0;    ///< wait before the first retry, doubled for each one after; [0, 60]

  /// Throws ConfigError.
  void validate() const;
};

struct ChatText {
  std::string text;
};
struct ChatPicture {
  std::string png;  ///< the file's bytes
};
using ChatPart = std::variant<ChatText, ChatPicture>;

/// Immutable; may be used by several threads at once. The key appears in no message and no log.
/// Proxies are taken from the environment, as curl does.
class ChatEndpoint {
 public:
  /// Whether this build has libcurl (cmake -DMOLAR_JUDGE=ON).
  static bool available();

  /// Reads the key. Connects to nothing yet. Throws ConfigError: options, or a build without
  /// libcurl; FileError: the key file is missing, empty, or holds more than one word.
  explicit ChatEndpoint(ChatEndpointOptions options);

  /// One user message of these parts, temperature 0. The same parts give the same bytes.
  std::string request_body(const std::vector<ChatPart>& parts) const;

  /// Sends `body` and returns the assistant's text, "" where the model gave none. Connection
  /// failures, time-outs and HTTP 408, 409, 425, 429 and 5xx are tried again, after `backoff_s`,
  /// twice that, ... or what the server's Retry-After says if that is longer; never more than 60 s.
  /// Redirects are not followed: the key stays with its host. Throws NetworkError, and StoppedError
  /// within 0.1 s of a cancellation.
  std::string ask(const std::string& body, const CancellationToken& cancellation) const;

 private:
  ChatEndpointOptions options_;
  std::string url_;  // with "/chat/completions"
  std::string key_;  // empty: none
};

}  // namespace molar
