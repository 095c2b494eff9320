#include "molar/core/parallel_tasks.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
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

/// Several threads, whatever the environment asks for.
class ManyThreads : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(4); }
  void TearDown() override { at::set_num_threads(before_); }

 private:
  int before_ = at::get_num_threads();
};

TEST_F(ManyThreads, OperatorsInATaskKeepToItsThreadAndTheCallersMode) {
  const c10::InferenceMode inference;
  std::mutex mutex;
  std::set<std::thread::id> threads;
  parallel_tasks(4, [&](int64_t) {
    {
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the others take a task each
    EXPECT_EQ(at::get_num_threads(), 1);
    EXPECT_TRUE(c10::InferenceMode::is_enabled());
    EXPECT_EQ(at::ones({1000}).sum().item<float>(), 1000);
  });
  EXPECT_GT(threads.size(), 1U);
}

TEST_F(ManyThreads, TheFirstErrorIsTheCallers) {
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
