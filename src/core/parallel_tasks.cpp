#include "molar/core/parallel_tasks.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "molar/core/vector_math.h"

namespace molar {

void parallel_tasks(int64_t count, const std::function<void(int64_t)>& task) {
  resolve_vector_math();
  const int num_threads = at::get_num_threads();
  std::atomic<int64_t> next = 0;
  std::mutex mutex;
  int64_t failed = std::numeric_limits<int64_t>::max();
  std::exception_ptr error;
  const at::ThreadLocalState callers_state;  // gradients and inference mode
  const auto work = [&] {
    const at::ThreadLocalStateGuard state(callers_state);
    at::set_num_threads(1);  // of this thread; and the default of threads that start later
    for (int64_t i = next++; i < count; i = next++) try {
        task(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < failed) {
          failed = i;
          error = std::current_exception();
        }
      }
  };
  {
    std::vector<std::jthread> others;
    for (int64_t k = 1; k < std::min<int64_t>(num_threads, count); ++k) try {
        others.emplace_back(work);
      } catch (const std::system_error&) {
        break;  // fewer threads do the same
      }
    work();
  }
  at::set_num_threads(num_threads);
  if (error) std::rethrow_exception(error);
}

}  // namespace molar
