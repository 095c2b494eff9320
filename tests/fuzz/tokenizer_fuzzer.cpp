/// Any tokenizer.json is either refused with an Error or gives ids below its vocabulary's size.
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "molar/core/error.h"
#include "molar/models/clip_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  // The tokenizer reads a folder; shared memory spares the disk.
  static const std::filesystem::path folder =
      std::filesystem::path("/dev/shm") / ("molar-fuzz-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "tokenizer.json", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size_bytes));
  try {
    molar::TokenizerFiles files;
    files.folder = folder;
    const auto tokenizer = molar::CLIPTokenizer::load(files);
    for (const char* text : {"", "a photo of a cat", "\xE7\x8C\xAB \xF0\x9F\x90\x88!",
                             "<|startoftext|>ab<|endoftext|>"})
      for (const int64_t id : tokenizer.encode(text))
        if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
  } catch (const molar::Error&) {
  }
  std::filesystem::remove_all(folder);
  return 0;
}
