#include "safetensors_header.h"

#include <c10/core/ScalarType.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "molar/core/error.h"
#include "molar/core/tensor.h"

namespace molar {
namespace {

// In the reference implementation's order, which its writer sorts by (last first).
constexpr std::pair<const char*, at::ScalarType> kDtypes[] = {
    {"BOOL", at::kBool},
    {"U8", at::kByte},
    {"I8", at::kChar},
    {"F8_E5M2", at::kFloat8_e5m2},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E8M0", at::kFloat8_e8m0fnu},
    {"F8_E4M3FNUZ", at::kFloat8_e4m3fnuz},
    {"F8_E5M2FNUZ", at::kFloat8_e5m2fnuz},
    {"I16", at::kShort},
    {"U16", at::kUInt16},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"I32", at::kInt},
    {"U32", at::kUInt32},
    {"F32", at::kFloat},
    {"C64", at::kComplexFloat},
    {"F64", at::kDouble},
    {"I64", at::kLong},
    {"U64", at::kUInt64},
};

// More axes than any operation of libtorch takes.
constexpr size_t kMaxRank = 64;

/// Builds the header while the text is read: nothing nests deeper than an entry's lists, every key
/// is checked for duplicates, and the first thing out of place ends the parse.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::string& source) : source_(source) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override {
    return unexpected(fmt::format("the negative number {}", value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return unexpected(fmt::format("the fraction {}", text));
  }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShapeList) {
      if (value > static_cast<number_unsigned_t>(std::numeric_limits<int64_t>::max()))
        fail("shape has a size of {}, past the range of int64", value);
      if (shape_->size() == kMaxRank) fail("shape has more than {} axes", kMaxRank);
      shape_->push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsetsList) {
      if (offsets_->size() == 2) fail("data_offsets has more than two numbers");
      offsets_->push_back(value);
      return true;
    }
    return unexpected(fmt::format("the number {}", value));
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) {
      header_.metadata[key_] = std::move(text);
      return true;
    }
    if (place_ != Place::kDtype) return unexpected("a string");
    const auto* const found = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                           [&](const auto& row) { return row.first == text; });
    if (found == std::end(kDtypes)) fail("dtype '{}' is not one that molar reads", text);
    dtype_ = found->second;
    place_ = Place::kEntry;
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kRoot;
      return true;
    }
    if (place_ == Place::kRootValue) {
      place_ = name_ == "__metadata__" ? Place::kMetadata : Place::kEntry;
      dtype_.reset();
      shape_.reset();
      offsets_.reset();
      return true;
    }
    return unexpected("an object");
  }

  bool key(string_t& text) override {
    switch (place_) {
      case Place::kRoot:
        name_ = text;
        if (name_ == "__metadata__" ? has_metadata_ : header_.entries.contains(name_))
          fail("the name appears twice");
        has_metadata_ = has_metadata_ || name_ == "__metadata__";
        place_ = Place::kRootValue;
        return true;
      case Place::kMetadata:
        if (header_.metadata.contains(text)) fail("key '{}' appears twice", text);
        key_ = text;
        return true;
      default:
        return entry_key(text);
    }
  }

  bool end_object() override {
    if (place_ == Place::kEntry) add_entry();
    place_ = Place::kRoot;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kShape) {
      shape_.emplace();
      place_ = Place::kShapeList;
      return true;
    }
    if (place_ == Place::kOffsets) {
      offsets_.emplace();
      place_ = Place::kOffsetsList;
      return true;
    }
    return unexpected("a list");
  }

  bool end_array() override {
    place_ = Place::kEntry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    throw FileError(fmt::format("{}: the header is not JSON (byte {} of it); the file is corrupt",
                                source_, position));
  }

 private:
  enum class Place {
    kStart,
    kRoot,
    kRootValue,  // after a tensor's name
    kMetadata,
    kEntry,
    kDtype,
    kShape,
    kShapeList,
    kOffsets,
    kOffsetsList,
  };

  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw FileError(fmt::format("{}: tensor '{}': {}", source_, name_,
                                fmt::format(format, std::forward<Args>(args)...)));
  }

  bool unexpected(std::string_view found) const {
    switch (place_) {
      case Place::kStart:
      case Place::kRoot:
        throw FileError(fmt::format("{}: the header is {}, no object", source_, found));
      case Place::kMetadata:
        fail("'{}' must be a string, is {}", key_, found);
      case Place::kDtype:
        fail("dtype must be a string, is {}", found);
      case Place::kShape:
        fail("shape must be a list, is {}", found);
      case Place::kOffsets:
        fail("data_offsets must be a list, is {}", found);
      case Place::kShapeList:
        fail("shape must hold whole numbers from 0, has {}", found);
      case Place::kOffsetsList:
        fail("data_offsets must hold whole numbers from 0, has {}", found);
      default:
        fail("its value must be an object, is {}", found);
    }
  }

  bool entry_key(const std::string& text) {
    if (text == "dtype") {
      if (dtype_) fail("key 'dtype' appears twice");
      place_ = Place::kDtype;
    } else if (text == "shape") {
      if (shape_) fail("key 'shape' appears twice");
      place_ = Place::kShape;
    } else if (text == "data_offsets") {
      if (offsets_) fail("key 'data_offsets' appears twice");
      place_ = Place::kOffsets;
    } else {
      fail("unknown key '{}'; wanted dtype, shape and data_offsets", text);
    }
    return true;
  }

  /// The tensor alone: complete, and of the size that its shape says. Order and overlap come later.
  void add_entry() {
    if (!dtype_) fail("has no dtype");
    if (!shape_) fail("has no shape");
    if (!offsets_ || offsets_->size() != 2) fail("data_offsets must be two numbers");
    const uint64_t begin = (*offsets_)[0], end = (*offsets_)[1];
    if (begin > end) fail("data_offsets [{}, {}] run backwards", begin, end);
    // Zero counts as one: libtorch multiplies the other sizes into strides even then.
    uint64_t size_bytes = c10::elementSize(*dtype_);
    bool empty = false;
    for (const int64_t size : *shape_) {
      empty = empty || size == 0;
      const auto factor = static_cast<uint64_t>(std::max<int64_t>(size, 1));
      if (__builtin_mul_overflow(size_bytes, factor, &size_bytes) ||
          size_bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        fail("the size of shape {} overflows", shape_string(*shape_));
    }
    if (empty) size_bytes = 0;
    if (end - begin != size_bytes)
      fail("data_offsets [{}, {}] hold {} bytes, but shape {} of {} needs {}", begin, end,
           end - begin, shape_string(*shape_), safetensors_dtype_name(*dtype_), size_bytes);
    header_.entries[name_] = {*dtype_, std::move(*shape_), begin, end};
  }

  const std::string& source_;
  SafetensorsHeader header_;
  Place place_ = Place::kStart;
  bool has_metadata_ = false;
  std::string name_, key_;
  std::optional<at::ScalarType> dtype_;
  std::optional<std::vector<int64_t>> shape_;
  std::optional<std::vector<uint64_t>> offsets_;
};

/// The tensors must tile the data: from its first byte to its last, no byte twice, none unused.
void check_tiling(const SafetensorsHeader& header, uint64_t data_bytes, const std::string& source) {
  std::vector<std::pair<const std::string*, const SafetensorsEntry*>> in_order;
  in_order.reserve(header.entries.size());
  for (const auto& [name, entry] : header.entries) in_order.emplace_back(&name, &entry);
  std::sort(in_order.begin(), in_order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin_bytes, a.second->end_bytes) <
           std::pair(b.second->begin_bytes, b.second->end_bytes);
  });
  uint64_t covered = 0;
  for (const auto& [name, entry] : in_order) {
    if (entry->end_bytes > data_bytes)
      throw FileError(
          fmt::format("{}: tensor '{}' ends at byte {} of the data, which has {}; the file is cut "
                      "short or corrupt, fetch it again",
                      source, *name, entry->end_bytes, data_bytes));
    if (entry->begin_bytes != covered)
      throw FileError(
          fmt::format("{}: tensor '{}' begins at byte {} of the data, but {} bytes are taken "
                      "before it: the tensors {}",
                      source, *name, entry->begin_bytes, covered,
                      entry->begin_bytes < covered ? "overlap" : "leave a hole"));
    covered = entry->end_bytes;
  }
  if (covered != data_bytes)
    throw FileError(
        fmt::format("{}: the tensors end at byte {} of the data, which has {}: the last {} bytes "
                    "belong to nothing",
                    source, covered, data_bytes, data_bytes - covered));
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view text, uint64_t data_bytes,
                                           const std::string& source) {
  if (!text.starts_with('{'))
    throw FileError(fmt::format(
        "{}: the header does not start with '{{'; this is no safetensors file", source));
  if (text.find('\0') != std::string_view::npos)  // where the JSON library would stop reading
    throw FileError(fmt::format(
        "{}: the header is not JSON (it holds a NUL byte); the file is corrupt", source));
  HeaderReader reader(source);
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  SafetensorsHeader header = reader.take();
  check_tiling(header, data_bytes, source);
  return header;
}

const char* safetensors_dtype_name(at::ScalarType dtype) {
  for (const auto& [name, type] : kDtypes)
    if (type == dtype) return name;
  return nullptr;
}

int safetensors_dtype_rank(at::ScalarType dtype) {
  int rank = 0;
  for (const auto& row : kDtypes) {
    if (row.second == dtype) return rank;
    ++rank;
  }
  return rank;
}

}  // namespace molar
