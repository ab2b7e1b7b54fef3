"""One network in Linen, NNX and Equinox has the same numbers through kernels and posteriors; errors of the adapters."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bayesjax import adapters, kernels, models, objectives, posteriors, training, tree

X = jnp.linspace(-1, 1, 24).reshape(12, 2)
Y = jnp.sin(3 * X[:, 0])
DATA = {"x": X, "y": Y}


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = jnp.tanh(nn.Dense(5)(x))
        return nn.Dense(1)(hidden)[..., 0]


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.Dense_0, self.Dense_1 = nnx.Linear(2, 5, rngs=rngs), nnx.Linear(5, 1, rngs=rngs)

    def __call__(self, x):
        return self.Dense_1(jnp.tanh(self.Dense_0(x)))[..., 0]


class Equinox(eqx.Module):
    Dense_0: eqx.nn.Linear
    Dense_1: eqx.nn.Linear

    def __init__(self, key):
        self.Dense_0, self.Dense_1 = eqx.nn.Linear(2, 5, key=key), eqx.nn.Linear(5, 1, key=key)

    def __call__(self, x):
        return self.Dense_1(jnp.tanh(self.Dense_0(x)))[0]


def from_linen(params):
    """The weights of the Linen network in the structure of each library, with their functions of one example."""
    of_nnx, of_equinox = adapters.split(NNX(nnx.Rngs(0))), adapters.split(Equinox(jax.random.key(0)))
    transposed = of_equinox.params
    for name, layer in params.items():
        transposed = eqx.tree_at(
            lambda module, name=name: (getattr(module, name).weight, getattr(module, name).bias),
            transposed, (layer["kernel"].T, layer["bias"]),
        )  # fmt: skip
    return {
        "linen": (lambda params, x: Linen().apply({"params": params}, x), params),
        "nnx": (of_nnx.apply, params),
        "equinox": (of_equinox.apply, transposed),
    }


PARAMS = Linen().init(jax.random.key(1), X)["params"]
NETWORKS = from_linen(PARAMS)
LIBRARIES = ("nnx", "equinox")


def to_linen(library, params):
    """Weights of a library in the order and shapes of Linen; draws have leading axes."""
    if library != "equinox":
        return params
    return {
        name: {"kernel": jnp.swapaxes(getattr(params, name).weight, -1, -2), "bias": getattr(params, name).bias}
        for name in PARAMS
    }


def log_likelihood(library):
    apply, _ = NETWORKS[library]
    return lambda params, rng_key, example: -0.5 * ((apply(params, example["x"]) - example["y"]) / 0.2) ** 2


def density(library):
    return posteriors.log_posterior(log_likelihood(library), posteriors.gaussian(1.0), num_data=len(X))


def draws(library, kernel, num_steps=20):
    params = NETWORKS[library][1]
    state = kernel.init(params, jax.random.key(2))
    _, trace = training.run(jax.random.key(3), kernel, state, DATA, num_steps=num_steps)
    return to_linen(library, trace.draws)


def assert_close(found, expected):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5), found, expected)


def test_split_is_the_module():
    """Values and gradients are those of a call of the module, and the paths are the names of its layers."""
    for module in (NNX(nnx.Rngs(3)), Equinox(jax.random.key(3))):
        apply, params = adapters.split(module)
        np.testing.assert_allclose(apply(params, X[0]), module(X[0]), rtol=1e-6)
        np.testing.assert_allclose(jax.jit(jax.vmap(apply, (None, 0)))(params, X), jax.vmap(module)(X), rtol=1e-5)
        assert {path.split("/")[0] for path in tree.leaves_by_path(params)} == {"Dense_0", "Dense_1"}
        assert len(jax.tree.leaves(jax.grad(apply)(params, X[0]))) == 4


@pytest.mark.parametrize("library", LIBRARIES)
def test_cold_sghmc_is_that_of_linen(library):
    """SGHMC without noise, whose draws depend on gradients alone."""
    cold = functools.partial(kernels.sghmc, step_size=1e-3, temperature=0.0)
    assert_close(draws(library, cold(density(library))), draws("linen", cold(density("linen"))))


def test_noise_is_that_of_linen():
    """SGHMC and HMC of NNX equal those of Linen draw by draw, since the leaves have one order."""
    for make in (
        functools.partial(kernels.sghmc, step_size=1e-3),
        functools.partial(kernels.hmc, step_size=1e-2, num_integration_steps=3),
    ):
        assert_close(draws("nnx", make(density("nnx"))), draws("linen", make(density("linen"))))


@pytest.mark.parametrize("library", LIBRARIES)
def test_mean_field_of_another_library(library):
    """Bayes by Backprop with a small spread: the loss without the divergence is that of the Linen network."""
    family = posteriors.mean_field(1e-6)
    losses = {}
    for name in ("linen", library):
        variational = family.init(NETWORKS[name][1])
        loss = objectives.bayes_by_backprop(
            log_likelihood(name), family.sample, posteriors.kl_to_gaussian(), num_data=len(X)
        )
        losses[name], _ = loss(variational, jax.random.key(4), DATA)
    np.testing.assert_allclose(losses[library], losses["linen"], rtol=1e-4)


@pytest.mark.parametrize("library", LIBRARIES)
def test_parts_priors_and_particles(library):
    """Kernels and divergences by path, the prior by fan-in with the axis of outputs, and many networks at once."""
    out_axis = 0 if library == "equinox" else None
    scales = posteriors.fan_in_scales(NETWORKS[library][1], out_axis=out_axis)
    assert sorted(jax.tree.leaves(scales)) == sorted(jax.tree.leaves(posteriors.fan_in_scales(PARAMS)))
    head = functools.partial(kernels.sghmc, step_size=1e-3)
    moved = draws(library, kernels.by_path(density(library), {"Dense_1/*": head, "*": None}))
    np.testing.assert_array_equal(moved["Dense_0"]["bias"][-1], PARAMS["Dense_0"]["bias"])
    assert jnp.abs(moved["Dense_1"]["kernel"][-1] - PARAMS["Dense_1"]["kernel"]).max() > 0
    make = {"nnx": lambda key: NNX(nnx.Rngs(key)), "equinox": Equinox}[library]
    init, _ = adapters.init_apply(make)
    kernel = kernels.particles(head(density(library)), 3)
    many = jax.vmap(init)(jax.random.split(jax.random.key(5), 3))
    assert len({float(x) for x in jax.tree.leaves(many)[-1][:, 0].ravel()}) == 3
    state = kernel.init(many, jax.random.key(6))
    state, _ = jax.jit(kernel.step)(jax.random.key(7), state, DATA)
    assert jax.tree.structure(state.position) == jax.tree.structure(many)


def test_dropout_of_nnx_follows_the_key():
    """`rng_key` gives the noise; `eval` removes it; nothing is changed by a call."""

    class Dropped(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.dropout = nnx.Linear(2, 50, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.dropout(self.linear(x))

    module = Dropped(nnx.Rngs(0))
    apply, params = adapters.split(module)
    first, second = (jax.jit(apply)(params, X, rng_key=jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(first, apply(params, X, rng_key=jax.random.key(0)))
    assert (first == 0).mean() == pytest.approx(0.5, abs=0.06) and (first != second).any()
    module.eval()
    np.testing.assert_allclose(adapters.split(module).apply(params, X), module.linear(X), rtol=1e-6)


def test_constants_of_nnx_stay_as_they_are():
    """Arrays and variables that are no parameters belong to the function."""

    class Scaled(nnx.Module):
        def __init__(self):
            self.linear, self.scale = nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Variable(jnp.full(3, 2.0))

        def __call__(self, x):
            return self.scale[...] * self.linear(x)

    module = Scaled()
    apply, params = adapters.split(module)
    assert set(params) == {"linear"}
    np.testing.assert_allclose(jax.jit(apply)(params, X), module(X), rtol=1e-6)


class Normalised(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.norm(x)


ERRORS = {
    "Linen is a Linen module: use its own init and apply": (TypeError, lambda: adapters.split(Linen())),
    "module must be callable; got dict": (TypeError, lambda: adapters.split({"w": X})),
    "Normalised has state that a call changes, BatchStat at norm/mean: use GroupNorm": (
        ValueError, lambda: adapters.split(Normalised()),
    ),
    "Identity has no floating-point parameters": (ValueError, lambda: adapters.split(eqx.nn.Identity())),
    "module must be a flax.linen module; got NNX: .* use adapters.split": (
        TypeError, lambda: models.flipout(NNX(nnx.Rngs(0))),
    ),
    "module must be a flax.linen module; got Equinox": (
        TypeError, lambda: models.local_reparameterisation(Equinox(jax.random.key(0))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    """One line at construction that says what works."""
    kind, call = ERRORS[message]
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)
