"""Convolutions against Flax's, and against a direct float64 sum; `test_convolution_forms.py` has the rest.

Kernel sizes 1 to 5 and strides 1 to 3 are all met, on each axis, by 15 rectangular cases.
"""

import functools
import itertools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.models import Conv, ConvTranspose
from bayesjax.models.convolution import convolve, convolve_transpose

# Compiled once and run once: no time is spent on making it fast.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
PAIRS = list(itertools.product(range(1, 6), range(1, 4)))
CASES = [
    ((size_h, size_w), (stride_h, stride_w))
    for (size_h, stride_h), (size_w, stride_w) in zip(PAIRS, PAIRS[7:] + PAIRS[:7], strict=True)
]
every_case = pytest.mark.parametrize(("size", "strides"), CASES)
X77, K33 = np.zeros((1, 7, 7, 2)), np.zeros((3, 3, 2, 3))
MODULES = {"Conv": (Conv, nn.Conv), "ConvTranspose": (ConvTranspose, nn.ConvTranspose)}


def arrays(size, image=(7, 10), channels=(2, 3), batch=2):
    """An odd rectangular image batch, a kernel and a bias."""
    random = np.random.default_rng(0)
    return [
        random.normal(size=shape).astype(np.float32)
        for shape in ((batch, *image, channels[0]), (*size, *channels), channels[1:])
    ]


def correlate(x, kernel, strides, pads):
    """Direct sum in float64: out[p] = sum_i x[s p + i - pad] kernel[i], on padded x."""
    x = np.pad(x.astype(np.float64), [(0, 0), *pads, (0, 0)])
    size = kernel.shape[:2]
    rows, columns = ((x.shape[1 + axis] - size[axis]) // strides[axis] + 1 for axis in (0, 1))
    out = np.zeros((x.shape[0], rows, columns, kernel.shape[-1]))
    for p, q in itertools.product(range(rows), range(columns)):
        window = x[:, p * strides[0] : p * strides[0] + size[0], q * strides[1] : q * strides[1] + size[1]]
        out[:, p, q] = np.tensordot(window, kernel.astype(np.float64), 3)
    return out


def direct_convolution(x, kernel, strides):
    """ "SAME": as many outputs as ceil(length / stride), the odd pad at the end."""
    pads = []
    for length, size, stride in zip(x.shape[1:3], kernel.shape, strides, strict=False):
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        pads.append((total // 2, total - total // 2))
    return correlate(x, kernel, strides, pads)


def direct_transposed_convolution(x, kernel, strides):
    """ "SAME": x spread out with stride - 1 zeros between, padded to length * stride outputs, then correlated."""
    batch, height, width, channels = x.shape
    spread = np.zeros((batch, (height - 1) * strides[0] + 1, (width - 1) * strides[1] + 1, channels))
    spread[:, :: strides[0], :: strides[1]] = x
    pads = []
    for size, stride in zip(kernel.shape, strides, strict=False):
        total = size + stride - 2
        before = size - 1 if stride > size - 1 else -(-total // 2)
        pads.append((before, total - before))
    return correlate(spread, kernel, (1, 1), pads)


@functools.partial(quick_jit, static_argnums=2)
def convolved(x, kernel, strides):
    return convolve(x, kernel, strides), convolve_transpose(x, kernel, strides)


def assert_close(a, b, tolerance=1e-5):
    """Largest difference relative to the largest value."""
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("name", MODULES)
@every_case
def test_equals_flax_with_the_same_parameters(name, size, strides):
    """Value and gradients in input, kernel and bias equal Flax's, at 1e-5; so does the value the float64 sum."""
    ours, flax = (module(3, size, strides=strides) for module in MODULES[name])
    x, kernel, bias = arrays(size)
    cotangent = np.random.default_rng(1).normal(size=64).astype(np.float32)

    @quick_jit
    def both(params, x):
        def value_and_gradients(module):
            out, pull = jax.vjp(lambda params, x: module.apply({"params": params}, x), params, x)
            return out, pull(jnp.resize(cotangent, out.shape))

        return value_and_gradients(ours), value_and_gradients(flax)

    actual, expected = both({"kernel": kernel, "bias": bias}, x)
    jax.tree.map(assert_close, actual, expected)
    direct = direct_convolution if name == "Conv" else direct_transposed_convolution
    assert_close(actual[0], direct(x, kernel, strides) + bias)


@pytest.mark.parametrize("image", [(1, 1), (5, 9), (8, 3)])
def test_equals_the_direct_sum_on_other_images(image):
    """Odd, even and single-pixel rectangular images at the DCGAN's kernel 5, stride 2, and at 4, 3."""
    for size, strides in (((5, 5), (2, 2)), ((4, 4), (3, 3))):
        x, kernel, _ = arrays(size, image)
        down, out = convolved(x, kernel, strides)
        assert_close(np.asarray(down), direct_convolution(x, kernel, strides))
        assert_close(np.asarray(out), direct_transposed_convolution(x, kernel, strides))
        assert out.shape[1:3] == (image[0] * strides[0], image[1] * strides[1])


def test_the_comparison_catches_wrong_variants():
    """Power: a flipped kernel, torch's symmetric padding and a neighbouring phase are all refused."""
    x, kernel, _ = arrays((5, 5))
    right, flipped = convolved(x, kernel, (2, 2)), convolved(x, kernel[::-1, ::-1], (2, 2))
    for which, direct in enumerate((direct_convolution, direct_transposed_convolution)):
        expected = direct(x, kernel, (2, 2))
        assert_close(np.asarray(right[which]), expected)
        for wrong in (np.asarray(flipped[which]), np.roll(np.asarray(right[which]), 1, axis=1)):
            with pytest.raises(AssertionError):
                assert_close(wrong, expected)
    with pytest.raises(AssertionError):
        assert_close(correlate(x, kernel, (2, 2), [(2, 2), (2, 2)]), direct_convolution(x, kernel, (2, 2)))


@pytest.mark.parametrize("function", [convolve, convolve_transpose])
def test_vmap_over_weights_is_a_loop(function):
    """Particles: value and kernel gradient under vmap over kernels (and images of their own) equal a Python loop."""
    x, kernel, _ = arrays((5, 5))
    kernels = np.stack([kernel, 2 * kernel[::-1], -kernel[:, ::-1]])
    images = np.stack([x, x[:, ::-1], x[:, :, ::-1]])

    def one(x, kernel):
        out, pull = jax.vjp(lambda kernel: function(x, kernel, (2, 2)), kernel)
        return out, *pull(out)

    single = quick_jit(one)
    shared = quick_jit(jax.vmap(one, in_axes=(None, 0)))(x, kernels)
    own = quick_jit(jax.vmap(one))(images, kernels)
    for i in range(3):
        jax.tree.map(lambda a, b, i=i: assert_close(a[i], b), shared, single(x, kernels[i]))
        jax.tree.map(lambda a, b, i=i: assert_close(a[i], b), own, single(images[i], kernels[i]))


@pytest.mark.parametrize("name", MODULES)
def test_parameters_are_those_of_flax(name):
    """The same names, shapes and types; the bias can be left out; kernels start with variance 1 / fan-in, as Flax's.

    Within 4 standard errors over 19200 weights (false alarms: 6.3e-5); 1 / fan-out is refused.
    """
    x = jnp.zeros((1, 4, 4, 80))
    for use_bias in (True, False):
        ours, flax = (module(40, (3, 2), use_bias=use_bias) for module in MODULES[name])
        actual, expected = (jax.eval_shape(module.init, jax.random.key(0), x) for module in (ours, flax))
        assert actual == expected
        assert ("bias" in actual["params"]) is use_bias
    kernel = np.asarray(ours.init(jax.random.key(0), x)["params"]["kernel"], np.float64)
    assert abs(kernel.var() * 3 * 2 * 80 - 1) < 4 * np.sqrt(2 / kernel.size)
    assert abs(kernel.var() * 3 * 2 * 40 - 1) > 4 * np.sqrt(2 / kernel.size)


@pytest.mark.parametrize(
    ("padding", "strides"),
    [("VALID", (2, 1)), (1, (2, 1)), ((2, 0), (2, 1)), (((1, 2), (0, 3)), (2, 1)), ("VALID", (4, 1))],
)
@pytest.mark.parametrize("name", MODULES)
def test_padding_is_that_of_flax(name, padding, strides):
    """Values and gradients under every way to give the padding, without a batch axis; and a stride beyond the kernel,
    whose last zeros a transposed convolution keeps."""
    ours, flax = (module(3, (3, 4), strides=strides, padding=padding) for module in MODULES[name])
    x, kernel, bias = arrays((3, 4))

    def squares(module):
        return lambda params: jnp.sum(module.apply({"params": params}, x[0]) ** 2)

    @quick_jit
    def both(params):
        return [jax.value_and_grad(squares(module))(params) for module in (ours, flax)]

    actual, expected = both({"kernel": kernel, "bias": bias})
    jax.tree.map(assert_close, actual, expected)


def test_leading_axes_are_all_batch():
    """`[..., h, w, in]`: no batch axis, one, or two."""
    x, kernel, _ = arrays((3, 3), batch=6)
    for function in (convolve, convolve_transpose):
        whole = function(x, kernel)
        np.testing.assert_array_equal(function(x.reshape(2, 3, *x.shape[1:]), kernel).reshape(whole.shape), whole)
        assert_close(function(x[0], kernel), whole[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((7, 10)), np.zeros((3, 3, 2, 3))), r"x \[..., h, w, in\].*got \(7, 10\) and \(3, 3, 2, 3\)"),
        ((np.zeros((1, 7, 10, 5)), np.zeros((3, 3, 2, 3))), r"equal numbers of input channels; got \(1, 7, 10, 5\)"),
        ((np.zeros((1, 7, 7, 2)), np.zeros((3, 0, 2, 3))), r"got \(1, 7, 7, 2\) and \(3, 0, 2, 3\)"),
        *(
            (
                (X77, K33, strides),
                f"strides must be one or two integers of at least 1; got {re.escape(repr(strides))}",
            )
            for strides in (0, (2, -1), 1.5, (1.5, 2), (1, 2, 3), None, "SAME")
        ),
        *(
            ((X77, K33, 1, padding), f"padding must be SAME, VALID.* got {re.escape(repr(padding))}")
            for padding in ("REFLECT", (1, 2, 3), 1.5, None, ((1, 2, 3), 1))
        ),
    ],
)
@pytest.mark.parametrize("function", [convolve, convolve_transpose])
def test_wrong_arguments_are_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_a_kernel_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"the output is empty for x .* padding VALID"):
        convolve(np.zeros((1, 2, 2, 2)), K33, 1, "VALID")


@pytest.mark.parametrize("name", MODULES)
def test_defaults_are_those_of_flax(name):
    """As called with no more than features and kernel; and a module may be given NumPy's integers."""
    ours, flax = (module(3, (3, 3)) for module in MODULES[name])
    x, kernel, bias = arrays((3, 3))
    params = {"params": {"kernel": kernel, "bias": bias}}
    assert_close(ours.apply(params, x), flax.apply(params, x))
    same = MODULES[name][0](3, np.int64(3), strides=np.array([1, 1]), padding="SAME")
    assert_close(same.apply(params, x), flax.apply(params, x))
    with pytest.raises(ValueError, match=r"kernel_size must be one or two integers of at least 1; got \(3, 3, 3\)"):
        MODULES[name][0](3, (3, 3, 3)).init(jax.random.key(0), x)


@pytest.mark.parametrize("function", [convolve, convolve_transpose])
def test_runs_operation_by_operation(function):
    """Under `disable_jit` the numbers are the same; `debug_nans` finds a NaN rather than no end."""
    x, kernel, _ = arrays((3, 3))
    expected = function(x, kernel, 2)
    with jax.disable_jit():
        assert_close(function(x, kernel, 2), expected)
    x[0, 0, 0, 0] = np.inf
    with jax.debug_nans(True):
        for call in (function, jax.jit(function, static_argnums=2)):
            with pytest.raises(FloatingPointError):
                jax.block_until_ready(call(x, kernel, 2) * 0)
