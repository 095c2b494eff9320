#include "toml_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdint>

#include "molar/core/error.h"
#include "molar/core/text.h"

namespace molar::cli {
namespace {

bool is_bare_key(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
}

class TomlReader {
 public:
  TomlReader(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  std::vector<ConfigEntry> read() {
    if (valid_utf8(text_) != text_) fail("wanted UTF-8 text");
    std::vector<ConfigEntry> entries;
    std::string section;
    for (skip_blank_lines(); !done(); skip_blank_lines()) {
      if (peek() == '[') {
        section = read_section();
      } else {
        entries.push_back(read_entry(section));
        refuse_repetition(entries);
      }
      end_line();
    }
    return entries;
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw ConfigError(fmt::format("{}:{}: {}", source_, line_, message));
  }

  bool done() const { return at_ >= text_.size(); }
  char peek() const { return done() ? '\0' : text_[at_]; }
  char take() {
    const char c = peek();
    if (c == '\n') ++line_;
    ++at_;
    return c;
  }

  void skip_spaces() {
    while (!done() && (peek() == ' ' || peek() == '\t')) take();
  }
  void skip_comment() {
    if (peek() != '#') return;
    while (!done() && peek() != '\n') take();
  }
  void skip_blank_lines() {
    for (;;) {
      skip_spaces();
      skip_comment();
      if (peek() == '\r') take();
      if (done() || peek() != '\n') return;
      take();
    }
  }
  void end_line() {
    skip_spaces();
    skip_comment();
    if (peek() == '\r') take();
    if (!done() && peek() != '\n')
      fail(fmt::format("wanted the end of the line, found '{}'", text_.substr(at_, 20)));
  }

  std::string read_key_part() {
    if (peek() == '"' || peek() == '\'') return read_string();
    std::string key;
    while (!done() && is_bare_key(peek())) key += take();
    if (key.empty()) fail(fmt::format("wanted 'key = value', found '{}'", text_.substr(at_, 20)));
    return key;
  }

  std::string read_key() {
    std::string key = read_key_part();
    if (peek() == '.')
      fail(fmt::format("dotted key '{}.': write a [{}] section instead", key, key));
    return key;
  }

  std::string read_section() {
    take();
    if (peek() == '[') fail("arrays of tables ([[...]]) are not part of a file of options");
    skip_spaces();
    std::string section = read_key_part();
    while (peek() == '.') {  // [train.lora]
      section += take();
      section += read_key_part();
    }
    skip_spaces();
    if (take() != ']') fail("wanted ']' after the section's name");
    return section;
  }

  ConfigEntry read_entry(const std::string& section) {
    ConfigEntry entry{section, {}, {}, line_};
    entry.key = read_key();
    skip_spaces();
    if (peek() != '=') fail(fmt::format("wanted '=' after '{}'", entry.key));
    take();
    skip_spaces();
    if (peek() == '[') {
      entry.values = read_array();
    } else {
      entry.values.push_back(read_value());
    }
    return entry;
  }

  std::vector<std::string> read_array() {
    take();
    std::vector<std::string> values;
    for (;;) {
      skip_blank_lines();
      if (peek() == ']') break;
      if (!done()) values.push_back(read_value());
      skip_blank_lines();
      if (done()) fail("array without ']'");
      if (peek() == ',') {
        take();
      } else if (peek() != ']') {
        fail("wanted ',' or ']' in an array");
      }
    }
    take();
    return values;
  }

  std::string read_value() {
    if (peek() == '"' || peek() == '\'') return read_string();
    if (peek() == '[' || peek() == '{')
      fail("nested arrays and inline tables are not part of a file of options");
    std::string word;
    while (!done() && std::string_view(" \t\r\n,]#").find(peek()) == std::string_view::npos)
      word += take();
    std::erase(word, '_');
    const bool number = !word.empty() &&
                        word.find_first_not_of("+-.0123456789eE") == std::string::npos &&
                        word.find_first_of("0123456789") != std::string::npos;
    if (word != "true" && word != "false" && !number)
      fail(fmt::format("value '{}': wanted a number, true, false, or text in quotes", word));
    return word;
  }

  std::string read_string() {
    const char quote = take();
    if (text_.substr(at_, 2) == std::string(2, quote))
      fail("strings over several lines are not read; use \\n");
    std::string value;
    for (;;) {
      if (done() || peek() == '\n') fail("text without its closing quote");
      const char c = take();
      if (c == quote) return value;
      if (c == '\\' && quote == '"')
        append_escape(value);
      else
        value += c;
    }
  }

  void append_escape(std::string& value) {
    const char c = take();
    static constexpr std::pair<char, char> kEscapes[] = {
        {'n', '\n'}, {'t', '\t'}, {'"', '"'}, {'\\', '\\'}, {'r', '\r'}, {'b', '\b'}, {'f', '\f'}};
    for (const auto& [name, character] : kEscapes) {
      if (c != name) continue;
      value += character;
      return;
    }
    if (c != 'u' && c != 'U')
      fail(fmt::format("unknown escape '\\{}'; a path with '\\' goes into '...'", c));
    uint32_t code = 0;
    for (int digit = 0; digit < (c == 'u' ? 4 : 8); ++digit) {
      const char hex = take();
      if (std::isxdigit(static_cast<unsigned char>(hex)) == 0)
        fail("wanted 4 hex digits after \\u, 8 after \\U");
      code = code * 16 +
             static_cast<uint32_t>(std::isdigit(static_cast<unsigned char>(hex)) != 0
                                       ? hex - '0'
                                       : std::tolower(static_cast<unsigned char>(hex)) - 'a' + 10);
    }
    append_utf8(value, code);
  }

  void append_utf8(std::string& value, uint32_t code) {
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) fail("\\u names no character");
    const auto tail = [&](int shift) {
      value += static_cast<char>(0x80 | ((code >> shift) & 0x3F));
    };
    if (code < 0x80) {
      value += static_cast<char>(code);
    } else if (code < 0x800) {
      value += static_cast<char>(0xC0 | (code >> 6));
      tail(0);
    } else if (code < 0x10000) {
      value += static_cast<char>(0xE0 | (code >> 12));
      tail(6);
      tail(0);
    } else {
      value += static_cast<char>(0xF0 | (code >> 18));
      tail(12);
      tail(6);
      tail(0);
    }
  }

  void refuse_repetition(const std::vector<ConfigEntry>& entries) const {
    const ConfigEntry& last = entries.back();
    for (size_t i = 0; i + 1 < entries.size(); ++i)
      if (entries[i].section == last.section && entries[i].key == last.key)
        fail(fmt::format("'{}' was already given in line {}", last.key, entries[i].line));
  }

  std::string_view text_;
  const std::string& source_;
  size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

std::vector<ConfigEntry> parse_toml(std::string_view text, const std::string& source) {
  return TomlReader(text, source).read();
}

}  // namespace molar::cli
