/// Standard output: results only, written at once, errors noticed.
#pragma once

#include <string_view>

#include "molar/io/json_config.h"

namespace molar::cli {

/// Opens closed standard descriptors on /dev/null, so that no file of ours gets their numbers. A
/// closed standard output stays unwritable: a result that nobody can receive is an error.
void open_closed_descriptors();

/// Writes all of `bytes`. Throws Error with the system's reason. Where the reader has gone away the
/// process ends as SIGPIPE ends it: without a word.
void write_result(std::string_view bytes);
void write_result_line(std::string_view line);
/// One object, on one line. Bytes that are no UTF-8, as file names may have, are replaced.
void write_result_json(const Json& json);

bool stdout_is_terminal();
bool stderr_is_terminal();

}  // namespace molar::cli
