/// Lists of prompts with settings of their own: CSV, JSON lines, plain text with kohya's options.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "molar/io/text_position.h"

namespace molar {

enum class PromptListFormat {
  kCsv,        ///< RFC 4180; the first row names the columns
  kJsonLines,  ///< one object a line
  kText,       ///< one prompt a line, then --n negative --w 512 ...; '#' starts a comment
};

/// One setting of a row. Keys are spelt as long options are: lower case, '-' for '_', and what
/// other tools call them (scale, sample_steps) under their name here.
struct PromptCell {
  std::string key;
  std::vector<std::string> values;  ///< one; a JSON list's, or those that ';' separates in a cell
                                    ///< of a list (kListKeys)
  TextPosition position;
};

struct PromptRow {
  TextPosition position;
  std::vector<PromptCell> cells;  ///< without empty ones: they inherit
  std::string name;               ///< what messages call it, where it stands in no list; else empty
  std::string problem;  ///< "prompts.csv:3:1: ...", where the row itself is broken; else empty
};

struct PromptList {
  std::string source;               ///< what messages call it
  std::vector<PromptCell> columns;  ///< CSV: its header, without values
  std::vector<PromptRow> rows;
};

/// The key that a column of this name has.
std::string prompt_key(std::string_view name);
/// The values that a cell of this key and text has.
std::vector<std::string> prompt_values(const std::string& key, std::string_view text);

/// By the name's extension: .csv; .jsonl, .ndjson, .json; .txt. Another name, or standard input: by
/// the first character, '{' for JSON lines, else CSV.
PromptListFormat guess_format(std::string_view name, std::string_view text);

/// `text` may start with a byte order mark. Throws InputError "<source>:<line>:<column>: ..." for
/// what makes the whole list unreadable: no UTF-8, broken quotes, a header with empty or repeated
/// names, no rows.
PromptList parse_prompt_list(std::string_view text, const std::string& source,
                             PromptListFormat format);

}  // namespace molar
