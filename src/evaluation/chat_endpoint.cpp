#include "molar/evaluation/chat_endpoint.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <string_view>
#include <thread>

#include "molar/core/markup.h"
#include "molar/core/text.h"
#include "molar/io/file.h"
#include "molar/io/json_config.h"

#ifdef MOLAR_JUDGE
#include <curl/curl.h>
#endif

namespace molar {
namespace {

constexpr std::string_view kPath = "/chat/completions";
constexpr size_t kMaxReplyBytes = 8 << 20;
constexpr uint64_t kMaxKeyBytes = 64 << 10;
constexpr double kMaxWait_s = 60;
constexpr std::chrono::milliseconds kSlice{50};  // a cancellation is seen within it

struct HttpRequest {
  const std::string& url;
  const std::string& key;
  const std::string& body;
  double timeout_s;
};

/// What came back: a status and a body, or the reason why nothing did.
struct HttpReply {
  int64_t status = 0;  // 0: none
  std::string body;
  std::string reason;        // where there is no status
  bool may_recover = false;  // worth another try
  double retry_after_s = 0;
  std::string redirect_url;
};

bool is_success(int64_t status) { return status >= 200 && status < 300; }

#ifdef MOLAR_JUDGE

bool may_recover(int64_t status) {
  return status == 408 || status == 409 || status == 425 || status == 429 || status >= 500;
}

/// Errors of the moment; others (a malformed URL, a certificate) stay as they are.
constexpr CURLcode kPassingErrors[] = {CURLE_COULDNT_RESOLVE_PROXY,
                                       CURLE_COULDNT_RESOLVE_HOST,
                                       CURLE_COULDNT_CONNECT,
                                       CURLE_OPERATION_TIMEDOUT,
                                       CURLE_PARTIAL_FILE,
                                       CURLE_SSL_CONNECT_ERROR,
                                       CURLE_GOT_NOTHING,
                                       CURLE_SEND_ERROR,
                                       CURLE_RECV_ERROR,
                                       CURLE_HTTP2,
                                       CURLE_HTTP2_STREAM};

void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK)
    throw Error(fmt::format("libcurl cannot start: {}", curl_easy_strerror(started)));
}

/// One POST. Run by curl's multi interface, which lets us look at the token between its steps; the
/// progress callback of the easy one comes once a second while a server is silent.
class HttpPost {
 public:
  explicit HttpPost(const HttpRequest& request) {
    if (!easy_ || !multi_) throw MemoryError("libcurl cannot start a transfer");
    add_header("Content-Type: application/json");
    add_header("Expect:");  // else curl waits a second before it sends a large body
    if (!request.key.empty()) add_header("Authorization: Bearer " + request.key);
    set(CURLOPT_URL, request.url.c_str());
#if LIBCURL_VERSION_NUM >= 0x075700  // 7.87; before it, validate() alone holds to the protocols
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_QUICK_EXIT, 1L);  // a stop does not wait for a name server
#endif
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_NOSIGNAL, 1L);  // signals are the process's, not a thread's
    set(CURLOPT_TIMEOUT_MS, std::max(1L, std::lround(request.timeout_s * 1000)));
    set(CURLOPT_HTTPHEADER, headers_.get());
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(CURLOPT_POSTFIELDS, request.body.data());
    set(CURLOPT_ERRORBUFFER, reason_);
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, this);
    if (curl_multi_add_handle(multi_.get(), easy_.get()) != CURLM_OK)
      throw MemoryError("libcurl cannot start a transfer");
  }
  ~HttpPost() { curl_multi_remove_handle(multi_.get(), easy_.get()); }
  HttpPost(const HttpPost&) = delete;
  HttpPost& operator=(const HttpPost&) = delete;

  HttpReply run(const CancellationToken& cancellation) {
    int num_running = 1;
    while (num_running > 0) {
      cancellation.stop_here_if_requested();
      CURLMcode code = curl_multi_perform(multi_.get(), &num_running);
      if (code == CURLM_OK && num_running > 0)
        code = curl_multi_poll(multi_.get(), nullptr, 0, static_cast<int>(kSlice.count()), nullptr);
      if (code != CURLM_OK) throw Error(fmt::format("libcurl: {}", curl_multi_strerror(code)));
    }
    int num_left = 0;
    const CURLMsg* message = curl_multi_info_read(multi_.get(), &num_left);
    return reply(message == nullptr ? CURLE_FAILED_INIT : message->data.result);
  }

 private:
  template <typename T>
  void set(CURLoption option, T value) {
    if (curl_easy_setopt(easy_.get(), option, value) != CURLE_OK)
      throw Error("internal: libcurl does not know an option");
  }
  void add_header(const std::string& line) {
    curl_slist* const first = curl_slist_append(headers_.get(), line.c_str());
    if (first == nullptr) throw MemoryError("libcurl cannot start a transfer");
    if (!headers_) headers_.reset(first);  // later lines do not change it
  }
  static size_t on_body(char* bytes, size_t, size_t num_bytes, void* self_pointer) {
    auto* const self = static_cast<HttpPost*>(self_pointer);
    if (self->body_.size() + num_bytes > kMaxReplyBytes) {
      self->too_large_ = true;
      return 0;  // ends the transfer
    }
    self->body_.append(bytes, num_bytes);
    return num_bytes;
  }

  HttpReply reply(CURLcode result) {
    if (too_large_)
      return {.reason = fmt::format("an answer of more than {} MiB", kMaxReplyBytes >> 20)};
    if (result != CURLE_OK)
      return {.reason = reason_[0] != '\0' ? reason_ : curl_easy_strerror(result),
              .may_recover = std::find(std::begin(kPassingErrors), std::end(kPassingErrors),
                                       result) != std::end(kPassingErrors)};
    long status = 0;
    curl_off_t retry_after_s = 0;
    char* redirect_url = nullptr;
    curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy_.get(), CURLINFO_RETRY_AFTER, &retry_after_s);
    curl_easy_getinfo(easy_.get(), CURLINFO_REDIRECT_URL, &redirect_url);
    return {.status = status,
            .body = std::move(body_),
            .may_recover = may_recover(status),
            .retry_after_s = static_cast<double>(retry_after_s),
            .redirect_url = redirect_url == nullptr ? "" : redirect_url};
  }

  // What the handles point to comes before them, so that it lives longer.
  char reason_[CURL_ERROR_SIZE] = "";
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers_{nullptr,
                                                                       &curl_slist_free_all};
  std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)> multi_{curl_multi_init(),
                                                               &curl_multi_cleanup};
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> easy_{curl_easy_init(), &curl_easy_cleanup};
  std::string body_;
  bool too_large_ = false;
};

HttpReply post(const HttpRequest& request, const CancellationToken& cancellation) {
  start_curl();
  return HttpPost(request).run(cancellation);
}

#else

HttpReply post(const HttpRequest&, const CancellationToken&) {
  throw Error("internal: a judge in a build without one");
}

#endif

Json json_part(const ChatPart& part) {
  if (const auto* text = std::get_if<ChatText>(&part))
    return {{"type", "text"}, {"text", text->text}};
  return {
      {"type", "image_url"},
      {"image_url", {{"url", "data:image/png;base64," + base64(std::get<ChatPicture>(part).png)}}}};
}

/// A string, or a list of parts of which some have a text; null where the model said nothing.
std::optional<std::string> text_of_content(const Json& content) {
  if (content.is_null()) return "";
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return std::nullopt;
  std::string text;
  for (const Json& part : content)
    if (part.is_object() && part.contains("text") && part["text"].is_string())
      text += part["text"].get<std::string>();
  return text;
}

/// nullopt: no chat completion.
std::optional<std::string> assistant_text(const std::string& body) {
  static const Json::json_pointer kContent("/choices/0/message/content");
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains(kContent)) return std::nullopt;
  return text_of_content(json[kContent]);
}

/// What a server says about an error: its JSON's error.message, else the whole body.
std::string complaint(const std::string& body) {
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  for (const char* place : {"/error/message", "/error", "/message", "/detail"}) {
    const Json::json_pointer pointer(place);
    if (json.is_object() && json.contains(pointer) && json[pointer].is_string())
      return json[pointer].get<std::string>();
  }
  return body;
}

/// Servers quote the key that they refuse.
std::string without_key(std::string text, const std::string& key) {
  if (key.empty()) return text;
  for (size_t at = text.find(key); at != std::string::npos; at = text.find(key, at + 3))
    text.replace(at, key.size(), "***");
  return text;
}

/// Of a server's text, for a message. Without the key before it is cut: no half of it is left.
std::string excerpt(std::string text, const std::string& key) {
  constexpr size_t kMaxExcerptBytes = 200;
  return one_line(without_key(std::move(text), key), kMaxExcerptBytes);
}

/// What a user can do about it; empty where nothing is known.
std::string advice(const HttpReply& reply) {
  switch (reply.status) {
    case 0:
      return reply.may_recover ? "; is the server running at that URL?" : "";
    case 401:
    case 403:
      return "; check the key file";
    case 404:
      return "; check the URL and the model's name";
    default:
      return reply.may_recover ? "; try again later" : "";
  }
}

/// What went wrong, in one line without the key.
std::string describe(const HttpReply& reply, const std::string& key) {
  if (reply.status == 0) return excerpt(reply.reason, key);
  std::string text = fmt::format("HTTP {}", reply.status);
  if (is_success(reply.status)) text += ", wanted a chat completion";
  if (!reply.redirect_url.empty())
    text +=
        fmt::format(" to {}, wanted the URL that it leads to", excerpt(reply.redirect_url, key));
  if (!reply.body.empty()) text += fmt::format(", \"{}\"", excerpt(complaint(reply.body), key));
  return text;
}

void wait(double duration_s, const CancellationToken& cancellation) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(duration_s));
  while (true) {
    cancellation.stop_here_if_requested();
    const auto left = end - Clock::now();
    if (left <= Clock::duration::zero()) return;
    std::this_thread::sleep_for(std::min<Clock::duration>(left, kSlice));
  }
}

std::string read_key(const std::filesystem::path& path) {
  const std::string text = read_file(path, kMaxKeyBytes);
  constexpr const char* kBlanks = " \t\r\n";
  const size_t start = text.find_first_not_of(kBlanks);
  if (start == std::string::npos)
    throw FileError(fmt::format("key file '{}': wanted one key, found nothing", path.string()));
  std::string key = text.substr(start, text.find_last_not_of(kBlanks) - start + 1);
  // A line break would end the header, and what follows would be headers too.
  if (!std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c <= '~'; }))
    throw FileError(
        fmt::format("key file '{}': wanted one key of printable ASCII characters, found blanks, "
                    "line breaks or other characters inside",
                    path.string()));
  return key;
}

}  // namespace

void ChatEndpointOptions::validate() const {
  const size_t scheme = url.starts_with("http://") ? 7 : url.starts_with("https://") ? 8 : 0;
  // Without the URL in the message, which may hold a password.
  if (url.substr(scheme, url.find('/', scheme) - scheme).find('@') != std::string::npos)
    throw ConfigError("the judge's URL holds a user name; wanted a URL without, and a key file");
  if (scheme == 0 || url.size() == scheme)
    throw ConfigError(
        fmt::format("the judge's URL '{}': wanted http://HOST/v1 or https://HOST/v1", url));
  if (url.find_first_of("?#") != std::string::npos)
    throw ConfigError(fmt::format(
        "the judge's URL '{}': wanted a base to append '{}' to, found '?' or '#'", url, kPath));
  if (model.empty()) throw ConfigError("the judge's model has no name; wanted the server's name");
  if (num_retries < 0)
    throw ConfigError(fmt::format("the judge's retries: wanted 0 or more, found {}", num_retries));
  if (!(timeout_s > 0 && timeout_s <= 3600))
    throw ConfigError(fmt::format(
        "the judge's time-out: wanted more than 0 and at most 3600 s, found {}", timeout_s));
  if (max_tokens < 1)
    throw ConfigError(fmt::format("the judge's tokens: wanted 1 or more, found {}", max_tokens));
  if (!(backoff_s >= 0 && backoff_s <= kMaxWait_s))
    throw ConfigError(
        fmt::format("the judge's back-off: wanted 0 to {} s, found {}", kMaxWait_s, backoff_s));
}

bool ChatEndpoint::available() {
#ifdef MOLAR_JUDGE
  return true;
#else
  return false;
#endif
}

ChatEndpoint::ChatEndpoint(ChatEndpointOptions options) : options_(std::move(options)) {
  if (!available()) throw ConfigError("this build has no judge; wanted cmake -DMOLAR_JUDGE=ON");
  options_.validate();
  url_ = options_.url.substr(0, options_.url.find_last_not_of('/') + 1);
  if (!url_.ends_with(kPath)) url_ += kPath;
  if (options_.key_file) key_ = read_key(*options_.key_file);
}

std::string ChatEndpoint::request_body(const std::vector<ChatPart>& parts) const {
  Json content = Json::array();
  for (const ChatPart& part : parts) content.push_back(json_part(part));
  const Json request = {{"model", options_.model},
                        {"messages", {{{"role", "user"}, {"content", std::move(content)}}}},
                        {"temperature", 0},
                        {"max_tokens", options_.max_tokens}};
  return dump_json(request);
}

std::string ChatEndpoint::ask(const std::string& body,
                              const CancellationToken& cancellation) const {
  for (int64_t num_tries = 1;; ++num_tries) {
    cancellation.stop_here_if_requested();
    const HttpReply reply = post({url_, key_, body, options_.timeout_s}, cancellation);
    if (is_success(reply.status))
      if (std::optional<std::string> text = assistant_text(reply.body)) return *text;

    const std::string what = describe(reply, key_);
    if (!reply.may_recover)
      throw NetworkError(fmt::format("judge {}: {}{}", url_, what, advice(reply)));
    if (num_tries > options_.num_retries)
      throw NetworkError(fmt::format("judge {}: no answer in {} {}; the last one: {}{}", url_,
                                     num_tries, num_tries == 1 ? "try" : "tries", what,
                                     advice(reply)));
    const double backoff_s = options_.backoff_s * std::exp2(static_cast<double>(num_tries - 1));
    const double wait_s = std::min(std::max(backoff_s, reply.retry_after_s), kMaxWait_s);
    spdlog::info("judge: {}; again in {:.3g} s ({} of {} retries)", what, wait_s, num_tries,
                 options_.num_retries);
    wait(wait_s, cancellation);
  }
}

}  // namespace molar
