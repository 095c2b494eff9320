/// Expects an error of one type whose message holds each of the given pieces.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "molar/core/error.h"

namespace molar::test {

/// The message; empty (and a failure is recorded) where nothing of the type is thrown.
template <typename ErrorType, typename Action>
std::string expect_error(const Action& action, std::initializer_list<std::string_view> pieces) {
  try {
    action();
  } catch (const ErrorType& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << "a message is one line: " << message;
    for (const std::string_view piece : pieces)
      EXPECT_NE(message.find(piece), std::string::npos)
          << "'" << piece << "' is not in: " << message;
    return message;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "an error of another type: " << error.what();
    return "";
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

}  // namespace molar::test
