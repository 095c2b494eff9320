/// judge_server.py as a process of the test, and scripts for it to play.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "molar/io/json_config.h"
#include "support/temp_folder.h"

namespace molar::test {

/// One for the whole process: Python takes longer to start than most tests.
class JudgeServer {
 public:
  static JudgeServer& get() {
    static JudgeServer server;
    return server;
  }
  JudgeServer(const JudgeServer&) = delete;
  JudgeServer& operator=(const JudgeServer&) = delete;

  int port() const { return port_; }
  const TempFolder& folder() const { return folder_; }

 private:
  JudgeServer() {
    ::setenv("no_proxy", "127.0.0.1", 1);
    int to_server[2], from_server[2];
    if (::pipe2(to_server, O_CLOEXEC) != 0 || ::pipe2(from_server, O_CLOEXEC) != 0)
      throw std::runtime_error("no pipes");
    std::string script = MOLAR_SOURCE_DIR "/tests/evaluation/judge_server.py";
    std::string folder = folder_.path().string();
    std::string python = "python3", isolated = "-ISB";
    char* arguments[] = {python.data(), isolated.data(), script.data(), folder.data(), nullptr};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, to_server[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, from_server[1], STDOUT_FILENO);
    const int failed = ::posix_spawnp(&process_, "python3", &actions, nullptr, arguments, environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(to_server[0]);
    ::close(from_server[1]);
    stdin_ = to_server[1];
    std::string port;
    char byte = 0;
    while (failed == 0 && ::read(from_server[0], &byte, 1) == 1 && byte != '\n') port += byte;
    ::close(from_server[0]);
    if (port.empty()) throw std::runtime_error("the judge's server did not start");
    port_ = std::stoi(port);
  }
  ~JudgeServer() {
    ::close(stdin_);
    ::waitpid(process_, nullptr, 0);
  }

  TempFolder folder_;
  pid_t process_ = 0;
  int stdin_ = -1, port_ = 0;
};

/// The steps of judge_server.py for one test, under a URL of their own.
class JudgeScript {
 public:
  explicit JudgeScript(const Json& script) {
    static int count = 0;
    name_ = "script" + std::to_string(count++);
    JudgeServer::get().folder().file(name_ + ".json", script.dump());
  }

  std::string url() const {
    return "http://127.0.0.1:" + std::to_string(JudgeServer::get().port()) + "/" + name_ + "/v1";
  }
  /// What arrived so far: path, authorization, content_type, body.
  std::vector<Json> requests() const {
    std::ifstream log(JudgeServer::get().folder() / (name_ + ".log"));
    std::vector<Json> requests;
    for (std::string line; std::getline(log, line);) requests.push_back(Json::parse(line));
    return requests;
  }
  size_t num_requests() const { return requests().size(); }

 private:
  std::string name_;
};

/// Braces alone could be a script or its first step.
inline Json steps(std::initializer_list<Json> list) {
  Json array = Json::array();
  for (const Json& step : list) array.push_back(step);
  return array;
}

/// One step for each text.
inline Json answers(const std::vector<std::string>& texts) {
  Json array = Json::array();
  for (const std::string& text : texts) array.push_back({{"answer", text}});
  return array;
}

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace molar::test
