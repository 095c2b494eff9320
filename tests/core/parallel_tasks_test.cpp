#include "molar/core/parallel_tasks.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace molar {
namespace {

TEST(ParallelTasks, DoesEachOnce) {
  const int before = at::get_num_threads();
  for (const int num_threads : {1, 2, 7}) {
    at::set_num_threads(num_threads);
    for (const int64_t count : {0, 1, 2, 100}) {
      std::vector<std::atomic<int>> done(static_cast<size_t>(count));
      parallel_tasks(count, [&](int64_t i) { ++done[static_cast<size_t>(i)]; });
      for (const auto& times : done) EXPECT_EQ(times, 1);
      EXPECT_EQ(at::get_num_threads(), num_threads) << "as it was";
    }
  }
  at::set_num_threads(before);
}

TEST(ParallelTasks, OperatorsInATaskKeepToItsThreadAndTheCallersMode) {
  const c10::InferenceMode inference;
  parallel_tasks(4, [](int64_t) {
    EXPECT_EQ(at::get_num_threads(), 1);
    EXPECT_TRUE(c10::InferenceMode::is_enabled());
    EXPECT_EQ(at::ones({1000}).sum().item<float>(), 1000);
  });
}

TEST(ParallelTasks, TheFirstErrorIsTheCallers) {
  std::atomic<int> num_done = 0;
  const auto run = [&] {
    parallel_tasks(50, [&](int64_t i) {
      if (i % 10 == 3) throw std::runtime_error(std::to_string(i));
      ++num_done;
    });
  };
  try {
    run();
    ADD_FAILURE() << "no error";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "3");
  }
  EXPECT_EQ(num_done, 45);
}

}  // namespace
}  // namespace molar
