#include "molar/core/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <mutex>

namespace molar {

class LogSession::WarningSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  std::vector<std::string> warnings() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return warnings_;
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (message.level == spdlog::level::warn)
      warnings_.emplace_back(message.payload.data(), message.payload.size());
  }
  void flush_() override {}

 private:
  std::vector<std::string> warnings_;
};

LogSession::LogSession(Verbosity verbosity) : warning_sink_(std::make_shared<WarningSink>()) {
  const auto stderr_sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  stderr_sink->set_pattern("%^%l%$: %v");
  stderr_sink->set_level(verbosity == Verbosity::kQuiet     ? spdlog::level::err
                         : verbosity == Verbosity::kVerbose ? spdlog::level::debug
                                                            : spdlog::level::info);
  auto logger = std::make_shared<spdlog::logger>(
      "molar", std::initializer_list<spdlog::sink_ptr>{stderr_sink, warning_sink_});
  logger->set_level(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

LogSession::~LogSession() = default;

std::vector<std::string> LogSession::warnings() const { return warning_sink_->warnings(); }

}  // namespace molar
