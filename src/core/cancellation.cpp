#include "molar/core/cancellation.h"

#include "molar/core/error.h"

namespace molar {

void CancellationToken::stop_here_if_requested() const {
  if (requested())
    throw StoppedError("stopped at a safe point as asked; run the same command again");
}

}  // namespace molar
