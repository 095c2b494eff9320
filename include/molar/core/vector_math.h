/// libtorch's element-wise functions, made safe to call from several threads.
#pragma once

namespace molar {

/// Calls every function that libtorch takes from oneMKL's vector library once, on one value, in
/// float and double; later calls do nothing. oneMKL 2024.2 chooses a function's kernel at its first
/// call, and when several threads make that call at once, one of them may run a kernel of half the
/// digits (https://github.com/pytorch/pytorch/issues/188792): a result that differs from run to
/// run. To be called before work is given to threads, by libtorch or by parallel_tasks.
void resolve_vector_math();

}  // namespace molar
