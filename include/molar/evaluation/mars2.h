/// MARS²: a model that sees pictures judges whether a merge kept its subject and its style.
/// Source: Shenaj et al. 2024 (LoRA.rar), arXiv:2412.05148. The questions are worded anew.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "molar/core/cancellation.h"
#include "molar/core/progress.h"
#include "molar/evaluation/answer_cache.h"
#include "molar/evaluation/chat_endpoint.h"

namespace molar {

/// A picture's file and those of what it is compared with, of any size.
struct Mars2Case {
  std::filesystem::path picture;
  std::vector<std::filesystem::path> subject_references, style_references;
  std::string style_name;  ///< as its folder is called; see style_words
};

/// nullopt: no references of that kind.
struct Mars2Verdict {
  std::optional<bool> subject, style;
  /// Both approved: what the method calls a correct picture. nullopt unless both were judged.
  std::optional<bool> both() const;
};

struct Mars2Options {
  int64_t num_jobs = 4;  ///< questions asked at once; [1, 64]

  /// Throws ConfigError.
  void validate() const;
};

/// "watercolor_painting2" -> "watercolor painting": without one digit at the end, '_' and '-' as
/// spaces.
std::string style_words(std::string_view style_name);

/// nullopt: neither yes nor no. Yes wins where both words occur, in any case.
/// Differs from reference: which finds "yes" inside other words too ("No, its eyes are green").
std::optional<bool> parse_yes_no(std::string_view answer);

/// Asks one yes/no question for each picture and reference, and is content where more than half of
/// the references of a kind are answered with yes. Pictures longer than 512 px are reduced to that
/// for the judge. An answer that is neither yes nor no counts as no; one warning says how many did.
/// Every answer is in the cache as soon as it is given, and what the cache holds is not asked
/// again. One verdict per case, in order. Throws ConfigError: options; InputError: a picture that
/// cannot be read, style references without a style's name; what ask() and the cache throw: then no
/// more questions are asked.
std::vector<Mars2Verdict> judge_mars2(const std::vector<Mars2Case>& cases,
                                      const ChatEndpoint& endpoint, AnswerCache& cache,
                                      const Mars2Options& options, ProgressSink& progress,
                                      const CancellationToken& cancellation);

}  // namespace molar
