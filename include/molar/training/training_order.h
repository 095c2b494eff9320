/// Which pictures each pass sees, and from which seeds it draws: functions of the run's seed and
/// the number of the pass alone, so that a run can go on anywhere.
#pragma once

#include <cstdint>
#include <vector>

namespace molar {

/// Note [Order of randomness]. A run draws from sources of its own seed each (derived_seed in
/// core/random.h) that torch.Generator("cpu") reproduces:
///   kFactors,     0: `down` of every layer, in the order of LayerName (text_encoder,
///   text_encoder_2,
///                    unet; then by module): uniform in +-1/sqrt(fan_in), which is peft's
///                    kaiming_uniform_(a=sqrt(5)). `up` is 0.
///                 In a training of gates, each layer's: Phi's weight [E, in] and bias [E], uniform
///                 in +-1/sqrt(in), then all experts' global weights [E, out] and biases [E],
///                 uniform in +-1/sqrt(out): torch.nn.Linear's beginnings.
///   kInstances,   e: the order of the instance pictures in epoch e: randperm(number of pictures).
///   kClasses,     e: the same for class pictures, with their own epochs.
///   kPass,        n: pass n = step * gradient_accumulation + k draws, for all its rows at once
///                    (instance rows, then class rows): with --flip uniform(0, 1) [B], mirrored
///                    where below 1/2; standard normal [B, C, h, w], the sample of the latents;
///                    standard normal [B, C, h, w], the noise; randint(num_train_timesteps) [B];
///                    with --proportion-empty-prompts P uniform(0, 1) [B], without a caption
///                    where below P.
///   kPairs,       e: the order of the pairs of LoRAs in epoch e: randperm(subjects * styles), pair
///                    number s * styles + t.
///   kValidation,  n: as kPass, of draw n % 4 of validation pair n / 4.
/// Trainings of merges take kInstances for the order of each LoRA's pictures, and draw the rows of
/// the subject and of the style in one pass, in this order.
enum class RandomStream : uint64_t {
  kFactors,
  kInstances,
  kClasses,
  kPass,
  kPairs,
  kValidation,
};
uint64_t stream_seed(uint64_t seed, RandomStream stream, int64_t index);

/// Pictures in shuffled epochs: position p of the endless row is picture p % n of epoch p / n.
class EpochOrder {
 public:
  EpochOrder(uint64_t seed, RandomStream stream, int64_t num_pictures);
  /// Indices of the pictures at positions [pass * batch_size, (pass + 1) * batch_size).
  std::vector<int64_t> batch(int64_t pass, int64_t batch_size);

 private:
  int64_t at(int64_t position);

  uint64_t seed_;
  RandomStream stream_;
  int64_t num_pictures_;
  int64_t epoch_ = -1;  // that `order_` belongs to
  std::vector<int64_t> order_;
};

}  // namespace molar
