/// Checkpoint components -> modules with weights. Strict: every parameter is found, every tensor
/// used.
///
/// Weights are views of mapped files. A view that already has the compute dtype, device and layout
/// is used in place; any other is converted one tensor at a time and its pages are given back, so
/// that no weight is in memory twice.
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "molar/core/device.h"
#include "molar/io/checkpoint.h"
#include "molar/models/autoencoder_kl.h"
#include "molar/models/clip_text_model.h"
#include "molar/models/unet_2d_condition.h"

namespace molar {

/// Where the weights go and in which type.
using LoadOptions = ComputeOptions;

/// One stored tensor as the model computes with it; the stored one itself where nothing has to
/// change. Four dimensions mean a convolution: channels-last in half precision, as Note [Image
/// layout] asks.
Tensor to_compute_form(const Tensor& stored, const LoadOptions& options);

/// The parameter `name` of `component` as `load_weights` would set it: the way back to a layer's
/// own weight after an adapter replaced it. Throws FileError where the checkpoint lacks it.
Tensor load_parameter(const Component& component, const std::string& name,
                      const LoadOptions& options);

/// Sets every parameter of `module`, which has not run yet, from `component.weights`. `ignored`
/// names tensors that old checkpoints carry and no model reads. Throws FileError: missing or
/// unexpected names (the first five and their number), a shape that differs (wanted and found), a
/// tensor that is not floating point.
void load_weights(torch::nn::Module& module, const Component& component, const LoadOptions& options,
                  const std::vector<std::string>& ignored = {});

/// The models that a component's config describes, without weights: names and shapes. The tensors
/// of the component must fit them; throws FileError as load_weights does.
UNet2DConditionModel make_unet(const Component& component);
AutoencoderKL make_vae(const Component& component);
CLIPTextModel make_text_encoder(const Component& component);

/// The UNet that the component's config describes, with its weights. Throws FileError.
UNet2DConditionModel load_unet(const Component& component, const LoadOptions& options);

/// The autoencoder that the component's config describes, with its weights. Throws FileError.
AutoencoderKL load_vae(const Component& component, const LoadOptions& options);

/// The text encoder (with its projection, where the config says so) and its weights. Throws
/// FileError.
CLIPTextModel load_text_encoder(const Component& component, const LoadOptions& options);

}  // namespace molar
