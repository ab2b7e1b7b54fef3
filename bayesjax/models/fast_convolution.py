"""The convolutions of Flax's own layers, computed in the form that is fastest on a CPU.

    network = models.fast(module)                       a module with flax.linen.Conv and ConvTranspose
    params = network.init(rng_key, x)["params"]         the parameters of the module itself
    outputs = network.apply({"params": params}, x)

    nnx.Conv(..., conv_general_dilated=models.conv_general_dilated)         the same for a layer of Flax NNX

Inside the compiled loop of a training run, XLA's own convolutions are many times slower than outside
(`convolution_forms.py`). On GPUs and TPUs nothing changes. Read `convolution.py` next.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from bayesjax.models.convolution import convolve, convolve_transpose
from bayesjax.types import Array


class Fast(NamedTuple):
    """A module with fast convolutions.

    Attributes:
      init: the module's `init`.
      apply: the module's `apply`.
    """

    init: Callable[..., Any]
    apply: Callable[..., Any]


def fast(module: nn.Module) -> Fast:
    """Returns `init` and `apply` of a Linen module, with all its two-dimensional convolutions in the fast form.

    Convolutions with dilation, groups or other than two spatial axes remain as they are. The result equals that of the
    module up to rounding.

    Args:
      module: any Linen module. Layers of Equinox and other libraries are not changed.

    Raises:
      TypeError: if `module` is not a Linen module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module must be a flax.linen module; got {type(module).__name__}: layers of flax.nnx take "
            "conv_general_dilated=models.conv_general_dilated"
        )

    def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with nn.intercept_methods(_intercept):
                return method(*args, **kwargs)

        return call

    return Fast(wrapped(module.init), wrapped(module.apply))


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    **options: Any,
) -> Array:
    """`jax.lax.conv_general_dilated`, in the form of `convolution.py` where it applies.

    It applies to images `[batch, h, w, in]` and kernels `[kh, kw, in, out]` without dilation and groups, if no
    precision and no type of the sum is given. The arguments are those of `jax.lax.conv_general_dilated`.
    """
    is_plain = (
        lhs.ndim == 4
        and all(size == 1 for size in (*(lhs_dilation or ()), *(rhs_dilation or ())))
        and feature_group_count == batch_group_count == 1
        and all(value is None for value in options.values())
        and _is_channels_last(lhs, rhs, dimension_numbers)
        and (not isinstance(padding, str) or padding in ("SAME", "VALID"))
    )
    if is_plain:
        return convolve(lhs, rhs, tuple(window_strides), padding)
    return lax.conv_general_dilated(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count,
        batch_group_count, **options,
    )  # fmt: skip


def _is_channels_last(lhs: Array, rhs: Array, dimension_numbers: Any) -> bool:
    if dimension_numbers is None:
        return False
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    return numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))


def _intercept(next_function: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
    layer = context.module
    if context.method_name != "__call__":
        return next_function(*args, **kwargs)
    if isinstance(layer, nn.Conv) and layer.conv_general_dilated is None and layer.conv_general_dilated_cls is None:
        # Only the layer of this call is changed. Flax makes it anew for every `apply`.
        object.__setattr__(layer, "conv_general_dilated", conv_general_dilated)
        try:
            return next_function(*args, **kwargs)
        finally:
            object.__setattr__(layer, "conv_general_dilated", None)
    if isinstance(layer, nn.ConvTranspose) and _is_plain_transpose(layer):
        return _transposed(layer, *args, **kwargs)
    return next_function(*args, **kwargs)


def _is_plain_transpose(layer: nn.ConvTranspose) -> bool:
    """Whether `convolve_transpose` computes the layer, and its parameters exist; `init` creates them."""
    sizes = (layer.kernel_size,) if isinstance(layer.kernel_size, int) else tuple(layer.kernel_size)
    dilation = (layer.kernel_dilation,) if isinstance(layer.kernel_dilation, int) else layer.kernel_dilation
    return (
        type(layer).__call__ is nn.ConvTranspose.__call__  # a subclass may do more
        and len(sizes) == 2
        and all(size == 1 for size in dilation or ())
        and not layer.transpose_kernel
        and layer.mask is None
        and layer.precision is None
        and getattr(layer, "preferred_element_type", None) is None
        and layer.padding in ("SAME", "VALID")
        and layer.has_variable("params", "kernel")
    )


def _transposed(layer: nn.ConvTranspose, inputs: Array) -> Array:
    params = layer.variables["params"]
    x, kernel, bias = layer.promote_dtype(inputs, params["kernel"], params.get("bias"), dtype=layer.dtype)
    assert x is not None and kernel is not None
    out = convolve_transpose(x, kernel, layer.strides or 1, str(layer.padding))
    return out if bias is None else out + jnp.broadcast_to(bias, out.shape)
