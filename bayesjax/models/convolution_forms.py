"""Equivalent forms of a convolution, and a choice of the fastest form on a CPU for each shape.

A convolution combines the image x `[batch, h, w, a]`, the kernel `[kh, kw, a, b]` and the output y `[batch, oh, ow, b]`
in one trilinear sum,

    sum over o, i of  x[stride o + i - low] kernel[i] y[o].

o is an output pixel, i a position in the kernel, and low the padding before the image. Without one of the arrays, the
sum is one of the three maps that a network needs, which are gradients of one another. They are `output` (the
convolution), `image` (its gradient with respect to x, the transposed convolution) and `kernel` (its gradient with
respect to the kernel). `convolution.py` combines them into one differentiable operation.

The choices are based on measurements with jaxlib 0.10 on two cores, which `benchmarks/convolutions.py` repeats:

* XLA computes a convolution at the speed of its matrix products only in the layout `LAYOUT`, without dilation of the
  input, and with a kernel no wider than the image. Otherwise it uses a plain loop that is 10 to 60 times slower.
* XLA converts convolutions to this layout only at the top level of a program. Training runs inside a `scan`, where the
  kernel gradient of JAX becomes a plain loop. Here the kernel gradient is written in this layout.
* A strided gradient with respect to the image is computed as stride^2 convolutions without dilation, one for each phase
  of its pixels.
* XLA runs a convolution of any size on one core. `training.spread` divides the work between cores.
* For a batch of kernels, XLA's grouped convolution is slow. A batched product of patches runs at half the rate of
  single products and exceeds the cache. A few networks are fastest one after the other.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bayesjax.types import Array

ARRAYS = ("image", "kernel", "output")  # the order in which two of the arrays are passed
LAYOUT = ("NHWC", "HWIO", "NHWC")
UNROLLED = 16  # largest number of networks that are unrolled; in a loop over networks XLA is a third slower
LARGE = 2**22  # size of patches, in numbers, that exceeds the cache (16 MiB)
SMALL = 2**25  # multiply-adds of a network above which networks are computed one by one


class Geometry(NamedTuple):
    """Strides, padding and sizes of a convolution: `y[o]` depends on `x[stride o + i - low]` for `i` in the kernel.

    Attributes:
      strides: (vertical, horizontal).
      low: padding before the image on each axis. The padding after the image follows from the sizes and may be
        negative.
      image: (h, w) of x.
      kernel: (kh, kw).
      output: (oh, ow) of y.
    """

    strides: tuple[int, ...]
    low: tuple[int, ...]
    image: tuple[int, ...]
    kernel: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def padding(self) -> list[tuple[int, int]]:
        """Padding as (before, after) on each axis."""
        return [
            (low, stride * (output - 1) + kernel - image - low)
            for stride, low, image, kernel, output in zip(*self, strict=True)
        ]


Form = Callable[[str, Array, Array, Geometry], Array]


def shape_of(missing: str, first: tuple[int, ...], second: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    """Shape of the array to compute, from the shapes of the two given arrays.

    Args:
      missing: the array to compute: "image", "kernel" or "output".
      first, second: shapes of the two other arrays, in the order image, kernel, output.
      geometry: sizes, strides and padding of the convolution.
    """
    if missing == "output":
        return (*first[:-3], *geometry.output, second[-1])
    if missing == "kernel":
        return (*first[:-4], *geometry.kernel, first[-1], second[-1])
    return (*second[:-3], *geometry.image, first[-2])


def native(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """Computes the array by XLA's own convolution or one of its transposes, the form for GPUs and TPUs.

    Args:
      missing: the array to compute: "image", "kernel" or "output".
      first, second: the two other arrays, in the order image, kernel, output.
      geometry: sizes, strides and padding of the convolution.
    """
    if missing == "output":
        return _native_output(first, second, geometry)
    like = jax.ShapeDtypeStruct(shape_of(missing, first.shape, second.shape, geometry), first.dtype)
    if missing == "image":
        return jax.linear_transpose(lambda image: _native_output(image, first, geometry), like)(second)[0]
    return jax.linear_transpose(lambda kernel: _native_output(first, kernel, geometry), like)(second)[0]


def fast_on_cpu(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """Computes the array for one network by the form that is fastest on a CPU for its shape.

    Args:
      missing, first, second, geometry: as in `native`.
    """
    forms = {"output": _output, "image": _image, "kernel": _kernel}
    return forms[missing](first, second, geometry)


def in_float32(form: Form) -> Form:
    """Wraps a form so that types of lower precision are summed in float32 and rounded once at the end."""

    def wide(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
        dtype = first.dtype
        wider = jnp.promote_types(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.floating) else dtype
        return form(missing, first.astype(wider), second.astype(wider), geometry).astype(dtype)

    return wide


def products(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """Computes the array for one network by a matrix product of patches, which `vmap` turns into a batched product.

    Args:
      missing, first, second, geometry: as in `native`.
    """
    forms = {"output": _output_by_patches, "image": _image_by_patches, "kernel": _kernel_by_patches}
    return forms[missing](first, second, geometry)


def several_on_cpu(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """Computes the array for several networks on a CPU, in one batched product if they are small, else one by one.

    Args:
      missing, first, second, geometry: as in `native`; the arrays have a leading axis of networks.
    """
    shapes = dict(zip([name for name in ARRAYS if name != missing], (first.shape, second.shape), strict=True))
    shapes[missing] = shape_of(missing, first.shape, second.shape, geometry)
    if math.prod(shapes["output"][-4:]) * math.prod(shapes["kernel"][-4:-1]) > SMALL:
        return one_by_one(fast_on_cpu, missing, first, second, geometry)
    return together(products, missing, first, second, geometry)


def _native_output(image: Array, kernel: Array, geometry: Geometry) -> Array:
    return lax.conv_general_dilated(image, kernel, geometry.strides, geometry.padding, dimension_numbers=LAYOUT)


def _output(image: Array, kernel: Array, geometry: Geometry) -> Array:
    """The convolution.

    If a kernel has more output channels than there are output pixels, XLA spends more time on rearranging it than on
    the product. For a kernel wider than the image, XLA uses a plain loop, which is acceptable only for few output
    channels.
    """
    if _share_patches(kernel.shape[-2], kernel.shape[-1], geometry):
        return _patches(image, geometry) @ kernel.reshape(-1, kernel.shape[-1])
    outputs, taps = kernel.shape[-1], math.prod(geometry.kernel)
    fits = all(size <= length for size, length in zip(geometry.kernel, geometry.image, strict=True))
    num_rows = image.shape[0] * math.prod(geometry.output)
    few_rows = num_rows <= outputs or (num_rows <= 512 and taps > 9 and min(kernel.shape[-2:]) >= 16)
    is_strided = min(geometry.strides) > 1
    few_products = image.shape[-1] == 1 and (outputs <= 16 or taps <= 9 or (taps <= 16 and not is_strided))
    is_tiny = _is_tiny(image.shape[-1], geometry)
    if not is_tiny and (few_products or few_rows or not (fits or outputs <= 4)):
        return _output_by_patches(image, kernel, geometry)
    return _native_output(image, kernel, geometry)


def _share_patches(inputs: int, outputs: int, geometry: Geometry) -> bool:
    """Whether the convolution and its kernel gradient are products with the same array of patches."""
    everything_is_small = inputs * math.prod(geometry.output) <= 64 and inputs <= outputs
    return _large_products(inputs, outputs, geometry) or (math.prod(geometry.kernel) <= 9 and everything_is_small)


def _large_products(inputs: int, outputs: int, geometry: Geometry) -> bool:
    """Whether the matrix products are large compared with the cost of extracting patches.

    A 4 x 4 kernel of stride 2 gives four equal phases, which are faster than patches; a 5 x 5 kernel does not. From
    16 x 16 output pixels on, the patches exceed the cache, and are faster only with many channels on one side.
    """
    channels, taps, fits = min(inputs, outputs), math.prod(geometry.kernel), math.prod(geometry.output) < 256
    small_kernel = taps <= 9 and channels >= 64 and (fits or max(inputs, outputs) >= 256)
    return min(geometry.strides) > 1 and (small_kernel or (taps > 16 and channels >= 256))


def _is_tiny(inputs: int, geometry: Geometry) -> bool:
    """Whether the convolution is so small that XLA's own single operation is fastest, even as a plain loop."""
    return inputs == 1 and math.prod(geometry.output) <= 4 and math.prod(geometry.kernel) > 9


def _output_by_patches(image: Array, kernel: Array, geometry: Geometry) -> Array:
    """The convolution as a matrix product of patches.

    For one input channel it is a sum of scaled slices, which XLA fuses into one loop. The sum is concatenated from two
    parts. Otherwise XLA would repeat the loop in every consumer of the sum.
    """
    rows = kernel.reshape(-1, kernel.shape[-1])
    if image.shape[-1] > 1:
        return _patches(image, geometry) @ rows
    parts = [image[: len(image) // 2], image[len(image) // 2 :]] if len(image) > 1 else [image]
    sums = [
        functools.reduce(jnp.add, [piece * row for piece, row in zip(_slices(part, geometry), rows, strict=True)])
        for part in parts
    ]
    return jnp.concatenate(sums)


def _image(kernel: Array, output: Array, geometry: Geometry) -> Array:
    """The gradient with respect to the image.

    For few input channels, and for small kernels with many channels, it is a product followed by one shifted sum for
    each kernel position. Without stride, the sums are faster only for images of up to 8 x 8 pixels. Otherwise it is one
    convolution for each phase. A phase consists of the pixels `t = stride q + phase`, which use the same rows of the
    kernel.
    """
    (inputs, outputs), taps = kernel.shape[2:], math.prod(geometry.kernel)
    is_strided = min(geometry.strides) > 1
    few = inputs * 4 <= outputs and (inputs <= 4 or inputs >= 64)
    few_pixels = not is_strided and taps <= 16 and math.prod(geometry.output) <= 16 and inputs >= 32
    small_kernel = taps <= 9 and (is_strided or (inputs >= 32 and math.prod(geometry.output) <= 64))
    small = inputs <= outputs and (small_kernel or few_pixels or (inputs >= 256 and not is_strided))
    if few or small or _large_products(inputs, outputs, geometry):
        return _image_by_patches(kernel, output, geometry)
    if _is_tiny(inputs, geometry):
        return native("image", kernel, output, geometry)
    grid = [-(-length // stride) for length, stride in zip(geometry.image, geometry.strides, strict=True)]
    phases = [
        _phase(kernel, output, (row, column), (grid[0], grid[1]), geometry)
        for row in range(geometry.strides[0])
        for column in range(geometry.strides[1])
    ]
    if len(phases) == 1:
        return phases[0]
    image = jnp.stack(phases, axis=3).reshape(output.shape[0], *grid, *geometry.strides, inputs)
    image = image.transpose(0, 1, 3, 2, 4, 5)
    image = image.reshape(-1, grid[0] * geometry.strides[0], grid[1] * geometry.strides[1], inputs)
    return image[:, : geometry.image[0], : geometry.image[1]]


def _image_by_patches(kernel: Array, output: Array, geometry: Geometry) -> Array:
    """A matrix product followed by the transpose of patch extraction, which adds shifted parts."""
    like = jax.ShapeDtypeStruct((output.shape[0], *geometry.image, kernel.shape[2]), output.dtype)
    patches = output @ kernel.reshape(-1, kernel.shape[3]).T
    return jax.linear_transpose(lambda image: _patches(image, geometry), like)(patches)[0]


def _phase(kernel: Array, output: Array, phase: tuple[int, ...], grid: tuple[int, ...], geometry: Geometry) -> Array:
    """Pixels `stride q + phase` of the image gradient: sum_d output[q + d] kernel[phase + low - stride d]."""
    strides = geometry.strides
    shifts = [(at + low) // stride for at, low, stride in zip(phase, geometry.low, strides, strict=True)]
    firsts = [(at + low) % stride for at, low, stride in zip(phase, geometry.low, strides, strict=True)]
    taps = jnp.flip(kernel[firsts[0] :: strides[0], firsts[1] :: strides[1]], (0, 1)).swapaxes(2, 3)
    size = taps.shape[:2]
    if not all(size):
        return jnp.zeros((output.shape[0], *grid, taps.shape[-1]), output.dtype)
    low = (size[0] - 1 - shifts[0], size[1] - 1 - shifts[1])
    return _output(output, taps, Geometry((1, 1), low, geometry.output, (size[0], size[1]), grid))


def _kernel(image: Array, output: Array, geometry: Geometry) -> Array:
    """The gradient with respect to the kernel, a convolution in which batch and channels are exchanged.

    Patches are faster if few input channels make them small, if many output channels share them, or if the number of
    channels does not fill XLA's vectors. They are slower if they exceed the cache.
    """
    inputs, outputs, pixels = image.shape[-1], output.shape[-1], math.prod(geometry.output)
    if _share_patches(inputs, outputs, geometry):
        kernel = jnp.einsum("nhwp,nhwb->pb", _patches(image, geometry), output)
        return kernel.reshape(*geometry.kernel, inputs, outputs)
    spans = [stride * (out - 1) + 1 for stride, out in zip(geometry.strides, geometry.output, strict=True)]
    fits = all(span <= length for span, length in zip(spans, geometry.image, strict=True))
    taps = math.prod(geometry.kernel)
    if inputs <= 4:
        cheap = outputs >= 16 and (taps <= 9 or (outputs > 16 and pixels >= 256))
    else:
        many = inputs * outputs >= 2**16 or outputs >= max(64, 4 * inputs)
        cheap = many or (outputs > 16 and outputs % 16 > 0)
    is_large = taps > 9 and max(geometry.strides) == 1 and taps * inputs * pixels * image.shape[0] >= LARGE
    if (cheap and not is_large) or not fits:
        return _kernel_by_patches(image, output, geometry)
    kernel = lax.conv_general_dilated(
        image.transpose(3, 1, 2, 0),
        output.transpose(1, 2, 0, 3),
        (1, 1),
        geometry.padding,
        rhs_dilation=geometry.strides,
        dimension_numbers=LAYOUT,
    )
    return kernel.transpose(1, 2, 0, 3)


def _kernel_by_patches(image: Array, output: Array, geometry: Geometry) -> Array:
    """A matrix product of patches and output gradients. Pixels are the last axis, so only the image is transposed."""
    inputs, outputs = image.shape[-1], output.shape[-1]
    patches = jnp.concatenate([part.transpose(3, 0, 1, 2) for part in _slices(image, geometry)])
    return (patches.reshape(len(patches), -1) @ output.reshape(-1, outputs)).reshape(*geometry.kernel, inputs, outputs)


def _slices(image: Array, geometry: Geometry) -> list[Array]:
    """The strided slices of the image for all kernel positions, row by row, `[batch, oh, ow, channels]` each."""
    (stride_h, stride_w), (rows, columns) = geometry.strides, geometry.output
    pads = [(0, 0, 0), *((*pad, 0) for pad in geometry.padding), (0, 0, 0)]
    image = lax.pad(image, jnp.zeros((), image.dtype), pads)
    return [
        image[:, i : i + (rows - 1) * stride_h + 1 : stride_h, j : j + (columns - 1) * stride_w + 1 : stride_w]
        for i in range(geometry.kernel[0])
        for j in range(geometry.kernel[1])
    ]


def _patches(image: Array, geometry: Geometry) -> Array:
    """The patch of the image for each output pixel, `[batch, oh, ow, kh * kw * channels]`."""
    return jnp.concatenate(_slices(image, geometry), axis=-1)


def one_by_one(form: Form, missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """Applies `form` to each network along a leading axis, in a loop that is unrolled up to `UNROLLED` times.

    Args:
      form: a form for one network, such as `native`.
      missing, first, second, geometry: as in `native`; the arrays have a leading axis of networks.
    """

    def body(_: None, pair: tuple[Array, Array]) -> tuple[None, Array]:
        return None, form(missing, *pair, geometry)

    return lax.scan(body, None, (first, second), unroll=min(UNROLLED, first.shape[0]))[1]


def together(form: Form, missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """Applies `form` under `vmap`: a grouped convolution for `native`, or a batched product for `products`.

    Args:
      form: a form for one network, such as `native`.
      missing, first, second, geometry: as in `native`; the arrays have a leading axis of networks.
    """
    return jax.vmap(lambda first, second: form(missing, first, second, geometry))(first, second)
