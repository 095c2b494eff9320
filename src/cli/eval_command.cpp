#include "eval_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "eval_prompts.h"
#include "molar/core/device.h"
#include "molar/core/error.h"
#include "molar/evaluation/chat_endpoint.h"
#include "molar/evaluation/labelled_picture.h"
#include "molar/evaluation/likeness.h"
#include "molar/evaluation/mars2.h"
#include "molar/evaluation/picture_metrics.h"
#include "molar/evaluation/score_table.h"
#include "molar/io/image.h"
#include "molar/io/json_config.h"
#include "option_binder.h"
#include "progress_display.h"
#include "result_stream.h"
#include "signals.h"

namespace molar::cli {
namespace fs = std::filesystem;
namespace {

constexpr int kSchema = 1;

/// Options that nothing reads are mistakes.
void refuse_idle_options(const EvalOptions& o) {
  const bool has_encoder = o.clip || o.dino, has_judge = o.judge_url.has_value();
  const bool has_human = o.human.has_value();
  if (!has_encoder && !has_judge && !has_human && !o.hps)
    throw ConfigError(
        "nothing to measure with; wanted --clip DIR, --dino DIR, --human DIR or --judge-url URL "
        "(the bundled model has clip/, dino/ and judges/)");
  struct Row {
    const char* option;
    bool given, is_read;
    const char* reader;
  };
  const Row rows[] = {{"--truth", o.truth.has_value(), has_encoder, "--clip or --dino"},
                      {"--judge-model", o.judge_model.has_value(), has_judge, "--judge-url"},
                      {"--judge-key-file", o.judge_key_file.has_value(), has_judge, "--judge-url"},
                      {"--judge-cache", o.judge_cache.has_value(), has_judge, "--judge-url"},
                      {"--judge-jobs", o.judge_jobs.has_value(), has_judge, "--judge-url"},
                      {"--judge-retries", o.judge_retries.has_value(), has_judge, "--judge-url"},
                      {"--judge-timeout", o.judge_timeout_s.has_value(), has_judge, "--judge-url"}};
  for (const auto& [option, given, is_read, reader] : rows)
    if (given && !is_read)
      throw ConfigError(fmt::format("{} does nothing without {}", option, reader));
  if (has_human && !o.prompts)
    throw ConfigError("--human needs --prompts FILE, which says what each picture should show");
  if (has_judge && !o.judge_model)
    throw ConfigError("--judge-url needs --judge-model NAME, as the endpoint knows it");
  if (has_judge && !o.subjects && !o.styles)
    throw ConfigError(
        "--judge-url has nothing to compare with; wanted --subject-references DIR or "
        "--style-references DIR");
  if (o.on_exist && !o.output) throw ConfigError("--on-exist does nothing without -o DIR");
}

ChatEndpoint open_judge(const EvalOptions& o) {
  ChatEndpointOptions endpoint{.url = *o.judge_url, .model = *o.judge_model};
  endpoint.key_file = o.judge_key_file;
  take(o.judge_retries, endpoint.num_retries);
  take(o.judge_timeout_s, endpoint.timeout_s);
  return ChatEndpoint(endpoint);
}

void add_verdicts(const EvalOptions& o, const std::vector<LabelledPicture>& pictures,
                  std::vector<Scores>& scores, ProgressSink& progress,
                  const CancellationToken& cancellation) {
  const ChatEndpoint judge = open_judge(o);
  std::vector<Mars2Case> cases;
  for (const LabelledPicture& picture : pictures) {
    Mars2Case one{.picture = picture.path, .style_name = picture.style};
    if (o.subjects && !picture.subject.empty())
      one.subject_references = reference_pictures(*o.subjects, picture.subject);
    if (o.styles && !picture.style.empty())
      one.style_references = reference_pictures(*o.styles, picture.style);
    cases.push_back(std::move(one));
  }
  AnswerCache cache(o.judge_cache.value_or(fs::path()));
  Mars2Options options;
  take(o.judge_jobs, options.num_jobs);
  const std::vector<Mars2Verdict> verdicts =
      judge_mars2(cases, judge, cache, options, progress, cancellation);
  for (size_t i = 0; i < verdicts.size(); ++i) {
    if (verdicts[i].subject) scores[i]["mars2_subject"] = *verdicts[i].subject ? 1.0 : 0.0;
    if (verdicts[i].style) scores[i]["mars2_style"] = *verdicts[i].style ? 1.0 : 0.0;
    if (const auto both = verdicts[i].both()) scores[i]["mars2_both"] = *both ? 1.0 : 0.0;
  }
}

std::vector<Scores> measure(const EvalOptions& o, const std::vector<LabelledPicture>& pictures,
                            ProgressSink& progress, const CancellationToken& cancellation) {
  const at::Device device = parse_device(o.machine.device.value_or("auto"));
  std::optional<ImageTextPair> pair;
  std::optional<SelfSupervisedEncoder> encoder;
  Encoders encoders;
  if (o.clip) encoders.image_text_pair = &pair.emplace(ImageTextPair::load(*o.clip, device));
  std::optional<ImageTextPair> preference;
  if (o.hps) {
    for (const LabelledPicture& picture : pictures)
      if (!picture.prompt)
        throw InputError(fmt::format(
            "'{}' carries no molar record; --hps needs its prompt, wanted --prompts FILE",
            picture.path.string()));
    encoders.preference =
        &preference.emplace(ImageTextPair::load(*o.hps, device, PictureProtocol::kHpsV2));
  }
  if (o.dino)
    encoders.self_supervised = &encoder.emplace(SelfSupervisedEncoder::load(*o.dino, device));
  const ReferenceFolders references{.subjects = o.subjects, .styles = o.styles, .truth = o.truth};
  std::vector<Scores> scores =
      measure_likeness(pictures, encoders, references, progress, cancellation);
  if (o.judge_url) add_verdicts(o, pictures, scores, progress, cancellation);
  for (Scores& one : scores) add_summaries(one);
  return scores;
}

/// One line for each picture.
std::string picture_lines(const std::vector<LabelledPicture>& pictures,
                          const std::vector<Scores>& scores,
                          const std::vector<PromptedPicture>& prompted) {
  std::string lines;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const LabelledPicture& picture = pictures[i];
    Json line{
        {"schema", kSchema},        {"path", picture.path.string()},
        {"method", picture.method}, {"subject", picture.subject},
        {"style", picture.style},   {"prompt", picture.prompt ? Json(*picture.prompt) : Json()},
        {"scores", scores[i]}};
    if (!prompted.empty()) line["prompted"] = prompted_json(prompted[i]);
    lines += dump_json(line) + "\n";
  }
  return lines;
}

}  // namespace

CLI::App* register_eval(CLI::App& program, EvalOptions& o) {
  CLI::App* app = program.add_subcommand("eval", "Measure how well pictures show what they should");
  app->add_option("RUN_DIR", o.folders, "Folders of pictures; those below them count too")
      ->group("What")
      ->configurable(false);
  OptionBinder what(*app, "What");
  what.value(
      "--layout", o.layout, "LEVEL/LEVEL...",
      "What the names of folders below RUN_DIR say: method, subject, style, or - for nothing "
      "(the record in each picture says all three)");
  what.value("--baseline", o.baseline, "METHOD|DIR",
             "Compare every other method with this one, pair by pair; with --prompts, every other "
             "folder with this one, picture by picture");

  OptionBinder by(*app, "Measured by");
  by.value("--clip", o.clip, "DIR", "CLIP model as transformers writes it: CLIP-I, CLIP-T");
  by.value("--dino", o.dino, "DIR", "DINO or DINOv2 model, likewise");
  by.value("--hps", o.hps, "DIR",
           "HPS v2 as scripts/convert_hps writes it: 100 times its cosine with the prompt");
  by.value("--subject-references", o.subjects, "DIR",
           "Pictures of each subject, in a folder of its name (the LoRA file's)");
  by.value("--style-references", o.styles, "DIR", "Pictures in each style, likewise");
  by.value("--truth", o.truth, "DIR",
           "What each picture should have been: DIR/SUBJECT/STYLE/NAME of the picture");

  OptionBinder prompts(*app, "Prompts");
  prompts.value("--prompts", o.prompts, "FILE",
                "What the pictures should show, JSON lines: prompt, kind (face, hand, scene), "
                "people, fingers, seed, repeat; means are over repeats then");
  prompts.value("--human", o.human, "DIR",
                "Judges of hands and faces (the bundled model's: judges/): how many are whole");

  OptionBinder judge(*app, "Judge (MARS2)");
  judge.value(
      "--judge-url", o.judge_url, "URL",
      "Multimodal chat endpoint as OpenAI's (.../v1): the only option that uses the network");
  judge.value("--judge-model", o.judge_model, "NAME", "Model that the endpoint is asked for");
  judge.value("--judge-key-file", o.judge_key_file, "FILE",
              "File that holds the key, if it wants one");
  judge.value(
      "--judge-cache", o.judge_cache, "FILE",
      "Answers, kept as they come: what is there is not asked again (judge.jsonl in -o DIR, "
      "else none)");
  judge.value("--judge-jobs", o.judge_jobs, "N", "Questions at a time (4)");
  judge.value("--judge-retries", o.judge_retries, "N",
              "New tries after a failed question, later and later (5)");
  judge.value("--judge-timeout", o.judge_timeout_s, "SECONDS", "Of one question (60)");

  OptionBinder output(*app, "Output");
  output.value("-o,--output", o.output, "DIR",
               "Folder for pictures.jsonl (a line each), table.md and table.html");
  output.value("--on-exist", o.on_exist, "number|skip|overwrite|error",
               "Where those files exist (overwrite)");
  register_machine_options(*app, o.machine);
  register_run_options(*app, o.run);
  return app;
}

CommandHelp eval_help() {
  return {
      .usage = "RUN_DIR... --clip DIR [--dino DIR] [options]",
      .examples = {"molar eval out/ --clip models/toyland/clip --dino models/toyland/dino "
                   "--subject-references subjects/ --style-references styles/ -o scores/",
                   "molar eval out/ --judge-url http://localhost:8000/v1 --judge-model "
                   "llava-critic --subject-references subjects/ --style-references styles/",
                   "molar eval mole/ --baseline base/ --human models/toyland/judges "
                   "--prompts prompts.jsonl --clip models/toyland/clip"},
      .common_options = {"RUN_DIR", "--layout", "--clip", "--dino", "--subject-references",
                         "--style-references", "--human", "--prompts", "--judge-url", "--output"}};
}

void run_eval(const EvalOptions& given, const LogSession&) {
  if (given.folders.empty()) throw ConfigError("no folder; wanted 'molar eval RUN_DIR...'");
  refuse_idle_options(given);
  EvalOptions o = given;
  if (o.judge_url && o.output && !o.judge_cache) o.judge_cache = *o.output / "judge.jsonl";
  const CancellationToken& cancellation = handle_signals(o.run.quiet);
  set_threads(o.machine.threads);
  std::optional<PictureLayout> layout;
  if (o.layout) layout = PictureLayout::parse(*o.layout);
  std::vector<LabelledPicture> pictures =
      o.prompts ? find_prompted_pictures(o.folders, o.baseline, layout)
                : find_pictures({o.folders.begin(), o.folders.end()}, layout);
  if (o.baseline)  // early
    tabulate(in_pairs(pictures, std::vector<Scores>(pictures.size())), {.baseline = o.baseline});
  const std::unique_ptr<ProgressSink> progress =
      make_progress_display(o.machine.progress_style(o.run.quiet));
  std::optional<PromptSet> prompts;
  std::vector<PromptedPicture> prompted;
  if (o.prompts) {
    prompts = PromptSet::load(*o.prompts);
    prompted = match_prompts(*prompts, pictures);
  }
  std::optional<HumanJudges> judges;
  if (o.human)
    judges.emplace(HumanJudges::load(*o.human, parse_device(o.machine.device.value_or("auto"))));
  std::vector<Scores> scores = measure(o, pictures, *progress, cancellation);
  if (judges) judge_humans(prompted, *judges, pictures, scores, *progress, cancellation);
  const std::vector<ScoreTable> tables =
      prompts ? prompt_tables(in_repeats(pictures, prompted, scores), prompted, o.baseline)
              : std::vector{tabulate(in_pairs(pictures, scores), {.baseline = o.baseline})};
  if (o.output) {
    const auto write = [&](const char* name, const std::string& text) {
      write_file_atomically(*o.output / name, o.on_exist.value_or(OnExist::kOverwrite),
                            [&](const ByteSink& sink) { sink(text); });
    };
    write("pictures.jsonl", picture_lines(pictures, scores, prompted));
    write("table.md", markdown(tables));
    write("table.html", html(tables));
  }
  write_result(o.run.json ? picture_lines(pictures, scores, prompted) : markdown(tables));
}

}  // namespace molar::cli
