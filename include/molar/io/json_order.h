/// The order that a JSON text has and a Json object loses.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace molar {

/// The keys of the object `name` in the object that `text` is, from first to last; none where
/// there is no such object. `text` has passed parse_json.
std::vector<std::string> keys_in_file_order(std::string_view text, const std::string& name);

}  // namespace molar
