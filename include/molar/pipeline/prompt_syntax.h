/// Prompt text -> weighted pieces. The A1111 grammar is the one people have in their fingers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "molar/pipeline/generation_request.h"

namespace molar {

/// A run of text with one weight. `is_break` marks BREAK: the chunk of 75 tokens ends here.
struct PromptPiece {
  std::string text;
  double weight = 1.0;
  bool is_break = false;
};

/// kPlain: one piece, the text as it stands.
/// kA1111: (x) multiplies by 1.1, [x] divides by it, (x:1.3) sets the factor, nesting multiplies;
/// \( \) \[ \] \\ are literal; brackets left open act to the end; BREAK is upper case, a word of
/// its own. Never throws: text that is no markup stands for itself.
std::vector<PromptPiece> parse_prompt(std::string_view text, PromptSyntax syntax);

}  // namespace molar
