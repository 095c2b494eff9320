#include "molar/training/training_order.h"

#include "molar/core/random.h"
#include "molar/core/tensor.h"

namespace molar {

uint64_t stream_seed(uint64_t seed, RandomStream stream, int64_t index) {
  return derived_seed(seed, static_cast<uint64_t>(stream), static_cast<uint64_t>(index));
}

EpochOrder::EpochOrder(uint64_t seed, RandomStream stream, int64_t num_pictures)
    : seed_(seed), stream_(stream), num_pictures_(num_pictures) {}

std::vector<int64_t> EpochOrder::batch(int64_t pass, int64_t batch_size) {
  std::vector<int64_t> pictures;
  for (int64_t i = 0; i < batch_size; ++i) pictures.push_back(at(pass * batch_size + i));
  return pictures;
}

int64_t EpochOrder::at(int64_t position) {
  if (const int64_t epoch = position / num_pictures_; epoch != epoch_) {
    const Tensor order =
        RandomSource(stream_seed(seed_, stream_, epoch)).permutation(num_pictures_);
    order_.assign(order.const_data_ptr<int64_t>(), order.const_data_ptr<int64_t>() + num_pictures_);
    epoch_ = epoch;
  }
  return order_[static_cast<size_t>(position % num_pictures_)];
}

}  // namespace molar
