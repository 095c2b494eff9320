/// The functions behind the rows of merge_methods(), one file each. Inputs and options were
/// checked: at least one input, finite strengths, one shape per layer, roles where the row asks for
/// them, options in their ranges, and what the row's own check asks for.
#pragma once

#include <vector>

#include "molar/adapters/merge/merge_method.h"

namespace molar {

/// delta = sum_i strength_i * delta_i, kept as a sum of the inputs' own factors.
MergedLora merge_direct(const std::vector<MergeInput>& inputs, const MergeOptions& options);

/// The same sum as plain factors: up = [B_1 ... B_n], down = [s_1 A_1; ...; s_n A_n] with s =
/// strength * alpha / rank.
MergedLora merge_concat(const std::vector<MergeInput>& inputs, const MergeOptions& options);

/// The best approximation of that sum of the given rank.
MergedLora merge_svd(const std::vector<MergeInput>& inputs, const MergeOptions& options);

/// TIES: trims each change to its largest values, elects a sign per value, averages the values that
/// have it. Yadav et al. 2023, arXiv:2306.01708. On whole changes, then the best approximation of
/// the given rank (unset: the inputs' ranks together).
MergedLora merge_ties(const std::vector<MergeInput>& inputs, const MergeOptions& options);

/// DARE: drops values at random and rescales the rest, then sums. Yu et al. 2023, arXiv:2311.03099.
/// On whole changes, as merge_ties.
MergedLora merge_dare(const std::vector<MergeInput>& inputs, const MergeOptions& options);

/// NP-LoRA: takes most of the style's row space out of the subject's change. arXiv:2511.11051.
///   delta = delta_style + delta_subject (I - mu / (1 + mu) Q Q^T)
MergedLora merge_np(const std::vector<MergeInput>& inputs, const MergeOptions& options);

/// LoRA.rar: columns weighed by the hypernetwork. Where it has no head, to_k and to_v follow
/// MergeOptions::key_value and the rest is summed.
///   [B_s B_t] [A_s diag(m_s); A_t diag(m_t)]
/// Throws FitError where it has a head for no layer that both have.
void check_lorarar(const std::vector<MergeInput>& inputs, const MergeOptions& options);
MergedLora merge_lorarar(const std::vector<MergeInput>& inputs, const MergeOptions& options);

/// ZipLoRA: columns weighed by coefficients that were learnt for these two files; the rest is
/// summed. Shah et al. 2023, arXiv:2311.13600. Throws FitError for other files.
void check_ziplora(const std::vector<MergeInput>& inputs, const MergeOptions& options);
MergedLora merge_ziplora(const std::vector<MergeInput>& inputs, const MergeOptions& options);

/// K-LoRA: an attention layer of the UNet has the subject's whole change, and from some step on the
/// style's; the rest is summed. Ouyang et al. 2025, arXiv:2502.18461: the subject's acts while
///   S_subject >= gamma (alpha t / T + beta) S_style,   alpha = 1.5, beta = 0.5
/// with S the sum of a change's r_s r_t largest values and gamma the ratio of all values' sums. As
/// S does not depend on t, each layer switches once.
MergedLora merge_klora(const std::vector<MergeInput>& inputs, const MergeOptions& options);

}  // namespace molar
