#include "molar/pipeline/prompt_syntax.h"

#include <cctype>
#include <charconv>
#include <optional>

namespace molar {
namespace {

constexpr double kRoundFactor = 1.1;
constexpr double kSquareFactor = 1 / 1.1;
constexpr std::string_view kBreak = "BREAK";

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

/// Bytes of multi-byte characters count as letters: BREAK inside a foreign word is no BREAK.
bool is_word(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || std::isalnum(byte) != 0 || c == '_';
}

/// ":1.3)" at the start of `text`: the factor, and how many bytes it takes.
struct ExplicitWeight {
  double factor;
  size_t length;
};

std::optional<ExplicitWeight> read_explicit_weight(std::string_view text) {
  size_t at = 1;  // past ':'
  while (at < text.size() && is_space(text[at])) ++at;
  size_t begin = at;
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
  if (begin < text.size() && text[begin] == '+') ++begin;  // from_chars takes no plus sign
  while (at < text.size() &&
         (text[at] == '.' || std::isdigit(static_cast<unsigned char>(text[at]))))
    ++at;
  double factor = 0;
  const auto [end, error] = std::from_chars(text.data() + begin, text.data() + at, factor);
  if (error != std::errc() || end != text.data() + at) return std::nullopt;
  while (at < text.size() && is_space(text[at])) ++at;
  if (at >= text.size() || text[at] != ')') return std::nullopt;
  return ExplicitWeight{factor, at + 1};
}

/// Collects pieces while the text is read from left to right.
class PromptReader {
 public:
  std::vector<PromptPiece> read(std::string_view text) {
    for (size_t at = 0; at < text.size();) at += read_token(text.substr(at));
    for (const size_t start : round_) scale_from(start, kRoundFactor);
    for (const size_t start : square_) scale_from(start, kSquareFactor);
    return joined();
  }

 private:
  /// Returns the number of bytes read, at least 1.
  size_t read_token(std::string_view rest) {
    switch (rest.front()) {
      case '\\':
        if (rest.size() > 1 && std::string_view("()[]\\").find(rest[1]) != std::string_view::npos) {
          add(rest.substr(1, 1));
          return 2;
        }
        return 1;  // a backslash before anything else is dropped, as A1111 does
      case '(':
        round_.push_back(pieces_.size());
        return 1;
      case '[':
        square_.push_back(pieces_.size());
        return 1;
      case ')':
        return close(round_, kRoundFactor, rest.substr(0, 1));
      case ']':
        return close(square_, kSquareFactor, rest.substr(0, 1));
      case ':':
        if (const auto weight = read_explicit_weight(rest); weight && !round_.empty()) {
          close(round_, weight->factor, {});
          return weight->length;
        }
        add(rest.substr(0, 1));
        return 1;
      default: {
        const size_t length = std::min(rest.find_first_of("\\()[]:"), rest.size());
        add_splitting_at_break(rest.substr(0, length));
        return length;
      }
    }
  }

  size_t close(std::vector<size_t>& open, double factor, std::string_view literal) {
    if (open.empty()) {
      add(literal);
    } else {
      scale_from(open.back(), factor);
      open.pop_back();
    }
    return 1;
  }

  void scale_from(size_t start, double factor) {
    for (size_t i = start; i < pieces_.size(); ++i) pieces_[i].weight *= factor;
  }

  void add(std::string_view text) { pieces_.push_back({std::string(text)}); }

  void add_splitting_at_break(std::string_view text) {
    size_t begin = 0, search = 0;
    for (size_t at; (at = text.find(kBreak, search)) != std::string_view::npos;) {
      const size_t after = at + kBreak.size();
      search = after;
      if ((at > 0 && is_word(text[at - 1])) || (after < text.size() && is_word(text[after])))
        continue;
      size_t end = at;
      while (end > begin && is_space(text[end - 1])) --end;
      add(text.substr(begin, end - begin));
      pieces_.push_back({{}, 1.0, true});
      begin = after;
      while (begin < text.size() && is_space(text[begin])) ++begin;
      search = begin;
    }
    add(text.substr(begin));
  }

  /// Neighbours of one weight are one piece: the tokenizer must see the text unbroken.
  std::vector<PromptPiece> joined() const {
    std::vector<PromptPiece> out;
    for (const PromptPiece& piece : pieces_) {
      if (!piece.is_break && !out.empty() && !out.back().is_break &&
          out.back().weight == piece.weight)
        out.back().text += piece.text;
      else
        out.push_back(piece);
    }
    if (out.empty()) out.push_back({});
    return out;
  }

  std::vector<PromptPiece> pieces_;
  std::vector<size_t> round_, square_;  // index of the first piece inside each open bracket
};

}  // namespace

std::vector<PromptPiece> parse_prompt(std::string_view text, PromptSyntax syntax) {
  if (syntax == PromptSyntax::kPlain) return {{std::string(text)}};
  return PromptReader().read(text);
}

}  // namespace molar
