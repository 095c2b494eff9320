#include "molar/models/gradient_checkpoint.h"

namespace molar {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct PartHolder final : torch::CustomClassHolder {
  explicit PartHolder(NetworkPart held) : part(std::move(held)) {}
  NetworkPart part;
};

class CheckpointFunction final : public torch::autograd::Function<CheckpointFunction> {
 public:
  /// `anchor` needs a gradient, so that autograd calls backward even where no input does: the
  /// parameters of `part`, which it does not see here, may.
  static Tensor forward(AutogradContext* context, const Tensor& /*anchor*/, const NetworkPart& part,
                        at::TensorList inputs) {
    context->saved_data["part"] = at::IValue::make_capsule(c10::make_intrusive<PartHolder>(part));
    context->save_for_backward(inputs.vec());
    // With gradients, as in backward: the layers choose other kernels without (cpu_kernels.h), and
    // the two results would differ. The graph inside is dropped here.
    const at::AutoGradMode with_gradients(true);
    variable_list detached;
    for (const Tensor& input : inputs) detached.push_back(input.detach());
    return part(detached).detach();
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto holder = context->saved_data["part"].toCapsule();
    const NetworkPart& part = static_cast<const PartHolder&>(*holder).part;
    variable_list leaves;
    for (const Tensor& saved : context->get_saved_variables())
      leaves.push_back(saved.detach().requires_grad_(saved.requires_grad()));
    {
      const at::AutoGradMode with_gradients(true);
      const Tensor again = part(leaves);
      // A part without parameters of its own to learn, at the start of the network, has none.
      if (again.requires_grad()) torch::autograd::backward({again}, gradients);
    }
    variable_list result = {Tensor(), Tensor()};  // of the anchor and of the part
    for (const Tensor& leaf : leaves) result.push_back(leaf.grad());
    return result;
  }
};

}  // namespace

Tensor checkpointed(const NetworkPart& part, const std::vector<Tensor>& inputs) {
  if (!at::GradMode::is_enabled()) return part(inputs);
  const Tensor anchor = at::empty({0}).requires_grad_();
  return CheckpointFunction::apply(anchor, part, at::TensorList(inputs));
}

}  // namespace molar
