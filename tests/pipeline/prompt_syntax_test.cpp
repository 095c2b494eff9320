#include "molar/pipeline/prompt_syntax.h"

#include <gtest/gtest.h>

#include <cmath>

namespace molar {
namespace {

struct Case {
  std::string text;
  std::vector<PromptPiece> pieces;
};

void expect_pieces(const std::string& text, const std::vector<PromptPiece>& wanted) {
  const auto found = parse_prompt(text, PromptSyntax::kA1111);
  ASSERT_EQ(found.size(), wanted.size()) << text;
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(found[i].text, wanted[i].text) << text << " piece " << i;
    EXPECT_NEAR(found[i].weight, wanted[i].weight, 1e-9) << text << " piece " << i;
    EXPECT_EQ(found[i].is_break, wanted[i].is_break) << text << " piece " << i;
  }
}

TEST(ParsePrompt, ReadsPlainSyntaxAsItStands) {
  const auto pieces = parse_prompt("a (cat:1.2) \\( BREAK", PromptSyntax::kPlain);
  ASSERT_EQ(pieces.size(), 1U);
  EXPECT_EQ(pieces[0].text, "a (cat:1.2) \\( BREAK");
  EXPECT_EQ(pieces[0].weight, 1.0);
}

TEST(ParsePrompt, RoundBracketsMultiplyAndSquareOnesDivide) {
  expect_pieces("(important)", {{"important", 1.1}});
  expect_pieces("[less]", {{"less", 1 / 1.1}});
  expect_pieces("a ((b)) c", {{"a ", 1.0}, {"b", 1.21}, {" c", 1.0}});
}

TEST(ParsePrompt, ExplicitWeightsMultiplyThroughNesting) {
  expect_pieces("a (b:1.3) c", {{"a ", 1.0}, {"b", 1.3}, {" c", 1.0}});
  expect_pieces("((b:2):1.5)", {{"b", 3.0}});
  expect_pieces("(a: +.5 )", {{"a", 0.5}});
  expect_pieces("(a:-1)", {{"a", -1.0}});
}

TEST(ParsePrompt, EscapedBracketsAreText) {
  expect_pieces("\\(literal\\]", {{"(literal]", 1.0}});
  expect_pieces("a\\\\b", {{"a\\b", 1.0}});
}

TEST(ParsePrompt, UnclosedBracketsActToTheEnd) {
  expect_pieces("(unbalanced", {{"unbalanced", 1.1}});
  expect_pieces("a [b", {{"a ", 1.0}, {"b", 1 / 1.1}});
}

TEST(ParsePrompt, ClosingBracketsWithoutOpeningOnesAreText) {
  expect_pieces("a) b] c:1.2)", {{"a) b] c:1.2)", 1.0}});
}

TEST(ParsePrompt, MixesEverything) {
  expect_pieces("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", {{"a ", 1.0},
                                                                        {"house", 1.3 * 1.1 * 1.1},
                                                                        {" ", 1.1},
                                                                        {"on", 1.0},
                                                                        {" a ", 1.1},
                                                                        {"hill", 0.55},
                                                                        {", sun, ", 1.1},
                                                                        {"sky", std::pow(1.1, 4)},
                                                                        {".", 1.1}});
}

TEST(ParsePrompt, BreakIsAWordOfItsOwnInUpperCase) {
  expect_pieces("a BREAK b", {{"a", 1.0}, {"", 1.0, true}, {"b", 1.0}});
  expect_pieces("aBREAK BREAKb break", {{"aBREAK BREAKb break", 1.0}});
  expect_pieces("(a BREAK b)", {{"a", 1.1}, {"", 1.1, true}, {"b", 1.1}});
}

TEST(ParsePrompt, AColonWithoutAWeightIsText) {
  expect_pieces("time 12:30 (x:y)", {{"time 12:30 ", 1.0}, {"x:y", 1.1}});
  expect_pieces("(x:1.2.3)", {{"x:1.2.3", 1.1}});
}

TEST(ParsePrompt, EmptyTextIsOneEmptyPiece) { expect_pieces("", {{"", 1.0}}); }

}  // namespace
}  // namespace molar
