#include "progress_display.h"

#include <fmt/format.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <string>

#include "result_stream.h"

namespace molar::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kBarWidth = 30;
constexpr double kPlainInterval_s = 30;

void write_stderr(std::string_view text) {
  (void)!::write(STDERR_FILENO, text.data(), text.size());
}

/// What both displays count.
struct Task {
  std::string label;
  int64_t total = 0, done = 0;
  std::string state = "";  // what the task says of itself, with the comma before it
  Clock::time_point start = Clock::now();

  double elapsed_s() const { return std::chrono::duration<double>(Clock::now() - start).count(); }
  double remaining_s() const {
    return done == 0 ? 0
                     : elapsed_s() / static_cast<double>(done) * static_cast<double>(total - done);
  }
  std::string speed() const {
    const double step_s = done == 0 ? 0 : elapsed_s() / static_cast<double>(done);
    return step_s < 1 ? fmt::format("{:.1f} it/s", step_s > 0 ? 1 / step_s : 0)
                      : fmt::format("{:.1f} s/it", step_s);
  }
};

class BarProgress final : public ProgressSink {
 public:
  BarProgress()
      : hide_(std::make_shared<HideSink>(*this)), show_(std::make_shared<ShowSink>(*this)) {
    auto& sinks = spdlog::default_logger()->sinks();
    sinks.insert(sinks.begin(), hide_);
    sinks.push_back(show_);
  }
  ~BarProgress() override {
    auto& sinks = spdlog::default_logger()->sinks();
    std::erase(sinks, hide_);
    std::erase(sinks, show_);
    hide();
  }
  BarProgress(const BarProgress&) = delete;
  BarProgress& operator=(const BarProgress&) = delete;

  void begin(std::string_view label, int64_t total) override {
    task_ = {std::string(label), total};
    active_ = true;
    show();
  }
  void advance() override {
    ++task_.done;
    show();
  }
  void describe(std::string_view state) override { task_.state = fmt::format(", {}", state); }
  void end() override {
    hide();
    active_ = false;
  }

 private:
  // Stand before and after the log's own sink: a log line takes the bar's place, the bar moves
  // below it.
  class HideSink final : public spdlog::sinks::base_sink<std::mutex> {
   public:
    explicit HideSink(BarProgress& bar) : bar_(bar) {}

   private:
    void sink_it_(const spdlog::details::log_msg&) override { bar_.hide(); }
    void flush_() override {}
    BarProgress& bar_;
  };
  class ShowSink final : public spdlog::sinks::base_sink<std::mutex> {
   public:
    explicit ShowSink(BarProgress& bar) : bar_(bar) {}

   private:
    void sink_it_(const spdlog::details::log_msg&) override { bar_.show(); }
    void flush_() override {}
    BarProgress& bar_;
  };

  void hide() const {
    if (active_) write_stderr("\r\x1b[K");
  }
  void show() const {
    if (!active_ || task_.total <= 0) return;
    const auto filled = static_cast<int>(task_.done * kBarWidth / task_.total);
    std::string bar;
    for (int i = 0; i < kBarWidth; ++i) bar += i < filled ? "#" : "-";
    std::string line =
        fmt::format("\r\x1b[K{} [{}] {}/{}", task_.label, bar, task_.done, task_.total);
    if (task_.done > 0)
      line +=
          fmt::format(" {} {} left{}", task_.speed(), clock_text(task_.remaining_s()), task_.state);
    write_stderr(line);
  }

  Task task_;
  bool active_ = false;
  spdlog::sink_ptr hide_, show_;
};

/// A line at each 10 %, and at least each 30 s.
class PlainProgress final : public ProgressSink {
 public:
  void begin(std::string_view label, int64_t total) override {
    task_ = {std::string(label), total};
    last_percent_ = 0;
    last_line_ = Clock::now();
  }
  void advance() override {
    ++task_.done;
    if (task_.total <= 0) return;
    const int64_t percent = task_.done * 100 / task_.total;
    const double silent_s = std::chrono::duration<double>(Clock::now() - last_line_).count();
    if (percent / 10 == last_percent_ / 10 && silent_s < kPlainInterval_s) return;
    last_percent_ = percent;
    last_line_ = Clock::now();
    write_stderr(fmt::format("{}: step {}/{}, {} %, {}, {} left{}\n", task_.label, task_.done,
                             task_.total, percent, task_.speed(), clock_text(task_.remaining_s()),
                             task_.state));
  }
  void describe(std::string_view state) override { task_.state = fmt::format(", {}", state); }
  void end() override {}

 private:
  Task task_;
  int64_t last_percent_ = 0;
  Clock::time_point last_line_;
};

bool terminal_rewrites_lines() {
  const char* terminal = std::getenv("TERM");
  return stderr_is_terminal() && terminal != nullptr && std::string_view(terminal) != "dumb";
}

}  // namespace

std::string clock_text(double seconds) {
  const auto total = static_cast<int64_t>(std::llround(seconds));
  if (total >= 3600)
    return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

std::unique_ptr<ProgressSink> make_progress_display(ProgressStyle style) {
  if (style == ProgressStyle::kAuto)
    style = terminal_rewrites_lines() ? ProgressStyle::kBar : ProgressStyle::kPlain;
  if (style == ProgressStyle::kBar) return std::make_unique<BarProgress>();
  if (style == ProgressStyle::kPlain) return std::make_unique<PlainProgress>();
  return std::make_unique<NoProgress>();
}

}  // namespace molar::cli
