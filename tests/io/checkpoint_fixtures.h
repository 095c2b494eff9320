/// Model files for tests: copies of the tiny models to break, and full-size files without content.
#pragma once

#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "molar/core/error.h"
#include "molar/io/checkpoint.h"
#include "molar/io/safetensors.h"

namespace molar {

using Shapes = std::map<std::string, std::vector<int64_t>>;

inline std::filesystem::path golden(const std::string& relative) {
  return std::filesystem::path(MOLAR_TEST_DATA_DIR) / relative;
}

inline constexpr const char* kUnetWeights = "unet/diffusion_pytorch_model.safetensors";
inline constexpr const char* kVaeWeights = "vae/diffusion_pytorch_model.safetensors";
inline constexpr const char* kTextWeights = "text_encoder/model.safetensors";

inline StateDict read_tensors(const std::filesystem::path& file) {
  return SafetensorsFile::open(file).state_dict();
}

inline std::string read_text(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline void write_text(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

inline Json read_json(const std::filesystem::path& file) { return Json::parse(read_text(file)); }

/// A tiny model as a single file: "sd15", "sd21", "sdxl".
inline std::filesystem::path tiny_file(const std::string& family) {
  return golden("single_file/" + family + "-tiny.safetensors");
}

/// Its content, to be changed and written again.
struct SingleFileContent {
  StateDict tensors;
  std::map<std::string, std::string> metadata;

  explicit SingleFileContent(const std::string& family) {
    const auto file = SafetensorsFile::open(tiny_file(family));
    tensors = file.state_dict();
    metadata = file.metadata();
  }
  void erase_prefix(const std::string& prefix) {
    std::erase_if(tensors, [&](const auto& entry) { return entry.first.starts_with(prefix); });
  }
  void rename_prefix(const std::string& from, const std::string& to) {
    StateDict renamed;
    for (const auto& [name, tensor] : tensors)
      renamed.emplace(name.starts_with(from) ? to + name.substr(from.size()) : name, tensor);
    tensors = std::move(renamed);
  }
  /// Removes one field of one component from `molar.config`.
  void forget(const std::string& component, const std::string& field) {
    Json config = Json::parse(metadata.at("molar.config"));
    config[component].erase(field);
    metadata["molar.config"] = config.dump();
  }
};

/// A test with a folder of its own that is removed at the end.
class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() {
    const auto* const test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(testing::TempDir()) /
              fmt::format("molar-{}-{}-{}", test->test_suite_name(), test->name(), ::getpid());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~CheckpointTest() override { std::filesystem::remove_all(folder_); }

  const std::filesystem::path& folder() const { return folder_; }

  /// A copy of tests/goldens/models/`name` that the test may change.
  std::filesystem::path copy_model(const std::string& name) const {
    const auto copy = folder_ / name;
    std::filesystem::copy(golden("models/" + name), copy, std::filesystem::copy_options::recursive);
    return copy;
  }

  /// Sets one field of a JSON file; a null value removes it.
  static void set_field(const std::filesystem::path& file, const std::string& key,
                        const Json& value) {
    Json content = read_json(file);
    if (value.is_null())
      content.erase(key);
    else
      content[key] = value;
    write_text(file, content.dump());
  }

  /// A .safetensors file of zeros in `folder()`: `shapes` decide its size, the disk holds only its
  /// header.
  std::filesystem::path write_hollow(const std::string& name, const Shapes& shapes,
                                     const std::map<std::string, std::string>& metadata = {},
                                     const std::string& dtype = "F16") const {
    Json header = Json::object();
    if (!metadata.empty()) header["__metadata__"] = metadata;
    uint64_t end = 0;
    for (const auto& [tensor, shape] : shapes) {
      uint64_t bytes = dtype == "F8_E4M3" ? 1 : 2;
      for (const int64_t size : shape) bytes *= static_cast<uint64_t>(size);
      header[tensor] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
      end += bytes;
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');
    std::string length(8, '\0');
    for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
    const auto file = folder_ / name;
    write_text(file, length + text);
    std::filesystem::resize_file(file, 8 + text.size() + end);
    return file;
  }

  /// A changed copy of a .safetensors file.
  std::filesystem::path write_tensors(const std::string& name, const StateDict& tensors,
                                      const std::map<std::string, std::string>& metadata) const {
    return write_safetensors(folder_ / name, OnExist::kOverwrite, tensors, metadata);
  }

 private:
  std::filesystem::path folder_;
};

/// Keeps what is logged while it lives.
class CapturedLog {
 public:
  CapturedLog() : previous_(spdlog::default_logger()) {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text_);
    sink->set_pattern("%l: %v");
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("captured", sink));
  }
  ~CapturedLog() { spdlog::set_default_logger(previous_); }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> previous_;
};

/// `action` must throw ErrorType with every one of `parts` in its one-line message.
template <typename ErrorType, typename Action>
void expect_error(const Action& action, const std::vector<std::string>& parts) {
  try {
    action();
    ADD_FAILURE() << "nothing was thrown; wanted a message with: " << parts.front();
  } catch (const ErrorType& error) {
    const std::string message = error.what();
    for (const std::string& part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << "no '" << part << "' in: " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

inline void expect_refused(const std::filesystem::path& path, const std::vector<std::string>& parts,
                           const CheckpointOptions& options = {}) {
  expect_error<FileError>([&] { open_checkpoint(path, options); }, parts);
}

/// Same names; equal values after conversion to `wanted`'s types.
inline void expect_same_tensors(const StateDict& found, const StateDict& wanted) {
  for (const auto& [name, tensor] : wanted) {
    const auto it = found.find(name);
    ASSERT_NE(it, found.end()) << name << " is missing";
    ASSERT_EQ(it->second.sizes(), tensor.sizes()) << name;
    EXPECT_TRUE(at::equal(it->second, tensor.to(it->second.scalar_type()))) << name;
  }
  for (const auto& [name, tensor] : found)
    EXPECT_TRUE(wanted.contains(name)) << name << " is too much";
}

}  // namespace molar
