/// Any bytes are either refused with an Error or are a file whose tensors tile its data.
#include <cstdlib>
#include <string_view>

#include "memory_file.h"
#include "molar/core/error.h"
#include "molar/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  const molar::fuzz::MemoryFile input(data, size_bytes);
  try {
    const auto file = molar::SafetensorsFile::open(input.path());
    size_t tensor_bytes = 0;
    unsigned sum = 0;
    for (const auto& [name, tensor] : file.state_dict()) {
      tensor_bytes += tensor.nbytes();
      const auto* const bytes = static_cast<const uint8_t*>(tensor.const_data_ptr());
      for (size_t i = 0; i < tensor.nbytes(); ++i) sum += bytes[i];  // every byte can be read
      molar::release_mapped_pages(tensor);
    }
    unsigned wanted_sum = 0;
    for (const char byte : file.data_bytes()) wanted_sum += static_cast<uint8_t>(byte);
    if (tensor_bytes != file.data_bytes().size() || sum != wanted_sum) std::abort();
  } catch (const molar::Error& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
  return 0;
}
