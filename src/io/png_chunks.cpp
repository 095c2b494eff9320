#include "png_chunks.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>

#include "molar/core/error.h"
#include "molar/io/file.h"
#include "picture_file.h"

namespace molar {
namespace {

constexpr size_t kMaxTextBytes = size_t{64} << 20;

uint32_t big_endian(std::string_view bytes) {
  uint32_t value = 0;
  for (const char byte : bytes.substr(0, 4)) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

std::string utf8_from_latin1(std::string_view latin1) {
  std::string text;
  text.reserve(latin1.size());
  for (const char letter : latin1) {
    const auto code = static_cast<unsigned char>(letter);
    if (code < 0x80) {
      text += letter;
    } else {
      text += static_cast<char>(0xC0 | code >> 6);
      text += static_cast<char>(0x80 | (code & 0x3F));
    }
  }
  return text;
}

/// Reads the fields of one text chunk in turn and knows how to complain.
class TextFields {
 public:
  TextFields(const PngChunk& chunk, const std::string& source, size_t budget_bytes)
      : rest_(chunk.data), type_(chunk.type), source_(source), budget_bytes_(budget_bytes) {}

  std::string_view until_nul() {
    const size_t end = rest_.find('\0');
    if (end == std::string_view::npos) fail("has no end of a field");
    const std::string_view field = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return field;
  }
  char byte() {
    if (rest_.empty()) fail("is cut short");
    const char value = rest_.front();
    rest_.remove_prefix(1);
    return value;
  }
  std::string plain() const {
    if (rest_.size() > budget_bytes_) fail("is too large");
    return std::string(rest_);
  }

  /// Deflated text; stops where it would grow past the budget.
  std::string inflated() const {
    z_stream stream{};
    if (inflateInit(&stream) != Z_OK) throw MemoryError("zlib cannot start");
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(rest_.data()));
    stream.avail_in = static_cast<uInt>(rest_.size());
    std::string text;
    std::string buffer(1 << 16, '\0');
    int status = Z_OK;
    while (status == Z_OK && text.size() <= budget_bytes_) {
      stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
      stream.avail_out = static_cast<uInt>(buffer.size());
      status = ::inflate(&stream, Z_NO_FLUSH);
      text.append(buffer, 0, buffer.size() - stream.avail_out);
    }
    inflateEnd(&stream);
    if (text.size() > budget_bytes_) fail("unpacks to too much text");
    if (status != Z_STREAM_END) fail("is packed wrongly");
    return text;
  }

  [[noreturn]] void fail(std::string_view what) const {
    throw InputError(
        fmt::format("{}: a {} chunk {}; the picture's text is broken", source_, type_, what));
  }

 private:
  std::string_view rest_, type_;
  const std::string& source_;
  size_t budget_bytes_;
};

std::pair<std::string, std::string> parse_text(const PngChunk& chunk, const std::string& source,
                                               size_t budget_bytes) {
  TextFields fields(chunk, source, budget_bytes);
  std::string keyword = utf8_from_latin1(fields.until_nul());
  if (chunk.type == "tEXt") return {std::move(keyword), utf8_from_latin1(fields.plain())};
  const bool packed = chunk.type == "zTXt" || fields.byte() == 1;
  if (fields.byte() != 0) fields.fail("uses an unknown packing method");
  if (chunk.type == "zTXt") return {std::move(keyword), utf8_from_latin1(fields.inflated())};
  fields.until_nul();  // language
  fields.until_nul();  // keyword in that language
  return {std::move(keyword), packed ? fields.inflated() : fields.plain()};
}

}  // namespace

std::vector<PngChunk> parse_png_chunks(std::string_view bytes, const std::string& source) {
  if (!bytes.starts_with(kPngSignature)) throw InputError(fmt::format("{} is no PNG file", source));
  std::vector<PngChunk> chunks;
  std::string_view rest = bytes.substr(kPngSignature.size());
  while (true) {
    if (rest.size() < 12)
      throw InputError(fmt::format("{} is cut short: the PNG has no end", source));
    const size_t length = big_endian(rest);
    const PngChunk chunk{rest.substr(4, 4), rest.substr(8, std::min(length, rest.size() - 12))};
    const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    if (!std::all_of(chunk.type.begin(), chunk.type.end(), is_letter))
      throw InputError(fmt::format("{} is a broken PNG: garbage where a chunk begins", source));
    if (length > rest.size() - 12)
      throw InputError(
          fmt::format("{} is cut short: PNG chunk {} should have {} bytes, {} are left", source,
                      chunk.type, length, rest.size() - 12));
    const auto* const checked = reinterpret_cast<const Bytef*>(rest.data() + 4);
    if (::crc32_z(0, checked, length + 4) != big_endian(rest.substr(8 + length)))
      throw InputError(
          fmt::format("{} is broken: the checksum of PNG chunk {} is wrong", source, chunk.type));
    if (chunks.empty() && (chunk.type != "IHDR" || length != 13))
      throw InputError(
          fmt::format("{} is a broken PNG: it does not start with its header", source));
    chunks.push_back(chunk);
    rest.remove_prefix(12 + length);
    if (chunk.type == "IEND") return chunks;
  }
}

PngHeader parse_png_header(const std::vector<PngChunk>& chunks, const std::string& source) {
  const std::string_view data = chunks.front().data;
  const PngHeader header{big_endian(data), big_endian(data.substr(4)), data[8], data[9]};
  check_picture_size(header.width_px, header.height_px, source);
  return header;
}

PngText parse_png_text(const std::vector<PngChunk>& chunks, const std::string& source) {
  PngText texts;
  size_t budget_bytes = kMaxTextBytes;
  for (const PngChunk& chunk : chunks) {
    if (chunk.type != "tEXt" && chunk.type != "zTXt" && chunk.type != "iTXt") continue;
    texts.push_back(parse_text(chunk, source, budget_bytes));
    budget_bytes -= std::min(budget_bytes, texts.back().second.size());
  }
  return texts;
}

PngText read_png_text(const std::filesystem::path& path) {
  const std::string bytes = read_picture_file(path);
  const std::string source = fmt::format("'{}'", path.string());
  return parse_png_text(parse_png_chunks(bytes, source), source);
}

}  // namespace molar
