#include "molar/io/safetensors.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "molar/core/error.h"
#include "molar/io/file.h"
#include "safetensors_header.h"

namespace molar {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian and are mapped as they are");

/// The whole file, read-only. Shared by every tensor that looks into it.
struct SafetensorsFile::Mapping {
  std::filesystem::path path;
  const char* bytes = nullptr;
  size_t size_bytes = 0;
  size_t data_begin_bytes = 0;
  SafetensorsHeader header;

  explicit Mapping(const std::filesystem::path& file_path) : path(file_path) {
    const InputFile file(path);
    size_bytes = static_cast<size_t>(file.size_bytes());
    if (size_bytes == 0) return;  // mmap refuses an empty range
    void* const address = ::mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
    if (address == MAP_FAILED)
      throw FileError(fmt::format("cannot map '{}': {}", path.string(), std::strerror(errno)));
    bytes = static_cast<const char*>(address);
  }
  ~Mapping() {
    if (bytes != nullptr) ::munmap(const_cast<char*>(bytes), size_bytes);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
};

namespace {

/// What a file that is not safetensors often is, and how to mend it; empty where nothing is known.
std::string_view guess_other_format(std::string_view bytes) {
  using namespace std::string_view_literals;
  if (bytes.starts_with("PK\x03\x04") || bytes.starts_with("\x80\x02"sv) ||
      bytes.starts_with("\x80\x04"sv))
    return "; it is a Python pickle, which can run code: convert it to safetensors where you trust "
           "it";
  if (bytes.starts_with("version https://git-lfs"))
    return "; it is a Git LFS pointer: run 'git lfs pull' to fetch the real file";
  if (bytes.starts_with("<")) return "; it is a web page: download the file itself";
  if (bytes.starts_with("GGUF")) return "; it is a GGUF file, which molar does not read";
  return "";
}

/// A tensor's share in the mapping. Its deleter's address also tells mapped tensors from others.
void drop_mapping_share(void* share) { delete static_cast<std::shared_ptr<const void>*>(share); }

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  auto mapping = std::make_shared<Mapping>(path);
  const std::string source = fmt::format("'{}'", path.string());
  const std::string_view bytes(mapping->bytes, mapping->size_bytes);
  if (bytes.size() < 8)
    throw FileError(fmt::format("{} has {} bytes, a safetensors file has at least 8{}", source,
                                bytes.size(), guess_other_format(bytes)));
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  if (header_bytes > kMaxHeaderBytes)
    throw FileError(
        fmt::format("{} is no safetensors file: its header would have {} bytes, the most is {}{}",
                    source, header_bytes, kMaxHeaderBytes, guess_other_format(bytes)));
  if (header_bytes > bytes.size() - 8)
    throw FileError(
        fmt::format("{} is cut short or corrupt: the header says {} bytes, {} are left{}", source,
                    header_bytes, bytes.size() - 8, guess_other_format(bytes)));
  mapping->data_begin_bytes = 8 + static_cast<size_t>(header_bytes);
  mapping->header = parse_safetensors_header(bytes.substr(8, header_bytes),
                                             bytes.size() - mapping->data_begin_bytes, source);
  SafetensorsFile file;
  file.mapping_ = std::move(mapping);
  return file;
}

const std::filesystem::path& SafetensorsFile::path() const { return mapping_->path; }

const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return mapping_->header.metadata;
}

const std::map<std::string, SafetensorsEntry>& SafetensorsFile::entries() const {
  return mapping_->header.entries;
}

Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto found = entries().find(name);
  if (found == entries().end())
    throw FileError(fmt::format("'{}' has no tensor '{}'", path().string(), name));
  const SafetensorsEntry& entry = found->second;
  const auto options = at::TensorOptions().dtype(entry.dtype).device(at::kCPU);
  if (entry.begin_bytes == entry.end_bytes) return at::empty(entry.shape, options);
  const char* const begin = mapping_->bytes + mapping_->data_begin_bytes + entry.begin_bytes;
  if (reinterpret_cast<uintptr_t>(begin) % c10::elementSize(entry.dtype) != 0) {
    const Tensor copy = at::empty(entry.shape, options);
    std::memcpy(copy.mutable_data_ptr(), begin,
                static_cast<size_t>(entry.end_bytes - entry.begin_bytes));
    return copy;
  }
  return at::for_blob(const_cast<char*>(begin), entry.shape)
      .context(new std::shared_ptr<const void>(mapping_), &drop_mapping_share)
      .options(options)
      .make_tensor();
}

StateDict SafetensorsFile::state_dict() const {
  StateDict tensors;
  for (const auto& [name, entry] : entries())
    tensors.emplace_hint(tensors.end(), name, tensor(name));
  return tensors;
}

std::string_view SafetensorsFile::data_bytes() const {
  return std::string_view(mapping_->bytes, mapping_->size_bytes).substr(mapping_->data_begin_bytes);
}

void release_mapped_pages(const Tensor& tensor) {
  // Memory of any other kind would lose its content: only what this file's deleter guards is
  // touched.
  if (!tensor.defined() || !tensor.has_storage() || tensor.numel() == 0 ||
      !tensor.is_contiguous() || tensor.storage().data_ptr().get_deleter() != &drop_mapping_share)
    return;
  const auto page_bytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
  const uintptr_t first_page = (begin + page_bytes - 1) / page_bytes * page_bytes;
  const uintptr_t last_page = (begin + tensor.nbytes()) / page_bytes * page_bytes;
  // A hint: where the system refuses it, memory stays in use and nothing else changes.
  if (first_page < last_page)
    ::madvise(reinterpret_cast<void*>(first_page), last_page - first_page, MADV_DONTNEED);
}

}  // namespace molar
