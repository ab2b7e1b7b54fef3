"""The one home of convolutions: Flax's `Conv` and `ConvTranspose`, same parameters and numbers, fast everywhere.

A convolution, its gradient in the image (which is the transposed convolution) and its gradient in the kernel are one
trilinear sum with one array left out (`convolution_forms.py` writes it down). Here they are one differentiable
operation, `contract`: the derivative of each is another of the three, to any order, forwards and backwards, and a
`vmap` over images alone or kernels alone is folded into a larger convolution. Which form computes it is chosen for the
platform that a program is compiled for, in `convolution_forms.py`.

Layout is NHWC; kernels are `[height, width, in, out]`; padding as in Flax.
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
    """The one of image, kernel and output that is missing, from the other two in that order.

    Args:
      missing: "output" for the convolution, "image" or "kernel" for its gradient in them.
      first, second: the two given, of `image [batch, h, w, a]`, `kernel [kh, kw, a, b]`,
        `output [batch, oh, ow, b]`.
      geometry: where the kernel goes.
    """
    dtype = jnp.promote_types(first.dtype, second.dtype)
    return contract_p.bind(first.astype(dtype), second.astype(dtype), missing=missing, geometry=geometry)


def _abstract(first: Any, second: Any, *, missing: str, geometry: Geometry) -> Any:
    """Shape and type; inside `shard_map`, both must vary over the same axes, or the result's would be wrong."""
    varying = [getattr(array, "manual_axis_type", None) or getattr(array, "vma", None) for array in (first, second)]
    if varying[0] != varying[1]:
        raise ValueError(
            f"a convolution inside shard_map needs both arrays to vary over the same axes; got {varying[0]} and "
            f"{varying[1]}: pass check_vma=False to shard_map, or jax.lax.pcast one of them"
        )
    return first.update(shape=forms.shape_of(missing, first.shape, second.shape, geometry))


def _transposed(at: int) -> Callable[..., Array]:
    """The transpose in one argument: the trilinear sum with that argument left out."""

    def rule(cotangent: Array, first: Array, second: Array, *, missing: str, geometry: Geometry) -> Array:
        names = [name for name in forms.ARRAYS if name != missing]
        given = {missing: cotangent, names[1 - at]: (second, first)[at]}
        pair = [given[name] for name in forms.ARRAYS if name in given]
        return contract_p.bind(*pair, missing=names[at], geometry=geometry)

    return rule


# For each missing array, the axes of the two given ones that are also axes of the result, and those axes there. Arrays
# that a vmap makes of only one of the two given can be laid side by side along it.
FREE_AXES = {"output": ((0, 0), (3, 3)), "image": ((2, 3), (0, 0)), "kernel": ((3, 2), (3, 3))}


def _batched(
    arrays: tuple[Array, Array], axes: tuple[int | None, int | None], *, missing: str, geometry: Geometry
) -> tuple[Array, int]:
    """Under `vmap`: one larger convolution if only one array is mapped, otherwise a leading axis of networks."""
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


def _computed(one: forms.Form, several: forms.Form) -> Callable[..., Array]:
    """By `one`, or by `several` of arrays with a leading axis of networks."""

    def compute(first: Array, second: Array, *, missing: str, geometry: Geometry) -> Array:
        return (one if first.ndim == 4 else several)(missing, first, second, geometry)

    return compute


ON = {  # by platform; on a GPU and a TPU it is XLA's own convolution, and how several are best done is not measured
    "cpu": _computed(forms.in_float32(forms.fast_on_cpu), forms.in_float32(forms.several_on_cpu)),
    "gpu": _computed(forms.native, functools.partial(forms.one_by_one, forms.native)),
    None: _computed(forms.native, functools.partial(forms.together, forms.native)),
}


@functools.partial(jax.jit, static_argnames=("missing", "geometry"))
def _eagerly(first: Array, second: Array, *, missing: str, geometry: Geometry) -> Array:
    """Outside a program. Of JAX's own operations, so that it runs without `jit`, too: under `disable_jit`, and when
    `debug_nans` looks for the operation that made a NaN."""
    compute = ON.get(jax.default_backend(), ON[None])
    return compute(first, second, missing=missing, geometry=geometry)


contract_p.def_impl(_eagerly)
contract_p.def_abstract_eval(_abstract)
ad.defbilinear(contract_p, _transposed(0), _transposed(1))
batching.primitive_batchers[contract_p] = _batched
for platform, compute in ON.items():
    mlir.register_lowering(contract_p, mlir.lower_fun(compute, multiple_results=False), platform=platform)


def _twice(value: Any) -> tuple[int, int]:
    """A whole number for both, or two of them; TypeError or ValueError for anything else."""
    first, second = value if isinstance(value, Sequence | np.ndarray) else (value, value)
    return operator.index(first), operator.index(second)


def _pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """A number for both axes, or one for each.

    Raises:
      ValueError: unless they are whole numbers from 1 on.
    """
    try:
        pair = _twice(value)
    except (TypeError, ValueError):
        pair = (0, 0)
    if min(pair) < 1:
        raise ValueError(f"{name} must be one or two whole numbers, at least 1; got {value!r}")
    return pair


def _pads(padding: Padding) -> list[tuple[int, int]] | None:
    """Flax's padding: None for a name, or (before, after) on each axis."""
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        return None
    try:
        vertical, horizontal = padding if isinstance(padding, Sequence) else (padding, padding)
        return [_twice(vertical), _twice(horizontal)]
    except (TypeError, ValueError):
        raise ValueError(
            f"padding must be SAME, VALID, a number, or a number or (before, after) an axis; got {padding!r}"
        ) from None


def _images(x: Array, kernel: Array) -> Array:
    """`x` with one leading axis, or a line that says what does not fit."""
    if x.ndim < 3 or kernel.ndim != 4 or x.shape[-1] != kernel.shape[2] or 0 in kernel.shape[:2]:
        raise ValueError(
            "a convolution takes x [..., h, w, in] and kernel [kh, kw, in, out] with as many inputs; got "
            f"{x.shape} and {kernel.shape}"
        )
    return x.reshape(-1, *x.shape[-3:])


def _checked(output: list[int], x: Array, kernel: Array, padding: Padding) -> tuple[int, int]:
    """The output's height and width."""
    if min(output) < 1:
        raise ValueError(f"no output is left of x {x.shape} under a kernel {kernel.shape} with padding {padding}")
    return output[0], output[1]


def convolve(x: Array, kernel: Array, strides: int | Sequence[int] = 1, padding: Padding = "SAME") -> Array:
    """Convolution of `x` `[..., h, w, in]` with `kernel` `[kh, kw, in, out]`, as `flax.linen.Conv` has it.

    Raises:
      ValueError: if the arrays do not fit, the strides are no strides or the padding no padding, or the kernel is
        larger than the padded image.
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
    """Transposed convolution of `x` `[..., h, w, in]` with `kernel` `[kh, kw, in, out]`, as `flax.linen.ConvTranspose`.

    It spreads `x` out, `stride - 1` zeros between its pixels, and convolves that with the kernel: the gradient, in its
    image, of a convolution with the kernel turned round. With "SAME" the output has `h * stride` rows.

    Raises:
      ValueError: as `convolve`.
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
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return contract("image", turned, images, geometry).reshape(*x.shape[:-3], *output, kernel.shape[-1])


class Conv(nn.Module):
    """`flax.linen.Conv`: `[..., h, w, in]` to `[..., ceil(h / stride), ceil(w / stride), features]` if "SAME".

    Attributes:
      features: number of output channels.
      kernel_size: height and width of the kernel.
      strides: vertical and horizontal stride, or one number for both.
      padding: "SAME", "VALID", a number of pixels, or (before, after) for each axis.
      use_bias: whether to add a bias per channel.
      kernel_init, bias_init: Flax initialisers.
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
    """`flax.linen.ConvTranspose`: `[..., h, w, in]` to `[..., h * stride, w * stride, features]` if "SAME".

    Attributes: as `Conv`.
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
