/// Text of one option -> its value. Every error is a ConfigError: option, wanted, found.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "molar/core/atomic_file.h"
#include "molar/io/prompt_list.h"
#include "molar/pipeline/batch_folder.h"
#include "molar/pipeline/generation_request.h"

namespace molar::cli {

/// How `--progress` shows a long task.
enum class ProgressStyle { kAuto, kBar, kPlain, kNone };

/// Specialised in value_parsing.cpp for each type that an option has. `option` is its long name
/// with the dashes. Syntax alone: ranges that belong to a request are
/// GenerationRequest::validate's.
template <typename T>
T parse_value(const std::string& option, const std::string& text);

template <>
std::string parse_value(const std::string& option, const std::string& text);
template <>
std::filesystem::path parse_value(const std::string& option, const std::string& text);
template <>
int64_t parse_value(const std::string& option, const std::string& text);
template <>
uint64_t parse_value(const std::string& option, const std::string& text);
template <>
double parse_value(const std::string& option, const std::string& text);
/// true, false, 1, 0, on, off, yes, no.
template <>
bool parse_value(const std::string& option, const std::string& text);
/// FILE[@W[:BLOCK=W,...]]: what follows the last '@' is the strength where it is a number. A path
/// that itself ends like that is meant where only it exists, or with its strength behind it
/// ("a@2@1").
template <>
LoraUse parse_value(const std::string& option, const std::string& text);
/// NAME=W.
template <>
ExpertStrength parse_value(const std::string& option, const std::string& text);
/// NAME=x,y,width,height, NAME=auto or NAME=MASK; a mask called auto is ./auto.
template <>
ExpertRegion parse_value(const std::string& option, const std::string& text);
template <>
PromptSyntax parse_value(const std::string& option, const std::string& text);
template <>
OnExist parse_value(const std::string& option, const std::string& text);
template <>
ProgressStyle parse_value(const std::string& option, const std::string& text);
template <>
PromptListFormat parse_value(const std::string& option, const std::string& text);
/// I/N, 0 <= I < N.
template <>
Shard parse_value(const std::string& option, const std::string& text);

/// {"face,hand", "foot"} -> {"face", "hand", "foot"}
std::vector<std::string> comma_separated(const std::vector<std::string>& lists);

}  // namespace molar::cli
