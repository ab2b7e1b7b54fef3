"""How a convolution is computed: several equal forms, and which one XLA's CPU compiler runs fastest for a shape.

A convolution joins three arrays: the image x `[batch, h, w, a]`, the kernel `[kh, kw, a, b]` and the output y
`[batch, oh, ow, b]`, in one trilinear sum,

    sum over o, i of  x[stride o + i - low] kernel[i] y[o].

Leaving one array out gives the three maps that a network needs, each the gradient of the others: `output` (the
convolution), `image` (its gradient in x, which is the transposed convolution) and `kernel` (its gradient in the
kernel). `convolution.py` makes one differentiable operation of them; here they are only computed.

What was measured (jaxlib 0.10, two cores; `benchmarks/convolutions.py` measures it again, shape by shape):

* XLA runs a convolution at the speed of its matrix products only if it is in the layout below, not dilated at the
  input, and not wider than the image. Otherwise it is a plain loop, 10 to 60 times slower.
* XLA rewrites convolutions to that layout only at the top level of a program. In a `scan`, as all training is, the
  kernel gradient that JAX writes is such a plain loop: here it is written in that layout to begin with.
* A strided gradient in the image is stride^2 convolutions without dilation, one for each phase of its pixels.
* A convolution runs on one core, whatever its size: `training.spread` gives each core its part of the work.
* Over a batch of kernels, XLA's grouped convolution is slow, and a batched product of patches runs at half the rate of
  single ones and leaves the cache; a few networks are fastest one after the other.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bayesjax.types import Array

ARRAYS = ("image", "kernel", "output")  # the order in which any two of them are given
LAYOUT = ("NHWC", "HWIO", "NHWC")
UNROLLED = 16  # networks in one program, one after another; in a loop over them XLA runs a third slower
LARGE = 2**22  # numbers in patches that leave the cache, 16 MiB
SMALL = 2**25  # multiply-adds of a network above which it pays to compute it by itself


class Geometry(NamedTuple):
    """Where the kernel goes: `y[o]` sees `x[stride o + i - low]` for `i` in the kernel, on each of the two axes.

    Attributes:
      strides: (vertical, horizontal).
      low: padding before the image; what is needed after it follows from the sizes, and may be negative.
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
        """(before, after) on each axis."""
        return [
            (low, stride * (output - 1) + kernel - image - low)
            for stride, low, image, kernel, output in zip(*self, strict=True)
        ]


Form = Callable[[str, Array, Array, Geometry], Array]


def shape_of(missing: str, first: tuple[int, ...], second: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    """The shape of the missing array, from those of the two given ones in the order image, kernel, output."""
    if missing == "output":
        return (*first[:-3], *geometry.output, second[-1])
    if missing == "kernel":
        return (*first[:-4], *geometry.kernel, first[-1], second[-1])
    return (*second[:-3], *geometry.image, first[-2])


def native(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """XLA's own convolution and its transposes: what a GPU or a TPU computes."""
    if missing == "output":
        return _native_output(first, second, geometry)
    like = jax.ShapeDtypeStruct(shape_of(missing, first.shape, second.shape, geometry), first.dtype)
    if missing == "image":
        return jax.linear_transpose(lambda image: _native_output(image, first, geometry), like)(second)[0]
    return jax.linear_transpose(lambda kernel: _native_output(first, kernel, geometry), like)(second)[0]


def fast_on_cpu(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """One network, in the fastest form for the shape."""
    forms = {"output": _output, "image": _image, "kernel": _kernel}
    return forms[missing](first, second, geometry)


def in_float32(form: Form) -> Form:
    """`form`, with sums of shorter numbers in float32: rounded once, at the end."""

    def wide(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
        dtype = first.dtype
        wider = jnp.promote_types(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.floating) else dtype
        return form(missing, first.astype(wider), second.astype(wider), geometry).astype(dtype)

    return wide


def products(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """One network as a product over patches, which `vmap` turns into a batched product."""
    forms = {"output": _output_by_patches, "image": _image_by_patches, "kernel": _kernel_by_patches}
    return forms[missing](first, second, geometry)


def several_on_cpu(missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """Networks along a leading axis: small ones in one batched product, others one after the other."""
    shapes = dict(zip([name for name in ARRAYS if name != missing], (first.shape, second.shape), strict=True))
    shapes[missing] = shape_of(missing, first.shape, second.shape, geometry)
    if math.prod(shapes["output"][-4:]) * math.prod(shapes["kernel"][-4:-1]) > SMALL:
        return one_by_one(fast_on_cpu, missing, first, second, geometry)
    return together(products, missing, first, second, geometry)


def _native_output(image: Array, kernel: Array, geometry: Geometry) -> Array:
    return lax.conv_general_dilated(image, kernel, geometry.strides, geometry.padding, dimension_numbers=LAYOUT)


def _output(image: Array, kernel: Array, geometry: Geometry) -> Array:
    """The convolution itself.

    A kernel matrix with more columns than there are output pixels costs XLA more to arrange than to use; one wider than
    the image makes it a plain loop, which only few output channels can afford.
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
    """Whether the convolution and its gradient in the kernel are products with one array of patches, made once."""
    everything_is_small = inputs * math.prod(geometry.output) <= 64 and inputs <= outputs
    return _large_products(inputs, outputs, geometry) or (math.prod(geometry.kernel) <= 9 and everything_is_small)


def _large_products(inputs: int, outputs: int, geometry: Geometry) -> bool:
    """Whether patches are little larger than the image for the size of the products.

    A kernel of 4 x 4 and stride 2 makes four equal phases, which are faster; one of 5 x 5 does not. With as many pixels
    as 16 x 16 the patches leave the cache, which only more channels on one side are worth.
    """
    channels, taps, fits = min(inputs, outputs), math.prod(geometry.kernel), math.prod(geometry.output) < 256
    small_kernel = taps <= 9 and channels >= 64 and (fits or max(inputs, outputs) >= 256)
    return min(geometry.strides) > 1 and (small_kernel or (taps > 16 and channels >= 256))


def _is_tiny(inputs: int, geometry: Geometry) -> bool:
    """Whether there is too little to do for more than one operation: XLA's own, even as a plain loop."""
    return inputs == 1 and math.prod(geometry.output) <= 4 and math.prod(geometry.kernel) > 9


def _output_by_patches(image: Array, kernel: Array, geometry: Geometry) -> Array:
    """A product; with one input channel a sum of scaled slices, which XLA fuses into one loop.

    It would run that loop again in everything that reads the sum, were the sum not put together from two parts.
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
    """The gradient in the image: the output spread out again.

    Into few channels a product and kernel-sized many shifted sums; so for small kernels and many channels. Otherwise
    one convolution for each phase, the pixels `t = stride q + phase` that see the same rows of the kernel.
    """
    (inputs, outputs), taps = kernel.shape[2:], math.prod(geometry.kernel)
    is_strided = min(geometry.strides) > 1
    few = inputs * 4 <= outputs and (inputs <= 4 or inputs >= 64)
    few_pixels = not is_strided and taps <= 16 and math.prod(geometry.output) <= 16 and inputs >= 32
    small_kernel = taps <= 9 and (is_strided or inputs >= 32)
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
    """A product, and the sum of its parts in their places: the transpose of making patches."""
    like = jax.ShapeDtypeStruct((output.shape[0], *geometry.image, kernel.shape[2]), output.dtype)
    patches = output @ kernel.reshape(-1, kernel.shape[3]).T
    return jax.linear_transpose(lambda image: _patches(image, geometry), like)(patches)[0]


def _phase(kernel: Array, output: Array, phase: tuple[int, ...], grid: tuple[int, ...], geometry: Geometry) -> Array:
    """Pixels `stride q + phase` of the image: the sum over d of output q + d by kernel row `phase + low - stride d`."""
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
    """The gradient in the kernel, a convolution whose batch is the channels and whose channels are the batch.

    Patches are worth their memory where few input channels make them small or many output channels share them, and
    where the channels do not fill XLA's vectors; but not where they leave the cache.
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
    """A product of what each output pixel sees with its gradient; the pixels come last, so that nothing is transposed
    but the image."""
    inputs, outputs = image.shape[-1], output.shape[-1]
    patches = jnp.concatenate([part.transpose(3, 0, 1, 2) for part in _slices(image, geometry)])
    return (patches.reshape(len(patches), -1) @ output.reshape(-1, outputs)).reshape(*geometry.kernel, inputs, outputs)


def _slices(image: Array, geometry: Geometry) -> list[Array]:
    """What each kernel position sees: `[batch, oh, ow, channels]` for each, row by row."""
    (stride_h, stride_w), (rows, columns) = geometry.strides, geometry.output
    pads = [(0, 0, 0), *((*pad, 0) for pad in geometry.padding), (0, 0, 0)]
    image = lax.pad(image, jnp.zeros((), image.dtype), pads)
    return [
        image[:, i : i + (rows - 1) * stride_h + 1 : stride_h, j : j + (columns - 1) * stride_w + 1 : stride_w]
        for i in range(geometry.kernel[0])
        for j in range(geometry.kernel[1])
    ]


def _patches(image: Array, geometry: Geometry) -> Array:
    """All that each output pixel sees: `[batch, oh, ow, kh * kw * channels]`."""
    return jnp.concatenate(_slices(image, geometry), axis=-1)


def one_by_one(form: Form, missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """`form` of each network along a leading axis, a number of them in one loop body."""

    def body(_: None, pair: tuple[Array, Array]) -> tuple[None, Array]:
        return None, form(missing, *pair, geometry)

    return lax.scan(body, None, (first, second), unroll=min(UNROLLED, first.shape[0]))[1]


def together(form: Form, missing: str, first: Array, second: Array, geometry: Geometry) -> Array:
    """`form` under `vmap`: XLA's grouped convolution of `native`, the batched product of `products`."""
    return jax.vmap(lambda first, second: form(missing, first, second, geometry))(first, second)
