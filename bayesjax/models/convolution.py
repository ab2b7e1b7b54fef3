"""Convolutions with the parameters and values of Flax's `Conv` and `ConvTranspose`, in a fast form on each platform.

    y[o] = sum_i x[stride o + i - low] kernel[i]

o is an output pixel, i a position in the kernel, and low the padding before the image x. A network needs the
convolution, its gradient with respect to the image (the transposed convolution) and its gradient with respect to the
kernel. Each of the three leaves out a different array of one trilinear sum. One differentiable operation, `contract`,
computes all of them. The derivatives of these three maps are again such maps, to any order in forward and reverse mode.
A `vmap` over images alone or kernels alone becomes one larger convolution. Read `convolution_forms.py` next for the
forms that compute the operation, which are chosen for the platform of the compiled program.

The layout is NHWC, kernels are `[height, width, in, out]`, and padding is as in Flax.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from bayesjax.models import convolution_forms as forms
from bayesjax.models.convolution_forms import Geometry
from bayesjax.models.initializers import Initializer, fan_in_normal
from bayesjax.types import Array

Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]

contract_p = Primitive("contract")


def contract(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """Computes one of image, kernel and output from the other two.

    Args:
      missing: the array to compute: "output" for the convolution, or "image" or "kernel" for the gradient with respect
        to that array.
      first: the first of the given arrays, in the order `image [batch, h, w, a]`, `kernel [kh, kw, a, b]`,
        `output [batch, oh, ow, b]`.
      second: the second of the given arrays.
      geometry: strides, padding and sizes.

    Returns:
      The missing array, in the promoted type of the given ones.
    """
    dtype = jnp.promote_types(first.dtype, second.dtype)
    return contract_p.bind(first.astype(dtype), second.astype(dtype), missing=missing, geometry=geometry)


def _abstract(first: Any, second: Any, *, missing: str, geometry: Geometry) -> Any:
    """Shape and type of the result. Inside `shard_map` the two arrays must vary over the same axes."""
    varying = [getattr(array, "manual_axis_type", None) or getattr(array, "vma", None) for array in (first, second)]
    if varying[0] != varying[1]:
        raise ValueError(
            f"both arrays of a convolution inside shard_map must vary over the same axes; got {varying[0]} and "
            f"{varying[1]}: pass check_vma=False to shard_map, or jax.lax.pcast one of them"
        )
    return first.update(shape=forms.shape_of(missing, first.shape, second.shape, geometry))


def _transposed(at: int) -> Callable[..., Array]:
    """Transpose rule for one argument: the trilinear sum with this argument left out."""

    def rule(cotangent: Array, first: Array, second: Array, *, missing: str, geometry: Geometry) -> Array:
        names = [name for name in forms.ARRAYS if name != missing]
        given = {missing: cotangent, names[1 - at]: (second, first)[at]}
        pair = [given[name] for name in forms.ARRAYS if name in given]
        return contract_p.bind(*pair, missing=names[at], geometry=geometry)

    return rule


# For each missing array, the axes of the two given ones that are also axes of the result, and the corresponding axes of
# the result. If a vmap maps only one of the given arrays, its mapped axis can be merged into this axis.
FREE_AXES = {"output": ((0, 0), (3, 3)), "image": ((2, 3), (0, 0)), "kernel": ((3, 2), (3, 3))}


def _batched(
    arrays: tuple[Array, Array], axes: tuple[int | None, int | None], *, missing: str, geometry: Geometry
) -> tuple[Array, int]:
    """Batching rule: one larger convolution if only one array is mapped, otherwise a leading axis of networks."""
    ranks = [array.ndim - (axis is not None) for array, axis in zip(arrays, axes, strict=True)]
    if ranks == [4, 4] and None in axes:
        at = 1 - axes.index(None)
        free, free_of_result = FREE_AXES[missing][at]
        pair = list(arrays)
        mapped = jnp.moveaxis(arrays[at], axes[at] or 0, free)
        pair[at] = mapped.reshape(*mapped.shape[:free], -1, *mapped.shape[free + 2 :])
        result = contract_p.bind(*pair, missing=missing, geometry=geometry)
        shape = result.shape
        result = result.reshape(*shape[:free_of_result], mapped.shape[free], -1, *shape[free_of_result + 1 :])
        return result, free_of_result
    num = next(array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None)
    pair = [
        jnp.broadcast_to(array, (num, *array.shape)) if axis is None else jnp.moveaxis(array, axis, 0)
        for array, axis in zip(arrays, axes, strict=True)
    ]
    networks = pair[0].shape[:-4]
    result = contract_p.bind(
        *(array.reshape(-1, *array.shape[-4:]) for array in pair), missing=missing, geometry=geometry
    )
    return result.reshape(*networks, *result.shape[1:]), 0


def _implementation(one: forms.Form, several: forms.Form) -> Callable[..., Array]:
    """Computes by `one`, or by `several` for arrays with a leading axis of networks."""

    def compute(first: Array, second: Array, *, missing: str, geometry: Geometry) -> Array:
        return (one if first.ndim == 4 else several)(missing, first, second, geometry)

    return compute


# Implementations by platform. GPUs and TPUs use XLA's own convolution. The fastest form for several networks has not
# been measured there.
IMPLEMENTATIONS = {
    "cpu": _implementation(forms.in_float32(forms.fast_on_cpu), forms.in_float32(forms.several_on_cpu)),
    "gpu": _implementation(forms.native, functools.partial(forms.one_by_one, forms.native)),
    None: _implementation(forms.native, functools.partial(forms.together, forms.native)),
}


@functools.partial(jax.jit, static_argnames=("missing", "geometry"))
def _eagerly(first: Array, second: Array, *, missing: str, geometry: Geometry) -> Array:
    """Evaluation outside of `jit` by JAX operations, which also works under `disable_jit` and `debug_nans`."""
    compute = IMPLEMENTATIONS.get(jax.default_backend(), IMPLEMENTATIONS[None])
    return compute(first, second, missing=missing, geometry=geometry)


contract_p.def_impl(_eagerly)
contract_p.def_abstract_eval(_abstract)
ad.defbilinear(contract_p, _transposed(0), _transposed(1))
batching.primitive_batchers[contract_p] = _batched
for platform, compute in IMPLEMENTATIONS.items():
    mlir.register_lowering(contract_p, mlir.lower_fun(compute, multiple_results=False), platform=platform)


def _twice(value: Any) -> tuple[int, int]:
    """Two integers, from one integer or a pair.

    Raises:
      TypeError or ValueError: if `value` is anything else.
    """
    first, second = value if isinstance(value, Sequence | np.ndarray) else (value, value)
    return operator.index(first), operator.index(second)


def _pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """Two positive integers, from one integer for both axes or a pair with one for each.

    Raises:
      ValueError: if a value is not an integer of at least 1.
    """
    try:
        pair = _twice(value)
    except (TypeError, ValueError):
        pair = (0, 0)
    if min(pair) < 1:
        raise ValueError(f"{name} must be one or two integers of at least 1; got {value!r}")
    return pair


def _pads(padding: Padding) -> list[tuple[int, int]] | None:
    """Padding as (before, after) on each axis, or None for "SAME" and "VALID"."""
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        return None
    try:
        vertical, horizontal = padding if isinstance(padding, Sequence) else (padding, padding)
        return [_twice(vertical), _twice(horizontal)]
    except (TypeError, ValueError):
        raise ValueError(
            f"padding must be SAME, VALID, a number, or a number or (before, after) for each axis; got {padding!r}"
        ) from None


def _images(x: Array, kernel: Array) -> Array:
    """Reshapes `x` to exactly one leading axis.

    Raises:
      ValueError: if image and kernel do not fit.
    """
    if x.ndim < 3 or kernel.ndim != 4 or x.shape[-1] != kernel.shape[2] or 0 in kernel.shape[:2]:
        raise ValueError(
            "a convolution takes x [..., h, w, in] and kernel [kh, kw, in, out] with equal numbers of input channels; "
            f"got {x.shape} and {kernel.shape}"
        )
    return x.reshape(-1, *x.shape[-3:])


def _checked(output: list[int], x: Array, kernel: Array, padding: Padding) -> tuple[int, int]:
    """Height and width of the output, which must be positive."""
    if min(output) < 1:
        raise ValueError(f"the output is empty for x {x.shape}, kernel {kernel.shape} and padding {padding}")
    return output[0], output[1]


def convolve(x: Array, kernel: Array, strides: int | Sequence[int] = 1, padding: Padding = "SAME") -> Array:
    """Convolution, equal to `flax.linen.Conv` without a bias.

    Args:
      x: images `[..., h, w, in]`.
      kernel: `[kh, kw, in, out]`.
      strides: vertical and horizontal stride, or one number for both.
      padding: "SAME", "VALID", a number of pixels, or (before, after) for each axis.

    Returns:
      `[..., oh, ow, out]`.

    Raises:
      ValueError: if the arrays do not fit, strides or padding are invalid, or the kernel is larger than the padded
        image.
    """
    images, steps, pads = _images(x, kernel), _pair(strides, "strides"), _pads(padding)
    image, size = (x.shape[-3], x.shape[-2]), (kernel.shape[0], kernel.shape[1])
    if pads is None:
        pads = lax.padtype_to_pads(image, size, steps, str(padding))
    sides = list(zip(image, size, steps, pads, strict=True))
    output = [(length + before + after - taps) // step + 1 for length, taps, step, (before, after) in sides]
    low = (int(pads[0][0]), int(pads[1][0]))
    geometry = Geometry(steps, low, image, size, _checked(output, x, kernel, padding))
    return contract("output", images, kernel, geometry).reshape(*x.shape[:-3], *output, kernel.shape[-1])


def convolve_transpose(x: Array, kernel: Array, strides: int | Sequence[int] = 1, padding: Padding = "SAME") -> Array:
    """Transposed convolution, equal to `flax.linen.ConvTranspose` without a bias.

    It inserts `stride - 1` zeros between the pixels of `x` and convolves the result with the kernel. This equals the
    gradient, with respect to the image, of a convolution with the flipped kernel.

    Args:
      x: images `[..., h, w, in]`.
      kernel: `[kh, kw, in, out]`.
      strides: vertical and horizontal stride, or one number for both.
      padding: as in `convolve`.

    Returns:
      `[..., oh, ow, out]`, with `oh = h * stride` for "SAME".

    Raises:
      ValueError: as in `convolve`.
    """
    images, steps, pads = _images(x, kernel), _pair(strides, "strides"), _pads(padding)
    output, low = [], []
    for axis, step in enumerate(steps):
        taps = kernel.shape[axis]
        if pads is not None:
            before, after = pads[axis]
        elif padding == "VALID":
            before, after = taps - 1, max(taps, step) - 1
        else:
            before = taps - 1 if step > taps - 1 else -(-(taps + step - 2) // 2)
            after = taps + step - 2 - before
        output.append((x.shape[axis - 3] - 1) * step + before + after - taps + 2)
        low.append(taps - 1 - before)
    size = (kernel.shape[0], kernel.shape[1])
    geometry = Geometry(steps, (low[0], low[1]), _checked(output, x, kernel, padding), size, images.shape[1:3])
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return contract("image", flipped, images, geometry).reshape(*x.shape[:-3], *output, kernel.shape[-1])


class Conv(nn.Module):
    """Convolution layer equal to `flax.linen.Conv`, from `[..., h, w, in]` to `[..., oh, ow, features]`.

    With padding "SAME", oh and ow are h / stride and w / stride, rounded up.

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernel.
      strides: vertical and horizontal stride, or one number for both.
      padding: "SAME", "VALID", a number of pixels, or (before, after) for each axis.
      use_bias: whether to add a bias for each channel.
      kernel_init: initialiser of the kernel.
      bias_init: initialiser of the bias.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = fan_in_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The convolution of `x`."""
        size = _pair(self.kernel_size, "kernel_size")
        kernel = self.param("kernel", self.kernel_init, (*size, x.shape[-1], self.features))
        out = convolve(x, kernel, self.strides, self.padding)
        return _with_bias(out, self.param("bias", self.bias_init, (self.features,))) if self.use_bias else out


class ConvTranspose(nn.Module):
    """Transposed convolution equal to `flax.linen.ConvTranspose`, from `[..., h, w, in]` to `[..., oh, ow, features]`.

    With padding "SAME", oh and ow are h * stride and w * stride.

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernel.
      strides: vertical and horizontal stride, or one number for both.
      padding: "SAME", "VALID", a number of pixels, or (before, after) for each axis.
      use_bias: whether to add a bias for each channel.
      kernel_init: initialiser of the kernel.
      bias_init: initialiser of the bias.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = fan_in_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The transposed convolution of `x`."""
        size = _pair(self.kernel_size, "kernel_size")
        kernel = self.param("kernel", self.kernel_init, (*size, x.shape[-1], self.features))
        out = convolve_transpose(x, kernel, self.strides, self.padding)
        return _with_bias(out, self.param("bias", self.bias_init, (self.features,))) if self.use_bias else out


def _with_bias(x: Array, bias: Array) -> Array:
    return x + jnp.broadcast_to(bias, x.shape)
