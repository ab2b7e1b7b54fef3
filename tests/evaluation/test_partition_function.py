"""Partition functions of small machines by enumeration of either side, precision in float32, and wrong arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import noise
from bayesjax.evaluation import annealing, partition_function
from bayesjax.models import boltzmann
from tests.evaluation.small_machines import EXACT, KINDS, H, V, machine, problem, random_params


def quadrature(free_energy, params):
    """log of the integral of exp(-F(v)) over two units by the trapezoidal rule, whose error here is below 1e-16."""
    points = np.linspace(-16, 16, 129)
    grid = jnp.stack(jnp.meshgrid(points, points, indexing="ij"), axis=-1).reshape(-1, 2)
    values = jax.vmap(lambda v: -free_energy(params, v))(grid)
    return jax.nn.logsumexp(values) + 2 * np.log(points[1] - points[0])


@pytest.mark.parametrize("kind", KINDS)
def test_enumeration_from_both_sides(kind):
    """To 1e-12; Gaussian units by quadrature. Without the offsets it is off by more than 0.01."""
    units, is_centred = kind
    num_visible = V if units == "bernoulli" else 2
    model = boltzmann.machine(boltzmann.RBM(num_visible, H, units, is_centred))
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), random_params(kind))
        params |= {name: leaf[:num_visible] for name, leaf in params.items() if not name.startswith("hidden")}
        from_hidden = float(EXACT(model.hidden_free_energy, params))
        if units == "bernoulli":
            from_visible = partition_function.log_partition_function(model.free_energy, params, V)
        else:
            from_visible = quadrature(model.free_energy, params)
        assert abs(float(from_visible) - from_hidden) < 1e-12 * abs(from_hidden)
        forgotten = {name: jnp.zeros_like(leaf) if "offset" in name else leaf for name, leaf in params.items()}
        is_far = abs(float(EXACT(model.hidden_free_energy, forgotten)) - from_hidden) > 0.01
        assert is_far == is_centred


@pytest.mark.parametrize("chunk_size", [1, 3, 8, 5000])
def test_chunks_change_nothing(chunk_size):
    """A chunk size that does not divide the number of states leaves out none and repeats none."""
    params, _, _, log_z = problem(KINDS[1])
    chunked = EXACT(machine(KINDS[1]).hidden_free_energy, params, chunk_size=chunk_size)
    assert float(chunked) == pytest.approx(log_z, abs=1e-5)


def test_enumeration_is_stable():
    """Biases of 1000: every exponential overflows or underflows, and log Z and its gradient are finite."""
    params = random_params(KINDS[0])
    params["hidden_bias"] = jnp.array([1000.0, -1000.0, 500.0])
    value, gradient = jax.value_and_grad(EXACT, argnums=1)(machine(KINDS[0]).hidden_free_energy, params)
    assert 1500 < float(value) < 1510
    np.testing.assert_allclose(gradient["hidden_bias"], [1, 0, 1], atol=1e-6)


def test_gradient_of_log_z():
    """It is the machine's own expectation: grad log Z = (E v, E h, E v h') for plain Bernoulli units, to 1e-12."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), random_params(KINDS[0]))
        free_energy = machine(KINDS[0]).hidden_free_energy
        gradient = jax.grad(lambda params: EXACT(free_energy, params, chunk_size=3))(params)
        v, h = (((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float) for n in (V, H))
        b, c, kernel = (np.asarray(params[name]) for name in ("visible_bias", "hidden_bias", "kernel"))
        joint = np.exp(v @ b[:, None] + (h @ c)[None] + v @ kernel @ h.T)
        joint /= joint.sum()
        np.testing.assert_allclose(gradient["kernel"], v.T @ joint @ h, rtol=1e-12)
        np.testing.assert_allclose(gradient["visible_bias"], joint.sum(axis=1) @ v, rtol=1e-12)
        np.testing.assert_allclose(gradient["hidden_bias"], joint.sum(axis=0) @ h, rtol=1e-12)


def test_memory_of_the_gradient_is_that_of_a_chunk():
    """For 2^14 states in chunks of 64 it is below 1 MB, where one chunk of all states takes over 10 MB."""
    model = boltzmann.machine(boltzmann.RBM(200, 14))
    params = jax.eval_shape(lambda: boltzmann.RBM(200, 14).init(jax.random.key(0), jnp.zeros(200))["params"])

    def megabytes(chunk_size):
        def log_z(params):
            return partition_function.log_partition_function(
                model.hidden_free_energy, params, 14, chunk_size=chunk_size
            )

        return jax.jit(jax.grad(log_z)).lower(params).compile().memory_analysis().temp_size_in_bytes / 1e6

    assert megabytes(64) < 1 and megabytes(2**14) > 10


@pytest.mark.slow
def test_float32_keeps_log_weights_of_20_000_levels(compile_fully):
    """784 visible units, the same positions in float32 and float64: within 0.02 nats of a log weight of -400.

    Sums of the two free energies that are subtracted at the end lose more than a nat.
    """
    num_hidden, schedule = 5, annealing.salakhutdinov_schedule(20_000)
    model, random = boltzmann.machine(boltzmann.RBM(784, num_hidden)), np.random.default_rng(0)
    values = {
        "kernel": 0.15 * random.normal(size=(784, num_hidden)),
        "visible_bias": random.normal(size=784) - 3,
        "hidden_bias": random.normal(size=num_hidden) - 2,
    }

    def draw(key, v, params):
        del params
        return (noise.uniform(key, 784) < -0.5).astype(v.dtype), None

    def log_weights(dtype, num_terms):
        """Weights from the differences, then from each of the two sums."""
        params = {name: jnp.asarray(value, jnp.float32).astype(dtype) for name, value in values.items()}
        at = functools.partial(boltzmann.interpolate, boltzmann.independent_units(params, jnp.full(784, 0.25)), params)
        log_ratios = (
            lambda v, before, after: model.free_energy(before, v) - model.free_energy(after, v),
            lambda v, before, after: model.free_energy(before, v),
            lambda v, before, after: model.free_energy(after, v),
        )

        @jax.jit
        def run(levels, v):
            return [
                annealing.anneal(log_ratio, draw, v, jax.random.key(0), levels, params_at=at).log_weights[0]
                for log_ratio in log_ratios[:num_terms]
            ]

        return run(jnp.asarray(schedule.astype(np.float32), dtype), jnp.zeros((1, 784), dtype))

    right, before, after = (float(value) for value in log_weights(jnp.float32, 3))
    with jax.enable_x64(True):
        expected = float(log_weights(jnp.float64, 1)[0])
    assert abs(expected) > 100 and abs(right - expected) < 0.02
    assert abs(before - after - expected) > 1


def annealed(base=None, **options):
    options = {"inverse_temperatures": [0.0, 1.0], "num_chains": 2} | options
    params, right, _, _ = problem(KINDS[0])
    return partition_function.annealed_log_partition_function(
        machine(KINDS[0]), base or right, params, jax.random.key(0), **options
    )


def reverse(positions, **options):
    params, base, _, _ = problem(KINDS[0])
    return partition_function.reverse_annealed_log_partition_function(
        machine(KINDS[0]), base, params, jax.random.key(0), positions, inverse_temperatures=[0.0, 1.0], **options
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EXACT(None, {}, num_units=21), r"num_units must be at most 20, .*; got 21"),
        (lambda: EXACT(None, {}, num_units=0), "num_units must be at least 1; got 0"),
        (lambda: EXACT(None, {}, chunk_size=0), "chunk_size must be at least 1; got 0"),
        (lambda: EXACT(lambda _, h: h, {}), r"free_energy must return a scalar; got an array of shape \(3,\)"),
        (lambda: annealed(inverse_temperatures=[0.0, 0.5]), "inverse_temperatures must begin at 0 and end at 1"),
        (lambda: annealed(num_chains=1), "num_chains must be at least 2, for a standard error; got 1"),
        (lambda: annealed(base=random_params(KINDS[0])), "kernel must be 0 in base"),
        (lambda: annealed(base=problem(KINDS[1])[1]), "base must have the structure and shapes of the machine"),
        (lambda: reverse(np.ones((5, 3))), r"positions must be \[num_chains >= 2, 4\]; got an array of shape \(5, 3\)"),
        (lambda: reverse(np.ones((1, 4))), r"positions must be .*; got an array of shape \(1, 4\)"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
