#include "report_page.h"

#include <fmt/format.h>

#include "molar/core/error.h"
#include "molar/core/markup.h"

namespace molar {

std::string script_json(const Json& json) {
  // ASCII alone: U+2028, which ends a line of a script, is written as \u2028.
  const std::string text =
      json.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c == '<' || c == '>' || c == '&')  // only inside strings: JSON itself has none of them
      out += fmt::format("\\u{:04x}", static_cast<int>(c));
    else
      out += c;
  }
  return out;
}

std::string fill_report_page(const std::string& title, const Json& data) {
  std::string page;
  std::string_view rest = kReportPageTemplate;
  const std::string words = escaped_markup(title, "<>&\"");
  while (!rest.empty()) {
    constexpr std::string_view kTitle = "@title@", kData = "@data@";
    const size_t at = std::min(rest.find(kTitle), rest.find(kData));
    page += rest.substr(0, at);
    if (at == std::string_view::npos) break;
    const bool is_title = rest.substr(at).starts_with(kTitle);
    page += is_title ? words : script_json(data);
    rest.remove_prefix(at + (is_title ? kTitle : kData).size());
  }
  return page;
}

}  // namespace molar
