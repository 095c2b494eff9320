/// The part of TOML that a file of options needs: `key = value` lines, [section] headers, comments.
///
/// CLI11's own reader cuts a string at '#', splits it at commas and passes over what it cannot
/// read; prompts hold all of that, so the text is read here, strictly, and the values go to CLI11's
/// options.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace molar::cli {

/// One `key = value`. Numbers and booleans stay as they are written; underscores between digits go.
struct ConfigEntry {
  std::string section;  ///< of the last [section] header; empty before the first
  std::string key;
  std::vector<std::string> values;  ///< one, or an array's
  int line = 0;                     ///< from 1
};

/// Basic and literal strings, integers, floats, booleans, and arrays of these (over several lines
/// too). Throws ConfigError "<source>:<line>: ..." for everything else, and for a key given twice.
std::vector<ConfigEntry> parse_toml(std::string_view text, const std::string& source);

}  // namespace molar::cli
