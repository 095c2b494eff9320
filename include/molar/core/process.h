/// Facts about this process, for reports.
#pragma once

#include <cstdint>

namespace molar {

/// Seconds since the process started; resolution 10 ms.
double process_age_s();
/// The most memory that the process held so far (resident, mapped files included).
int64_t peak_memory_bytes();

}  // namespace molar
