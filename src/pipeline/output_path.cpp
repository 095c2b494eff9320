#include "molar/pipeline/output_path.h"

#include <fmt/format.h>

#include <cctype>

#include "molar/core/error.h"

namespace molar {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxNameLength = 40;

std::string field_value(const std::string& field, const PathFields& fields,
                        const std::string& output) {
  if (field == "seed") return std::to_string(fields.seed);
  if (field == "row") return std::to_string(fields.row);
  if (field == "name") return fields.name;
  throw ConfigError(fmt::format(
      "-o '{}': unknown field '{{{}}}'; wanted {{seed}}, {{row}} or {{name}}", output, field));
}

std::string expand(const std::string& output, const PathFields& fields) {
  std::string expanded;
  for (size_t at = 0; at < output.size();) {
    const size_t open = output.find('{', at);
    expanded.append(output, at, open - at);
    if (open == std::string::npos) break;
    const size_t close = output.find('}', open);
    if (close == std::string::npos)
      throw ConfigError(fmt::format("-o '{}': '{{' without '}}'", output));
    expanded += field_value(output.substr(open + 1, close - open - 1), fields, output);
    at = close + 1;
  }
  return expanded;
}

}  // namespace

fs::path output_path(const std::string& output, const PathFields& fields) {
  if (output.empty()) throw ConfigError("-o: wanted a file, a template or a folder, found nothing");
  const fs::path path = expand(output, fields);
  if (!path.has_filename() || fs::is_directory(path))
    return path / fmt::format("molar-{}.png", fields.seed);
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (extension != ".png")
    throw ConfigError(
        fmt::format("-o '{}': pictures are written as PNG; wanted a name that ends in .png, or a "
                    "folder that ends in /",
                    output));
  return path;
}

std::string path_name(const std::string& prompt) {
  std::string name;
  for (const char c : prompt) {
    if (name.size() == kMaxNameLength) break;
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      name += c;
    else if (!name.empty() && name.back() != '-')
      name += '-';
  }
  while (!name.empty() && name.back() == '-') name.pop_back();
  return name.empty() ? "picture" : name;
}

}  // namespace molar
