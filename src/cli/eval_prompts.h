/// What `molar eval --prompts` and `--human` add: pictures by folder, what the judges find in them,
/// tables over repeats.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "molar/core/cancellation.h"
#include "molar/core/progress.h"
#include "molar/evaluation/human_judges.h"
#include "molar/evaluation/labelled_picture.h"
#include "molar/evaluation/prompt_set.h"
#include "molar/evaluation/score_table.h"
#include "molar/io/json_config.h"

namespace molar::cli {

/// The row that a picture is measured by, and what the judges find in it where they are asked.
struct PromptedPicture {
  const WantedPicture* row = nullptr;
  std::optional<HumanFindings> findings;
};

/// Each folder is a method, unless the layout names methods. `baseline`, which is a folder then, is
/// written as the method is, and its pictures are found too.
std::vector<LabelledPicture> find_prompted_pictures(const std::vector<std::string>& run_folders,
                                                    std::optional<std::string>& baseline,
                                                    const std::optional<PictureLayout>& layout);

/// One for each picture, whose prompt is set where it had no record. `prompts` must outlive the
/// result. Throws InputError for a picture without a row.
std::vector<PromptedPicture> match_prompts(const PromptSet& prompts,
                                           std::vector<LabelledPicture>& pictures);

/// Asks the judges, and adds what follows to `scores`. Throws InputError for a picture whose row
/// does not say what it shows, or of another size than the judges know.
void judge_humans(std::vector<PromptedPicture>& prompted, const HumanJudges& judges,
                  const std::vector<LabelledPicture>& pictures, std::vector<Scores>& scores,
                  ProgressSink& progress, const CancellationToken& cancellation);

/// For tables: pictures of one repeat belong together, those of one prompt and seed are twins.
std::vector<ScoredPicture> in_repeats(const std::vector<LabelledPicture>& pictures,
                                      const std::vector<PromptedPicture>& prompted,
                                      const std::vector<Scores>& scores);

/// All pictures, then each kind of prompt, where there are several. Throws ConfigError where a
/// method shares no prompt and seed with the baseline.
std::vector<ScoreTable> prompt_tables(const std::vector<ScoredPicture>& pictures,
                                      const std::vector<PromptedPicture>& prompted,
                                      const std::optional<std::string>& baseline);

/// For a picture's line.
Json prompted_json(const PromptedPicture& picture);

}  // namespace molar::cli
