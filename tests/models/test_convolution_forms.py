"""The forms of a convolution: equal sums, derivatives to any order, any vmap, and no plain loop left to XLA."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from bayesjax.models import Conv, dcgan
from bayesjax.models import convolution_forms as forms
from bayesjax.models.convolution import contract, convolve, convolve_transpose
from bayesjax.models.convolution_forms import Geometry

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# name: batch, geometry (strides, low, image, kernel, output), channels in and out
SHAPES = {
    "one input channel": (2, Geometry((2, 1), (1, 1), (7, 6), (3, 4), (4, 6)), 1, 3),
    "few inputs, many outputs": (2, Geometry((1, 2), (2, 0), (6, 7), (4, 3), (6, 4)), 2, 8),
    "phases": (3, Geometry((2, 3), (1, 2), (8, 9), (5, 4), (4, 3)), 4, 3),
    "phases that nothing reaches": (2, Geometry((3, 3), (0, 0), (7, 8), (2, 2), (3, 3)), 3, 2),
    "kernel larger than the image": (2, Geometry((1, 1), (2, 2), (3, 3), (5, 5), (3, 3)), 3, 4),
    "outputs smaller than the kernel": (2, Geometry((2, 2), (1, 2), (4, 4), (5, 5), (2, 2)), 3, 4),
    "more channels than pixels": (1, Geometry((2, 2), (1, 1), (4, 4), (3, 3), (2, 2)), 3, 5),
    "many pixels, many outputs": (1, Geometry((1, 1), (1, 1), (16, 16), (3, 3), (16, 16)), 2, 64),
    "cropped": (2, Geometry((1, 1), (-1, -1), (8, 8), (3, 3), (4, 4)), 3, 3),
}
every_shape = pytest.mark.parametrize("name", SHAPES)
every_missing = pytest.mark.parametrize("missing", forms.ARRAYS)


def three_arrays(name, seed=0, lead=()):
    """Image, kernel and output of a shape."""
    batch, geometry, inputs, outputs = SHAPES[name]
    random = np.random.default_rng(seed)
    shapes = {
        "image": (batch, *geometry.image, inputs),
        "kernel": (*geometry.kernel, inputs, outputs),
        "output": (batch, *geometry.output, outputs),
    }
    return {key: random.normal(size=(*lead, *shape)).astype(np.float32) for key, shape in shapes.items()}


def given(arrays, missing):
    return [arrays[key] for key in forms.ARRAYS if key != missing]


def direct(arrays, missing, geometry):
    """The trilinear sum in float64, one pair of pixels at a time."""
    arrays = {key: value.astype(np.float64) for key, value in arrays.items()}
    result = np.zeros_like(arrays[missing])
    for o in np.ndindex(geometry.output):
        for i in np.ndindex(geometry.kernel):
            at = [geometry.strides[a] * o[a] + i[a] - geometry.low[a] for a in (0, 1)]
            if not all(0 <= at[a] < geometry.image[a] for a in (0, 1)):
                continue
            x, w, y = arrays["image"][:, *at], arrays["kernel"][i], arrays["output"][:, *o]
            if missing == "output":
                result[:, *o] += x @ w
            elif missing == "image":
                result[:, *at] += y @ w.T
            else:
                result[i] += x.T @ y
    return result


def assert_close(actual, expected, tolerance=1e-5):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@every_shape
def test_every_form_is_the_direct_sum(name):
    """The CPU form, the one by patches and XLA's equal the float64 sum at 1e-5; with low + 1 they do not."""
    _, geometry, _, _ = SHAPES[name]
    arrays = three_arrays(name)

    @quick_jit
    def all_forms(arrays):
        return [[form(missing, *given(arrays, missing), geometry) for missing in forms.ARRAYS] for form in every]

    every = (forms.fast_on_cpu, forms.products, forms.native)
    for computed in all_forms(arrays):
        for missing, actual in zip(forms.ARRAYS, computed, strict=True):
            assert_close(actual, direct(arrays, missing, geometry))
            with pytest.raises(AssertionError):
                assert_close(actual, direct(arrays, missing, geometry._replace(low=(geometry.low[0] + 1, 0))))


@every_missing
@every_shape
def test_derivatives_are_exact(name, missing):
    """Forward and reverse derivatives of `contract`, and a reverse derivative of a forward one, equal XLA's own."""
    _, geometry, _, _ = SHAPES[name]
    pair, tangents = (given(three_arrays(name, seed), missing) for seed in (0, 1))
    cotangent = three_arrays(name, 2)[missing]

    def derivatives(function):
        out, tangent = jax.jvp(function, pair, tangents)
        gradients = jax.vjp(function, *pair)[1](cotangent)
        second = jax.grad(lambda pair: jnp.vdot(jax.jvp(function, pair, tangents)[1], cotangent))(pair)
        return out, tangent, gradients, second

    @quick_jit
    def compare():
        return [
            derivatives(lambda a, b: contract(missing, a, b, geometry)),
            derivatives(lambda a, b: forms.native(missing, a, b, geometry)),
        ]

    jax.tree.map(assert_close, *compare())


@every_missing
@pytest.mark.parametrize(("name", "small"), [("phases", 0), ("few inputs, many outputs", forms.SMALL)])
def test_vmap_is_a_loop(name, small, missing, monkeypatch):
    """Over either array or both, on any axis, and nested: the same as a loop; exchanged networks are noticed."""
    monkeypatch.setattr(forms, "SMALL", small)
    _, geometry, _, _ = SHAPES[name]
    pair = given(three_arrays(name, lead=(2, 3)), missing)

    def one(a, b):
        return contract(missing, a, b, geometry)

    mapped = {
        "both": (jax.vmap(one), (pair[0][0], pair[1][0])),
        "first": (jax.vmap(one, (0, None)), (pair[0][0], pair[1][0, 0])),
        "second": (jax.vmap(one, (None, 0)), (pair[0][0, 0], pair[1][0])),
        "on other axes": (jax.vmap(one, (2, 3), 1), (np.moveaxis(pair[0][0], 0, 2), np.moveaxis(pair[1][0], 0, 3))),
        "nested": (jax.vmap(jax.vmap(one)), tuple(pair)),
        "nested, one by one": (jax.vmap(jax.vmap(one, (None, 0)), (0, None)), (pair[0][:, 0], pair[1][0])),
        "nested, half": (jax.vmap(jax.vmap(one), (0, None)), (pair[0], pair[1][0])),
    }
    results = quick_jit(lambda arguments: {key: mapped[key][0](*arguments[key]) for key in mapped})(
        {key: value[1] for key, value in mapped.items()}
    )
    single = quick_jit(one)
    for j in range(3):
        for i in range(2):
            assert_close(results["nested"][i, j], single(pair[0][i, j], pair[1][i, j]))
            assert_close(results["nested, one by one"][i, j], single(pair[0][i, 0], pair[1][0, j]))
            assert_close(results["nested, half"][i, j], single(pair[0][i, j], pair[1][0, j]))
        assert_close(results["both"][j], single(pair[0][0, j], pair[1][0, j]))
        assert_close(results["on other axes"][:, j], results["both"][j])
        assert_close(results["first"][j], single(pair[0][0, j], pair[1][0, 0]))
        assert_close(results["second"][j], single(pair[0][0, 0], pair[1][0, j]))
    with pytest.raises(AssertionError):
        assert_close(results["both"][1], single(pair[0][0, 0], pair[1][0, 1]))


def test_more_networks_than_fit_one_program(monkeypatch):
    """Past `forms.UNROLLED` networks a loop takes over, with a remainder: all networks in their places."""
    monkeypatch.setattr(forms, "SMALL", 0)
    num = forms.UNROLLED + 3
    x, kernel = np.random.default_rng(0).normal(size=(num, 1, 4, 4, 2)), np.ones((num, 3, 3, 2, 2))
    out = quick_jit(jax.vmap(convolve))(jnp.float32(x), jnp.float32(kernel))
    for i in (0, forms.UNROLLED - 1, forms.UNROLLED, num - 1):
        assert_close(out[i], convolve(jnp.float32(x[i]), jnp.float32(kernel[i])))


def slow_convolutions(function, *arguments):
    """The convolutions in the compiled program that XLA's CPU backend runs as a plain loop."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    lines = [line for line in text.splitlines() if re.search(r" convolution\(", line)]
    assert lines
    return [line for line in lines if "dim_labels=b01f_01io->b01f" not in line or "lhs_dilate" in line]


def test_no_plain_loops_in_training():
    """The gradient of a DCGAN in a scan, the form in which all training runs, holds no slow convolution.

    Power: with XLA's own gradients it does.
    """
    generator = dcgan.Generator((14, 14, 1), (16, 8), kernel_size=5, norm="none")
    discriminator = dcgan.Discriminator((14, 14, 1), 1, (8, 16), norm="none")
    z = jnp.ones((8, 4))
    params = generator.init(jax.random.key(0), z), discriminator.init(jax.random.key(1), jnp.ones((1, 14, 14, 1)))

    def loss(params):
        return jnp.mean(discriminator.apply(params[1], generator.apply(params[0], z)) ** 2)

    def train(gradient, params):
        def step(params, _):
            return jax.tree.map(lambda w, g: w - g, params, gradient(params)), None

        return jax.lax.scan(step, params, length=2)[0]

    assert not slow_convolutions(functools.partial(train, jax.grad(loss)), params)

    def native_loss(kernel):
        out = jax.lax.conv_general_dilated(
            jnp.ones((8, 14, 14, 8)), kernel, (2, 2), "SAME", dimension_numbers=forms.LAYOUT
        )
        return jnp.mean(out**2)

    assert slow_convolutions(functools.partial(train, jax.grad(native_loss)), jnp.ones((5, 5, 8, 16)))


def test_each_platform_has_its_form():
    """Ten networks are one grouped convolution on a TPU and ten convolutions on a GPU; one network has XLA's own."""

    def count(function, platform, *arguments):
        lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
        return lowered.count("stablehlo.convolution"), len(re.findall(r"feature_group_count = 10", lowered))

    x, kernel = jnp.ones((10, 2, 8, 8, 4)), jnp.ones((10, 3, 3, 4, 4))
    assert count(jax.vmap(convolve), "tpu", x, kernel) == (1, 1)
    assert count(jax.vmap(convolve), "cuda", x, kernel) == (1, 0)  # one function, called ten times
    for platform in ("tpu", "cuda"):
        assert count(convolve_transpose, platform, x[0], kernel[0]) == (1, 0)


def test_inside_shard_map():
    """Arrays that vary alike pass the check of varying axes; a kernel that does not is refused, not left unsummed."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x, kernel = jnp.ones((2, 6, 6, 2)), jnp.ones((3, 3, 2, 2))
    data = PartitionSpec("data")

    def gradient(x, kernel):
        return jax.grad(lambda kernel: convolve(x, kernel, 2).sum())(kernel)[None]

    for check_vma, kernel_spec in ((False, PartitionSpec()), (True, data)):
        sharded = jax.shard_map(gradient, mesh=mesh, in_specs=(data, kernel_spec), out_specs=data, check_vma=check_vma)
        assert_close(quick_jit(sharded)(x, kernel)[0], gradient(x, kernel)[0])
    with pytest.raises(ValueError, match="pass check_vma=False"):
        jax.shard_map(gradient, mesh=mesh, in_specs=(data, PartitionSpec()), out_specs=data)(x, kernel)


def test_other_types():
    """Without jit, in float64 and in bfloat16, and a kernel of another type than the image."""
    x, kernel = np.random.default_rng(0).normal(size=(2, 6, 6, 2)), np.ones((3, 3, 2, 3))
    reference = convolve(jnp.float32(x), jnp.float32(kernel), 2)
    half = convolve(jnp.bfloat16(x), jnp.bfloat16(kernel), 2)
    assert half.dtype == jnp.bfloat16
    assert_close(half.astype(jnp.float32), reference, 2e-2)
    for channels in (1, 2):  # with one, sums of slices, which would round at each of 25 additions
        images, weights = jnp.bfloat16(x[..., :channels]), jnp.full((5, 5, channels, 3), 1 / 3, jnp.bfloat16)
        half = convolve(images, weights)
        assert half.dtype == jnp.bfloat16
        rounded_once = convolve(jnp.float32(images), jnp.float32(weights)).astype(jnp.bfloat16)
        np.testing.assert_array_equal(half.astype(jnp.float32), rounded_once.astype(jnp.float32))
    assert convolve(jnp.bfloat16(x), jnp.float32(kernel), 2).dtype == jnp.float32
    with jax.enable_x64(True):
        double = convolve(jnp.float64(x), jnp.float64(kernel), 2)
        assert double.dtype == jnp.float64
        assert_close(np.float32(double), reference)


def test_particles_of_a_module():
    """`vmap` of a module over stacked parameters, images shared: one wide convolution, and the loop's numbers."""
    module, x = Conv(4, 3), np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype(np.float32)
    params = jax.vmap(module.init, (0, None))(jax.random.split(jax.random.key(0), 3), x)
    apply = quick_jit(jax.vmap(module.apply, (0, None)))
    assert apply.lower(params, x).as_text().count("stablehlo.convolution") == 1
    out = apply(params, x)
    for i in range(3):
        assert_close(out[i], module.apply(jax.tree.map(lambda leaf, i=i: leaf[i], params), x))
