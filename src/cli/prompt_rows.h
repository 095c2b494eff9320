/// Rows of a prompt list -> what is asked for, by the names, the parsers and the checks of flags.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "generate_options.h"
#include "molar/core/failure.h"
#include "molar/io/prompt_list.h"
#include "molar/pipeline/batch_run.h"

namespace molar::cli {

/// A sentence about a place in the list: "prompts.csv:3:7: --steps 'x': wanted a whole number".
struct ListProblem {
  std::string message;
  ExitCode exit_code = ExitCode::kInput;
};

/// Long names of the options that a row may set.
std::vector<std::string> picture_option_names();

/// Reads rows on top of the command line's options.
class PromptRows {
 public:
  /// `ignored`: columns that may be there and say nothing.
  PromptRows(const PromptList& list, const GenerateOptions& defaults,
             const std::vector<std::string>& ignored);

  /// Every row that can be asked for; the others are problems.
  const std::vector<BatchRow>& rows() const { return rows_; }
  const std::vector<ListProblem>& problems() const { return problems_; }
  int64_t num_rows() const { return std::ssize(list_.rows); }
  /// What is wrong with row `number` (from 1), at the cell that it is about.
  ListProblem describe(int64_t number, const Failure& failure) const;

 private:
  CLI::Option* option(const std::string& key) const;
  std::optional<std::string> unknown(const std::string& key) const;
  void check_columns();
  std::string origin(const PromptRow& row, const TextPosition& position) const;
  void set(const PromptRow& row, const PromptCell& cell);  // in options_
  void read(const PromptRow& row, int64_t number);
  BatchRow to_batch_row(const PromptRow& row, int64_t number);

  const PromptList& list_;
  const GenerateOptions& defaults_;
  GenerateOptions options_;  // of the row that is read now; app_ is bound to it
  CLI::App app_;
  std::set<std::string> ignored_;
  std::vector<std::string> names_;
  std::vector<BatchRow> rows_;
  std::vector<ListProblem> problems_;
};

}  // namespace molar::cli
