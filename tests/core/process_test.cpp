#include "molar/core/process.h"

#include <gtest/gtest.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <cstring>
#include <memory>

namespace molar {
namespace {

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
TEST(Process, KeepsMemoryThatWasFreed) {
  constexpr size_t kBytes = size_t{100} << 20;
  keep_freed_memory();
  const auto held = [] { return ::mallinfo2().arena; };  // from the system, in use or not
  {
    const std::unique_ptr<char[]> block(new char[kBytes]);
    std::memset(block.get(), 1, kBytes);
    EXPECT_GE(held(), kBytes) << "large blocks come from the heap too";
  }
  EXPECT_GE(held(), kBytes) << "and stay there";
}
#endif

TEST(Process, KnowsItsAgeWorkAndSize) {
  EXPECT_GE(process_age_s(), 0.0);
  EXPECT_GT(process_cpu_s(), 0.0);
  EXPECT_GT(peak_memory_bytes(), 1 << 20);
}

}  // namespace
}  // namespace molar
