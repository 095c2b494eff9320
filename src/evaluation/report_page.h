/// report_page.html, which the build puts into the program.
#pragma once

#include <string>
#include <string_view>

#include "molar/io/json_config.h"

namespace molar {

/// As it stands in src/evaluation/report_page.html; the build writes report_page_text.cpp.
extern const std::string_view kReportPageTemplate;

/// JSON for a <script> element: no text in it can end the element or a line of a script.
std::string script_json(const Json& json);

/// The page with its title and data. `title` is text, not markup.
std::string fill_report_page(const std::string& title, const Json& data);

}  // namespace molar
