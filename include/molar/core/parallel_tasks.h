/// Independent pieces of work side by side.
#pragma once

#include <cstdint>
#include <functional>

namespace molar {

/// Calls task(i) for every i in [0, count), on as many threads as libtorch may use; within a task
/// its operators run on that task's thread alone. For many small matrices: handing each operator to
/// all threads costs more than it saves. Rethrows the exception of the lowest i after all threads
/// ended.
void parallel_tasks(int64_t count, const std::function<void(int64_t)>& task);

}  // namespace molar
