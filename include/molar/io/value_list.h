/// Several values in one text: the axis of a grid.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace molar {

/// "1,2,3": the cells of one CSV row, with quotes around values that hold a comma; or a range
/// "FIRST:LAST:STEP" of plain decimal numbers, LAST included where a step lands on it: 0.4:1.2:0.2
/// is 0.4, 0.6, 0.8, 1.0, 1.2, exactly, with as many decimals as its longest number has. `source`
/// starts every message. Throws ConfigError: no value, an empty or a repeated one, broken quotes, a
/// step of zero or of the wrong sign, more than `max_values`.
std::vector<std::string> parse_value_list(std::string_view text, const std::string& source,
                                          size_t max_values);

}  // namespace molar
