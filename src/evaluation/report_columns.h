/// What records say, as columns of a report.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "molar/io/json_config.h"

namespace molar {

using ColumnValues = std::map<std::string, std::string>;  // name -> text; absent: not set

/// A request's options as short texts: files by their names without folder and extension, LoRAs
/// with strengths ("ink@0.8"). Whatever the JSON holds, there is a text for it.
ColumnValues request_columns(const Json& request);
/// The same of a picture's record, with what "auto" and the model's own settings stood for.
ColumnValues record_columns(const Json& record);

/// Names of all columns, the ones that people ask for first.
std::vector<std::string> column_order(const std::vector<ColumnValues>& rows);

}  // namespace molar
