#include "molar/evaluation/mars2.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include "molar/core/error.h"
#include "molar/core/text.h"
#include "molar/io/hash.h"
#include "molar/io/image.h"

namespace molar {
namespace {

constexpr int64_t kLongerSide_px = 512;
constexpr std::chrono::milliseconds kSlice{20};

constexpr const char* kSubjectQuestion =
    "The first picture shows a subject. Is the subject of the second picture the same one? "
    "Look at its details, for example whether its colours match. The second picture may be drawn "
    "in quite another style: that alone is no reason to say no. Answer with one word: Yes or No.";
constexpr const char* kStyleQuestion =
    "The first picture is an example of the style \"{}\". Is the second picture made in that "
    "style? The two pictures are meant to show different things: do not compare what they show, "
    "only how they are made. Answer with one word: Yes or No.";

enum class Kind { kSubject, kStyle };

struct Question {
  size_t case_index;
  Kind kind;
  const std::filesystem::path& reference;
};

std::vector<Question> questions_of(const std::vector<Mars2Case>& cases) {
  std::vector<Question> questions;
  for (size_t i = 0; i < cases.size(); ++i) {
    for (const auto& reference : cases[i].subject_references)
      questions.push_back({i, Kind::kSubject, reference});
    if (!cases[i].style_references.empty() && style_words(cases[i].style_name).empty())
      throw InputError(
          fmt::format("'{}' has style references, but its style's name '{}' has no words",
                      cases[i].picture.string(), cases[i].style_name));
    for (const auto& reference : cases[i].style_references)
      questions.push_back({i, Kind::kStyle, reference});
  }
  return questions;
}

/// As the judge gets it.
std::string encode_for_judge(const std::filesystem::path& picture) {
  const Tensor pixels = read_image(picture);
  const int64_t height_px = pixels.size(0), width_px = pixels.size(1);
  const int64_t longer_px = std::max(height_px, width_px);
  if (longer_px <= kLongerSide_px) return encode_png(pixels, {});
  const auto reduced = [&](int64_t side_px) {
    return std::max<int64_t>(1, (side_px * kLongerSide_px + longer_px / 2) / longer_px);
  };
  return encode_png(resize(pixels, reduced(height_px), reduced(width_px)), {});
}

/// Each reference's PNG, made when it is first wanted and kept: it comes again in every case.
class EncodedReferences {
 public:
  const std::string& png(const std::filesystem::path& picture) {
    Slot& slot = slot_of(picture);
    std::call_once(slot.once, [&] { slot.png = encode_for_judge(picture); });
    return slot.png;
  }

 private:
  struct Slot {
    std::once_flag once;
    std::string png;
  };
  Slot& slot_of(const std::filesystem::path& picture) {
    const std::lock_guard lock(mutex_);
    return slots_[picture];  // elements of a map stay where they are
  }
  std::mutex mutex_;
  std::map<std::filesystem::path, Slot> slots_;
};

/// work(i) for every i in [0, count), in threads. What is thrown first ends all of them, through
/// the token that they are given, and is rethrown here; so does a stop that `cancellation` asks
/// for.
class Workers {
 public:
  using Work = std::function<void(int64_t, const CancellationToken&)>;

  Workers(int64_t count, Work work) : count_(count), work_(std::move(work)) {}

  void run(int64_t num_threads, const CancellationToken& cancellation) {
    cancellation.stop_here_if_requested();
    {
      std::vector<std::jthread> threads;
      for (int64_t k = 0; k < std::min(num_threads, count_); ++k) try {
          ++num_working_;
          threads.emplace_back([this] { work_through(); });
        } catch (const std::system_error&) {
          --num_working_;
          if (threads.empty()) throw;
          break;  // fewer threads do the same
        }
      std::unique_lock lock(mutex_);
      while (!ended_.wait_for(lock, kSlice, [&] { return num_working_ == 0; }))
        if (cancellation.requested()) stop_.request();
    }
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void work_through() {
    try {
      for (int64_t i = next_++; i < count_; i = next_++) {
        stop_.stop_here_if_requested();
        work_(i, stop_);
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      stop_.request();
    }
    const std::lock_guard lock(mutex_);
    if (--num_working_ == 0) ended_.notify_all();
  }

  const int64_t count_;
  const Work work_;
  std::atomic<int64_t> next_ = 0;
  CancellationToken stop_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::atomic<int64_t> num_working_ = 0;
  std::exception_ptr error_;
};

/// Puts single questions, to the cache before the judge. May be used by several threads.
class Interviewer {
 public:
  Interviewer(const std::vector<Mars2Case>& cases, const ChatEndpoint& endpoint, AnswerCache& cache)
      : cases_(cases), endpoint_(endpoint), cache_(cache) {}

  std::string answer(const Question& question, const CancellationToken& cancellation) {
    const std::string body = body_of(question);
    const std::string key = sha256_hex(body);
    if (std::optional<std::string> known = cache_.find(key)) return *known;
    std::string answer = endpoint_.ask(body, cancellation);
    cache_.add(key, answer);
    return answer;
  }

 private:
  std::string body_of(const Question& question) {
    const Mars2Case& judged = cases_[question.case_index];
    const std::string text =
        question.kind == Kind::kSubject
            ? kSubjectQuestion
            : fmt::format(fmt::runtime(kStyleQuestion), style_words(judged.style_name));
    return endpoint_.request_body({ChatPicture{references_.png(question.reference)},
                                   ChatPicture{encode_for_judge(judged.picture)}, ChatText{text}});
  }

  const std::vector<Mars2Case>& cases_;
  const ChatEndpoint& endpoint_;
  AnswerCache& cache_;
  EncodedReferences references_;
};

/// Lower-case words of letters.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    const auto letter = static_cast<unsigned char>(c);
    if (std::isalpha(letter) != 0)
      words.back() += static_cast<char>(std::tolower(letter));
    else if (!words.back().empty())
      words.emplace_back();
  }
  return words;
}

/// The answers of one kind about one picture.
class Votes {
 public:
  void add(bool yes) {
    num_votes_ += 1;
    num_yes_ += yes ? 1 : 0;
  }
  /// More than half; nullopt without votes.
  std::optional<bool> majority() const {
    return num_votes_ == 0 ? std::nullopt : std::optional(2 * num_yes_ > num_votes_);
  }

 private:
  int64_t num_votes_ = 0, num_yes_ = 0;
};

std::vector<Mars2Verdict> verdicts_of(size_t num_cases, const std::vector<Question>& questions,
                                      const std::vector<std::string>& answers) {
  std::vector<Votes> subject(num_cases), style(num_cases);
  int64_t num_unclear = 0;
  std::string unclear;
  for (size_t i = 0; i < questions.size(); ++i) {
    const std::optional<bool> yes = parse_yes_no(answers[i]);
    if (!yes && num_unclear++ == 0) unclear = one_line(answers[i], 80);
    (questions[i].kind == Kind::kSubject ? subject : style)[questions[i].case_index].add(
        yes.value_or(false));
  }
  if (num_unclear > 0)
    spdlog::warn(
        "{} of {} answers of the judge say neither yes nor no and count as no; one: \"{}\"",
        num_unclear, answers.size(), unclear);
  std::vector<Mars2Verdict> verdicts;
  for (size_t i = 0; i < num_cases; ++i)
    verdicts.push_back({subject[i].majority(), style[i].majority()});
  return verdicts;
}

}  // namespace

std::optional<bool> Mars2Verdict::both() const {
  return subject && style ? std::optional(*subject && *style) : std::nullopt;
}

void Mars2Options::validate() const {
  if (num_jobs < 1 || num_jobs > 64)
    throw ConfigError(fmt::format("the judge's jobs: wanted 1 to 64, found {}", num_jobs));
}

std::string style_words(std::string_view style_name) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!style_name.empty() && is_digit(style_name.back())) style_name.remove_suffix(1);
  std::string words(style_name);
  std::replace_if(words.begin(), words.end(), [](char c) { return c == '_' || c == '-'; }, ' ');
  const size_t start = words.find_first_not_of(' ');
  return start == std::string::npos ? ""
                                    : words.substr(start, words.find_last_not_of(' ') - start + 1);
}

std::optional<bool> parse_yes_no(std::string_view answer) {
  const std::vector<std::string> words = words_of(answer);
  const auto has = [&](const char* word) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  return has("yes") ? std::optional(true) : has("no") ? std::optional(false) : std::nullopt;
}

std::vector<Mars2Verdict> judge_mars2(const std::vector<Mars2Case>& cases,
                                      const ChatEndpoint& endpoint, AnswerCache& cache,
                                      const Mars2Options& options, ProgressSink& progress,
                                      const CancellationToken& cancellation) {
  options.validate();
  const std::vector<Question> questions = questions_of(cases);
  std::vector<std::string> answers(questions.size());
  Interviewer interviewer(cases, endpoint, cache);
  std::mutex progress_mutex;
  progress.begin("judging", static_cast<int64_t>(questions.size()));
  Workers(static_cast<int64_t>(questions.size()), [&](int64_t i, const CancellationToken& stop) {
    const auto index = static_cast<size_t>(i);
    answers[index] = interviewer.answer(questions[index], stop);
    const std::lock_guard lock(progress_mutex);
    progress.advance();
  }).run(options.num_jobs, cancellation);
  progress.end();
  return verdicts_of(cases.size(), questions, answers);
}

}  // namespace molar
