#include "molar/io/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "molar/core/error.h"
#include "molar/io/file.h"
#include "molar/io/safetensors.h"

namespace molar {
namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    check(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void update(std::string_view bytes) {
    check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }
  std::string hex() {
    std::array<unsigned char, 32> digest{};
    check(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1);
    std::string text;
    for (const unsigned char byte : digest) text += fmt::format("{:02x}", byte);
    return text;
  }

 private:
  static void check(bool succeeded) {
    if (!succeeded) throw Error("SHA-256 is not available in this OpenSSL");
  }
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

/// Of the bytes from `start` on. Read, not mapped: a mapping would count as memory in use.
std::string sha256_from(const std::filesystem::path& path, uint64_t start) {
  const InputFile file(path);
  if (::lseek(file.descriptor(), static_cast<off_t>(start), SEEK_SET) < 0)
    throw FileError(fmt::format("cannot read '{}': {}", path.string(), std::strerror(errno)));
  Sha256 hash;
  std::vector<char> buffer(1 << 20);
  while (true) {
    const ssize_t count = ::read(file.descriptor(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      throw FileError(fmt::format("cannot read '{}': {}", path.string(), std::strerror(errno)));
    if (count == 0) return hash.hex();
    hash.update({buffer.data(), static_cast<size_t>(count)});
  }
}

}  // namespace

std::string sha256_hex(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

std::string sha256_file(const std::filesystem::path& path) { return sha256_from(path, 0); }

std::string sha256_safetensors_data(const std::filesystem::path& path) {
  const uint64_t data_bytes = SafetensorsFile::open(path).data_bytes().size();
  return sha256_from(path, std::filesystem::file_size(path) - data_bytes);
}

}  // namespace molar
