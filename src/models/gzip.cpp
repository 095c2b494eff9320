#include "gzip.h"

#include <fmt/format.h>
#include <zlib.h>

#include "molar/core/error.h"
#include "molar/io/file.h"

namespace molar {

std::string read_gzip_file(const std::filesystem::path& path) {
  constexpr size_t kMaxBytes = 16 << 20;  // OpenCLIP's vocabulary has 3.2 MB; guards against bombs
  std::string packed = read_file(path, kMaxBytes);
  z_stream stream{};
  constexpr int kGzipOnly = 16;
  if (inflateInit2(&stream, kGzipOnly + MAX_WBITS) != Z_OK)
    throw MemoryError("out of memory while unpacking a gzip file");
  stream.next_in = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());

  std::string text;
  int status = Z_OK;
  while (status == Z_OK && text.size() <= kMaxBytes) {
    constexpr size_t kStep = 1 << 20;
    const size_t done = text.size();
    text.resize(done + kStep);
    stream.next_out = reinterpret_cast<Bytef*>(text.data() + done);
    stream.avail_out = kStep;
    status = inflate(&stream, Z_NO_FLUSH);
    text.resize(done + kStep - stream.avail_out);
  }
  inflateEnd(&stream);
  if (text.size() > kMaxBytes)
    throw FileError(fmt::format("'{}' unpacks to more than {} bytes", path.string(), kMaxBytes));
  if (status == Z_STREAM_END) return text;
  throw FileError(fmt::format(
      "'{}' is {}; fetch it again", path.string(),
      status == Z_BUF_ERROR ? "a gzip file that was cut off" : "not a whole gzip file"));
}

}  // namespace molar
