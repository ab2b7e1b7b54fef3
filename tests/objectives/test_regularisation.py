"""Drift, R1 of batches, path lengths and lazy penalties, in closed form and with their usual faults."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import data, kernels, training
from bayesjax.objectives import adversarial, regularisation

RANDOM = np.random.default_rng(0)
KEY = jax.random.key(0)
SHAPE, DIM, LAYERS = (3, 2, 4), 5, 3  # of an image; of the styles of a layer
MAP = jnp.asarray(RANDOM.normal(size=(*SHAPE, LAYERS, DIM)), jnp.float32)
W = jnp.asarray(RANDOM.normal(size=(LAYERS, DIM)), jnp.float32)


def linear(w, scale=1.0):
    return scale * jnp.tensordot(MAP, w, 2)


def test_drift():
    outputs = jnp.array([[-2.0, 0.5]])
    np.testing.assert_allclose(regularisation.drift_penalty(outputs), [[4, 0.25]])
    assert jax.grad(regularisation.drift_penalty)(-2.0) == -4


# ---- R1 of batches


def test_batch_r1_of_a_critic_of_single_examples():
    """It is `r1_penalty` of each example, of the shape of the losses, also as a gradient in the weights."""
    x, w = jnp.asarray(RANDOM.normal(size=(6, 3, 2))), jnp.asarray(RANDOM.normal(size=(3, 2)))

    def critic(x, w):
        return jnp.sum(jnp.sin(w * x)) ** 2

    def batched(w):
        return regularisation.batch_r1_penalty(jax.vmap(lambda x: critic(x, w)), x)

    def single(w):
        return jax.vmap(lambda x: adversarial.r1_penalty(lambda x: critic(x, w), x))(x)

    assert batched(w).shape == (6,)
    np.testing.assert_allclose(batched(w), single(w), rtol=1e-5)
    np.testing.assert_allclose(
        jax.grad(lambda w: batched(w).mean())(w), jax.grad(lambda w: single(w).mean())(w), rtol=1e-4
    )


def test_batch_r1_of_a_critic_that_compares_examples():
    """D(x)_i = w . x_i + |mean x|^2 / 2 has the gradient w + mean x; batches of one would give w + x_i."""
    x, w = jnp.asarray(RANDOM.normal(size=(4, 3)), jnp.float32), jnp.array([1.0, -1.0, 2.0])

    def critic(x):
        return x @ w + 0.5 * jnp.sum(x.mean(axis=0) ** 2)

    found = regularisation.batch_r1_penalty(critic, x)
    expected = 0.5 * np.sum(np.asarray(w + x.mean(axis=0)) ** 2)
    np.testing.assert_allclose(found, [expected] * 4, rtol=1e-5)
    alone = jax.vmap(lambda x: adversarial.r1_penalty(lambda x: critic(x[None])[0], x))(x)
    np.testing.assert_allclose(alone, 0.5 * np.sum(np.asarray(w + x) ** 2, axis=1), rtol=1e-5)
    assert not np.allclose(found, alone, rtol=0.1)


def test_outputs_with_a_last_axis_are_refused():
    """`[n]` losses plus `[n, 1]` penalties are n^2 numbers, whose sum has the penalties n times."""
    losses, penalties = jnp.ones(4), jnp.ones(4)
    assert (losses + penalties[:, None]).sum() == 4 * (losses + penalties).sum()
    with pytest.raises(ValueError, match=r"critic must return outputs of shape \(4,\); got shape \(4, 1\)"):
        regularisation.batch_r1_penalty(lambda x: x[:, :1], jnp.ones((4, 3)))
    with pytest.raises(ValueError, match=r"critic must return a scalar; got an array of shape \(1,\)"):
        jax.vmap(lambda x: adversarial.r1_penalty(lambda x: x[:1], x))(jnp.ones((4, 3)))


# ---- path lengths


def test_path_length_of_a_linear_map():
    """For every y the root of the mean over layers of sums over dimensions; exchanged, they give another length."""
    y = np.asarray(jax.random.normal(KEY, SHAPE)) / np.sqrt(SHAPE[0] * SHAPE[1])
    gradient = np.tensordot(y, np.asarray(MAP), 3)
    found = float(regularisation.path_length(linear, W, KEY))
    assert found == pytest.approx(np.sqrt(np.mean(np.sum(gradient**2, axis=1))), rel=1e-5)
    assert found != pytest.approx(np.sqrt(np.sum(np.mean(gradient**2, axis=1))), rel=0.1)
    shared = regularisation.path_length(lambda w: linear(jnp.stack([w] * LAYERS)), W[0], KEY)  # `[dim]` for all layers
    assert float(shared) == pytest.approx(np.linalg.norm(gradient.sum(axis=0)), rel=1e-5)
    slope = jax.grad(lambda scale: regularisation.path_length(lambda w: linear(w, scale), W, KEY))(3.0)
    assert float(slope) == pytest.approx(found, rel=1e-5)


def test_mean_square_of_path_lengths():
    """|A|^2 / (pixels layers) within 4 standard errors; with noise that is divided by the numbers of the image, which
    have the channels, it would be a quarter of that."""
    keys = jax.random.split(jax.random.key(1), 4000)
    lengths = jax.jit(jax.vmap(functools.partial(regularisation.path_length, linear, W)))(keys)
    squares = np.asarray(lengths, float) ** 2
    expected = float(jnp.sum(MAP**2)) / (SHAPE[0] * SHAPE[1] * LAYERS)
    assert abs(squares.mean() - expected) < 4 * squares.std() / np.sqrt(4000) < 0.1 * expected


def test_path_length_where_the_image_does_not_move():
    """At a constant image the length and its gradient are 0, not NaN."""
    length, slope = jax.value_and_grad(lambda scale: regularisation.path_length(lambda w: linear(w, scale), W, KEY))(
        0.0
    )
    assert float(length) == 0 and jnp.isfinite(slope)


def test_path_length_penalty():
    """By hand, with the mean after its update; its gradient leaves the mean alone."""
    lengths = jnp.array([1.0, 3.0])
    penalty, mean = regularisation.path_length_penalty(lengths, jnp.array(4.0), decay=0.25)
    assert float(mean) == 3.5 and float(penalty) == (2.5**2 + 0.5**2) / 2
    gradient = jax.grad(lambda lengths: regularisation.path_length_penalty(lengths, jnp.array(4.0), 0.25)[0])(lengths)
    np.testing.assert_allclose(gradient, [-2.5, -0.5])
    mean = jnp.zeros(())
    for _ in range(300):
        mean = regularisation.path_length_penalty(lengths, mean)[1]
    assert float(mean) == pytest.approx(2 * (1 - 0.99**300), rel=1e-4)
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\]; got 0"):
        regularisation.path_length_penalty(lengths, mean, 0)


def test_bad_shapes_of_paths():
    with pytest.raises(
        ValueError, match=r"w must be \[dim\] or \[num_layers, dim\]; got an array of shape \(1, 3, 5\)"
    ):
        regularisation.path_length(lambda w: linear(w[0]), W[None], KEY)
    with pytest.raises(
        ValueError, match=r"image must be \[height, width, channels\], one image; got .* \(1, 3, 2, 4\)"
    ):
        regularisation.path_length(lambda w: linear(w)[None], W, KEY)


# ---- lazy penalties


def test_lazy_is_plain_in_the_mean():
    """Over 16 steps, in value and in gradient, from any step on; without the factor they are a sixteenth. The penalty
    runs in one step of 16 only."""
    runs = []

    def penalty(w, is_counted):
        jax.debug.callback(lambda: runs.append(1)) if is_counted else None
        return jnp.sum(w**2)

    def lazy(w, step, is_counted=False):
        return regularisation.lazy_penalty(lambda: penalty(w, is_counted), step, 16)[0]

    w, steps = jnp.array([1.0, 2.0]), jnp.arange(5, 21)
    values, gradients = jax.lax.map(lambda step: jax.value_and_grad(lazy)(w, step), steps)
    np.testing.assert_allclose([values.mean(), *gradients.mean(axis=0)], [5, 2, 4], rtol=1e-6)
    assert np.count_nonzero(values) == 1
    without_factor = jax.lax.map(lambda step: jnp.where(step % 16 == 0, penalty(w, False), 0.0), steps)
    assert float(without_factor.mean()) == pytest.approx(5 / 16)
    jax.block_until_ready(jax.lax.map(lambda step: lazy(w, step, True), steps))
    jax.effects_barrier()
    assert len(runs) == 1


def test_the_other_steps_keep_the_aux():
    """The aux of the penalty in its step and the given one in others; one that does not fit is named."""

    def lazy(step, aux):
        return regularisation.lazy_penalty(lambda: (jnp.array(2.0), jnp.array(7.0)), step, 4, aux)

    for step, expected in ((0, (8, 7)), (3, (0, 1)), (4, (8, 7))):
        assert tuple(map(float, lazy(jnp.array(step), jnp.array(1.0)))) == expected
    assert regularisation.lazy_penalty(lambda: jnp.array(2.0), jnp.array(1), 4) == (0, {})
    for aux in (jnp.ones(2), jnp.array(1), None):
        with pytest.raises(ValueError, match="aux must have the shapes and types of the aux of penalty"):
            lazy(jnp.array(0), aux)
    with pytest.raises(ValueError, match=r"interval must be at least 1; got 0"):
        regularisation.lazy_penalty(lambda: jnp.array(2.0), jnp.array(1), 0)
    with pytest.raises(ValueError, match=r"step must be a number; got an array of shape \(3,\)"):
        regularisation.lazy_penalty(lambda: jnp.array(2.0), jnp.arange(3), 4)
    with pytest.raises(ValueError, match=r"penalty must return a scalar; got an array of shape \(1,\)"):
        regularisation.lazy_penalty(lambda: jnp.ones(1), jnp.array(1), 4)


def style_loss(params, rng_key, carried):
    """A loss with a lazy R1 penalty in every third step and a lazy path-length penalty in every second one."""
    x, (step, mean_length) = carried.batch, carried.carry
    noise, keys = jax.random.normal(rng_key, x.shape), jax.random.split(rng_key, len(x))

    def penalty():
        generate = lambda w: jnp.sin(w * params).reshape(1, 2, 1)  # noqa: E731
        lengths = jax.vmap(functools.partial(regularisation.path_length, generate))(noise, keys)
        return regularisation.path_length_penalty(lengths, mean_length)

    critic = lambda x: jnp.tanh(x @ params)  # noqa: E731
    r1, _ = regularisation.lazy_penalty(lambda: regularisation.batch_r1_penalty(critic, x).mean(), step, 3)
    smoothness, mean_length = regularisation.lazy_penalty(penalty, step, 2, mean_length)
    value = adversarial.RELATIVISTIC.discriminator_loss(critic(x), critic(noise)).mean()
    return value + r1 + 2 * smoothness, {"carry": (step + 1, mean_length), "r1": r1, "smoothness": smoothness}


def test_a_resumed_run_continues_both_counts(tmp_path, compile_once):
    """Stopped within the intervals of both penalties, a run ends in the bits of the unbroken one."""
    optimiser = kernels.optimize(style_loss, optax.adam(0.01))
    kernel = kernels.carrying(optimiser, (jnp.zeros((), jnp.int32), jnp.zeros(())))
    batches = data.Minibatches(jax.random.key(3), RANDOM.normal(size=(9, 2)).astype(np.float32), 3)

    class Stop(Exception):
        pass

    def interrupt(step, state):
        raise Stop

    def run(checkpointer, callback=None):
        options = {"num_steps": 11, "chunk_size": 5, "checkpointer": checkpointer, "callback": callback}
        return training.run(jax.random.key(2), kernel, kernel.init(jnp.ones(2), KEY), batches, **options)

    unbroken, trace = run(None)
    with pytest.raises(Stop):
        run(training.Checkpointer(tmp_path, interval=0.0), interrupt)
    resumed, _ = run(training.Checkpointer(tmp_path, interval=0.0))
    for a, b in zip(jax.tree.leaves(unbroken), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    step, mean_length = unbroken.carry
    assert int(step) == 11 and float(mean_length) > 0
    assert [np.flatnonzero(trace.info.aux[name]).tolist() for name in ("r1", "smoothness")] == [
        [0, 3, 6, 9], [0, 2, 4, 6, 8, 10]
    ]  # fmt: skip
