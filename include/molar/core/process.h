/// Facts about this process, for reports, and how it holds memory.
#pragma once

#include <cstdint>

namespace molar {

/// Seconds since the process started; resolution 10 ms.
double process_age_s();
/// Seconds that the processors worked for this process so far, over all its threads: what other
/// processes do hardly changes how much a piece of work adds to it.
double process_cpu_s();
/// The most memory that the process held so far (resident, mapped files included).
int64_t peak_memory_bytes();
/// From now on, memory that is freed stays with the process for its next allocation (glibc;
/// elsewhere nothing happens): for work that takes and frees many blocks of megabytes, since pages
/// that go back to the system return cleared, at a price.
void keep_freed_memory();

}  // namespace molar
