"""Spectral normalisation against NumPy's singular values and the exact gradient; a critic that is 1-Lipschitz."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import filled, quick_jit

from bayesjax import models
from bayesjax.models import dcgan, spectral_norm

RANDOM = np.random.default_rng(0)


def exact(kernel):
    """The largest singular value, in float64."""
    return np.linalg.svd(np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]), compute_uv=False)[0]


def gaussian(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def test_sigma_is_the_largest_singular_value():
    """Dense kernels wide and tall, convolutions as `[kh kw in, out]`: within 5e-4, and never above."""
    kernels = [gaussian(*s) for s in ((5, 7), (7, 5), (96, 96), (3, 3, 8, 16), (5, 5, 1, 32), (6, 1), (1, 6))]
    sigmas = quick_jit(lambda kernels: [spectral_norm.largest_singular_value(kernel) for kernel in kernels])(kernels)
    ratios = np.array(sigmas) / [exact(kernel) for kernel in kernels]
    assert np.all((ratios > 1 - 5e-4) & (ratios < 1 + 1e-6))


def test_few_steps_of_the_power_iteration_fall_short():
    """The number of squarings is what makes it exact: eight steps are more than 1 % short at 96 x 96, 256 are not."""
    kernel = gaussian(96, 96)
    few, many = quick_jit(lambda kernel: [spectral_norm.largest_singular_value(kernel, k) for k in (3, 8)])(kernel)
    assert few < 0.99 * exact(kernel) < (1 - 5e-4) * exact(kernel) < many


def test_two_singular_values_that_are_near_or_equal():
    """Sigma is right where the singular vector is not defined, and nothing is NaN; in any scale, 0 included."""
    left, right = (np.linalg.qr(gaussian(40, 40))[0] for _ in range(2))
    value_and_grad = quick_jit(jax.value_and_grad(spectral_norm.largest_singular_value))
    for gap, scale in ((0, 1), (1e-3, 1e-6), (0.02, 1e6)):
        values = np.concatenate([[1, 1 - gap], np.linspace(0.9, 0, 38)])
        value, gradient = value_and_grad((scale * (left * values) @ right).astype(np.float32))
        assert abs(float(value) / scale - 1) < 1e-3
        assert abs(np.linalg.norm(gradient) - 1) < 1e-3  # u v', whichever u and v
    value, gradient = value_and_grad(np.zeros((40, 40), np.float32))
    assert value == 0 and np.isfinite(gradient).all()


def test_zeros_stay_zeros():
    """No division by 0, also in the gradient."""

    def normalised(kernel):
        return spectral_norm.normalise({"kernel": kernel})["kernel"].sum()

    value, gradient = quick_jit(jax.value_and_grad(normalised))(np.zeros((3, 4), np.float32))
    assert value == 0 and np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(dtype):
    """As in float32 to the type's rounding; zeros stay zeros."""
    kernel = jnp.asarray(8 * gaussian(64, 64), dtype)
    expected = np.linalg.norm(np.asarray(kernel, np.float32), 2)
    assert float(spectral_norm.largest_singular_value(kernel)) == pytest.approx(expected, rel=0.01)
    normalised = spectral_norm.normalise({"kernel": kernel, "zeros": {"kernel": jnp.zeros((3, 4), dtype)}})
    assert normalised["kernel"].dtype == dtype and not normalised["zeros"]["kernel"].any()
    assert np.linalg.norm(np.asarray(normalised["kernel"], np.float32), 2) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 2, 5)])
def test_the_gradient_is_that_of_the_exact_norm(shape):
    """The gradient of a projection of W / sigma(W) equals that of an exact SVD and finite differences in float64.

    It differs from the gradient with sigma held constant.
    """
    kernel = gaussian(*shape)
    weight = gaussian(*shape) + kernel

    def through_svd(kernel):
        return (weight * kernel).sum() / jnp.linalg.svd(kernel.reshape(-1, shape[-1]), compute_uv=False)[0]

    def held_still(kernel):
        return (weight * kernel).sum() / jax.lax.stop_gradient(spectral_norm.largest_singular_value(kernel))

    def ours(kernel):
        return (weight * spectral_norm.normalise({"kernel": kernel})["kernel"]).sum()

    all_three = quick_jit(lambda kernel: [jax.grad(f)(kernel) for f in (ours, through_svd, held_still)])(kernel)
    gradient, expected, wrong = (np.asarray(leaf, np.float64) for leaf in all_three)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)
    step = 1e-5 * gaussian(*shape).astype(np.float64)
    sides = [(weight * (kernel + s)).sum() / exact(kernel + s) for s in (step, -step)]
    np.testing.assert_allclose((gradient * step).sum(), (sides[0] - sides[1]) / 2, rtol=1e-4)
    assert np.linalg.norm(wrong - gradient) > 0.3 * np.linalg.norm(gradient)


def test_kernels_alone_are_normalised():
    """All kernels of a DCGAN have norm 1; biases, scales and what is not called kernel are the same arrays."""
    variables = filled(dcgan.Discriminator((8, 8, 1), 2, (4, 8)), jnp.zeros((1, 8, 8, 1)))
    params = variables["params"] | {"table": gaussian(3, 4)}
    normalised = quick_jit(spectral_norm.normalise)(params)
    num_kernels = 0
    for (path, before), after in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(normalised), strict=True
    ):
        if path[-1].key == "kernel":
            num_kernels += 1
            assert abs(exact(after) - 1) < 5e-4
            assert abs(exact(before) - 1) > 0.05
        else:
            np.testing.assert_array_equal(before, after)
    assert num_kernels == 3


def test_a_critic_is_1_lipschitz():
    """No pair of 200 points is farther apart in the critic than in itself; without the norm, all near pairs are.

    An MLP with leaky ReLUs; and a single layer reaches the constant along its singular vector.
    """
    model = models.MLP((32, 32, 1), activation=lambda x: jnp.maximum(x, 0.2 * x))
    points = gaussian(200, 10)
    params = filled(model, points, scale=1.0)
    plain, normalised = model.apply, models.spectrally_normalised(model.apply)

    def steepest(apply):
        return np.linalg.norm(quick_jit(jax.vmap(jax.grad(lambda x: apply(params, x)[0])))(points), axis=-1).max()

    assert 0.01 < steepest(normalised) < 1 + 1e-3
    assert steepest(plain) > 5
    layer = models.MLP((7,))
    params = {"params": {"layers_0": {"kernel": gaussian(5, 7), "bias": gaussian(7)}}}
    apply = models.spectrally_normalised(layer.apply)
    direction = np.linalg.svd(params["params"]["layers_0"]["kernel"])[0][:, 0]
    assert abs(np.linalg.norm(quick_jit(lambda x: apply(params, x) - apply(params, 0 * x))(direction)) - 1) < 1e-3


def test_networks_side_by_side_and_methods():
    """Under `vmap` each network has norms of its own; keyword arguments such as `method` reach the module."""
    model = models.MLP((4, 2))
    each = [filled(model, jnp.zeros(3), seed=seed) for seed in (0, 1)]
    apply = models.spectrally_normalised(model.apply)
    x = np.ones(3, np.float32)

    @quick_jit
    def all_ways(stacked):
        second = jax.tree.map(lambda leaf: leaf[1], stacked)
        return jax.vmap(apply, (0, None))(stacked, x)[1], apply(second, x), apply(second, x, method=model.embed)

    together, alone, embedded = all_ways(jax.tree.map(lambda *leaves: np.stack(leaves), *each))
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    first = each[1]["params"]["layers_0"]
    expected = np.maximum(x @ first["kernel"] / exact(first["kernel"]) + first["bias"], 0)
    np.testing.assert_allclose(embedded, expected, rtol=1e-3, atol=1e-4)


def test_wrong_arguments_are_named():
    """A vector is no kernel; there is no half step."""
    with pytest.raises(ValueError, match=r"kernel must have two axes or more; got shape \(3,\)"):
        spectral_norm.largest_singular_value(jnp.ones(3))
    with pytest.raises(ValueError, match="num_squarings must be at least 0; got -1"):
        spectral_norm.largest_singular_value(jnp.ones((3, 3)), -1)
