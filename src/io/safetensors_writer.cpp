#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "molar/core/error.h"
#include "molar/io/safetensors.h"
#include "safetensors_header.h"

namespace molar {
namespace {

using NamedTensor = StateDict::const_pointer;

/// Wide types first, then by name: every tensor ends up aligned, as the reference writer has it.
std::vector<NamedTensor> in_file_order(const StateDict& tensors,
                                       const std::filesystem::path& path) {
  std::vector<NamedTensor> order;
  order.reserve(tensors.size());
  for (const auto& item : tensors) {
    if (item.first == "__metadata__")
      throw FileError(
          fmt::format("cannot write '{}': no tensor may be named __metadata__", path.string()));
    if (safetensors_dtype_name(item.second.scalar_type()) == nullptr)
      throw FileError(fmt::format("cannot write '{}': tensor '{}' is {}, which safetensors lacks",
                                  path.string(), item.first,
                                  dtype_name(item.second.scalar_type())));
    order.push_back(&item);
  }
  std::stable_sort(order.begin(), order.end(), [](NamedTensor a, NamedTensor b) {
    return safetensors_dtype_rank(a->second.scalar_type()) >
           safetensors_dtype_rank(b->second.scalar_type());
  });
  return order;
}

std::string compose_header(const std::vector<NamedTensor>& order,
                           const SafetensorsMetadata& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  // The keys of `order` are unique, so they are appended without ordered_json's linear search.
  auto& fields = header.get_ref<nlohmann::ordered_json::object_t&>();
  uint64_t offset = 0;
  for (const NamedTensor item : order) {
    const uint64_t end = offset + item->second.nbytes();
    fields.push_back(
        {item->first,
         nlohmann::ordered_json{{"dtype", safetensors_dtype_name(item->second.scalar_type())},
                                {"shape", item->second.sizes().vec()},
                                {"data_offsets", {offset, end}}}});
    offset = end;
  }
  // A file name that is not UTF-8 may stand in the metadata; it must not cost the user the result.
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace

std::filesystem::path write_safetensors(const std::filesystem::path& path, OnExist on_exist,
                                        const StateDict& tensors,
                                        const SafetensorsMetadata& metadata,
                                        const std::function<SafetensorsMetadata()>& late_metadata) {
  const std::vector<NamedTensor> order = in_file_order(tensors, path);
  const std::string header = compose_header(order, metadata);
  const auto write = [&](const ByteSink& sink) {
    const uint64_t header_bytes = header.size();
    sink({reinterpret_cast<const char*>(&header_bytes), sizeof(header_bytes)});
    sink(header);
    for (const NamedTensor item : order) {
      const Tensor tensor = item->second.detach().to(at::kCPU).contiguous();
      sink({static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()});
    }
    if (!late_metadata) return;
    const std::string late = compose_header(order, late_metadata());
    TORCH_CHECK(late.size() == header.size(), "internal: the late metadata have another length");
    sink.rewrite(sizeof(header_bytes), late);
  };
  return write_file_atomically(path, on_exist, write).path;
}

}  // namespace molar
