/// Text and bytes inside other formats: HTML, Markdown, data URIs.
#pragma once

#include <string>
#include <string_view>

namespace molar {

/// RFC 4648, with padding.
std::string base64(std::string_view bytes);

/// `text` on one line, each byte of `special` (ASCII) as a numeric character reference: text of
/// files and people inside HTML ("<>&\"") and Markdown tables ("|").
std::string escaped_markup(std::string_view text, std::string_view special);

}  // namespace molar
