"""Perceptual path lengths and influences of styles, in closed form for linear generators and features."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import evaluation
from bayesjax.evaluation.judge import Judge, normalise_features
from bayesjax.models.classifier import Classifier

RANDOM = np.random.default_rng(0)
KEY, NUM, DIM = jax.random.key(0), 300, 4
STARTS, ENDS = (RANDOM.normal(size=(NUM, DIM)).astype(np.float32) for _ in range(2))
GENERATOR, FEATURES = RANDOM.normal(size=(6, DIM)), RANDOM.normal(size=(3, 6))
MAP = FEATURES @ GENERATOR  # of the features in the code


def linear(params, rng_key, code):
    """Features of a linear generator, whose image has the same noise at both ends of a step."""
    noise = jax.random.normal(rng_key, (6,))
    return params * (FEATURES.astype(np.float32) @ (GENERATOR.astype(np.float32) @ code + noise))


def length(interpolation, **options):
    arguments = {"params": 1.0, "rng_key": KEY, "starts": STARTS, "ends": ENDS} | options
    return evaluation.perceptual_path_length(linear, interpolation=interpolation, **arguments)


SPEEDS = np.sum(((ENDS - STARTS).astype(float) @ MAP.T) ** 2, axis=1)  # squared, along straight lines


def test_straight_lines_in_closed_form():
    """|F G (w_1 - w_0)|^2 of each path, whatever t; the mean over all paths, its error, and the mean without 5 % at
    either end; twice the features have four times the length."""
    whole, trimmed = length("lerp", trim=0.0), length("lerp", trim=0.05)
    assert whole == pytest.approx((SPEEDS.mean(), SPEEDS.std(ddof=1) / np.sqrt(NUM), NUM), rel=1e-4)
    inner = np.sort(SPEEDS)[14:-14]  # of 299 intervals between speeds, 5 % are 14.95
    assert trimmed == pytest.approx((inner.mean(), inner.std(ddof=1) / np.sqrt(len(inner)), NUM), rel=1e-4)
    assert length("lerp", trim=0.0, params=2.0).value == pytest.approx(4 * whole.value, rel=1e-4)
    for chunk_size in (7, 1000):
        assert length("lerp", trim=0.0, chunk_size=chunk_size).value == pytest.approx(whole.value, rel=1e-5)


def great_circle(start, end, t):
    """Points at the fractions t of the angle, and their velocities, in float64."""
    norms = np.linalg.norm(start), np.linalg.norm(end)
    a, b = start / norms[0], end / norms[1]
    angle = np.arccos(a @ b)
    across = (b - np.cos(angle) * a) / np.sin(angle)
    norm, slope = norms[0] + t * (norms[1] - norms[0]), norms[1] - norms[0]
    direction = np.cos(t * angle) * a + np.sin(t * angle) * across
    turned = angle * (-np.sin(t * angle) * a + np.cos(t * angle) * across)
    return norm * direction, slope * direction + norm * turned


def test_great_circles_in_closed_form():
    """At the start of each path; the ends of a circle are the codes; on a straight line the length differs."""
    start, end = STARTS.astype(float), ENDS.astype(float)
    speeds = [np.sum((MAP @ great_circle(a, b, 0.0)[1]) ** 2) for a, b in zip(start, end, strict=True)]
    found = length("slerp", trim=0.0, is_full=False)
    assert found.value == pytest.approx(np.mean(speeds), rel=1e-4)
    assert found.value != pytest.approx(SPEEDS.mean(), rel=0.02)
    for t, expected in ((0.0, start[0]), (1.0, end[0])):
        np.testing.assert_allclose(great_circle(start[0], end[0], t)[0], expected, atol=1e-12)
        point = evaluation.latent_space._slerp(STARTS[0], ENDS[0], jnp.float32(t))
        np.testing.assert_allclose(point, expected, atol=1e-5)
    middle = evaluation.latent_space._slerp(STARTS[0], ENDS[0], jnp.float32(0.3))
    np.testing.assert_allclose(middle, great_circle(start[0], end[0], 0.3)[0], atol=1e-5)
    parallel = evaluation.latent_space._slerp(STARTS[0], 2 * STARTS[0], jnp.float32(0.5))
    np.testing.assert_allclose(parallel, 1.5 * STARTS[0], rtol=1e-5)


def test_random_points_of_great_circles():
    """Squared codes have the speed 2 z dz/dt, whose mean over t is an integral; within 4 standard errors."""
    start, end = STARTS[:1].repeat(2000, 0), ENDS[:1].repeat(2000, 0)
    found = evaluation.perceptual_path_length(lambda params, key, z: z**2, (), KEY, start, end, trim=0.0)
    points = [great_circle(STARTS[0].astype(float), ENDS[0].astype(float), t) for t in (np.arange(500) + 0.5) / 500]
    expected = np.mean([np.sum((2 * z * velocity) ** 2) for z, velocity in points])
    assert abs(found.value - expected) < 4 * found.stderr < 0.2 * expected


def test_finite_differences():
    """A step of 1e-2 agrees with the limit. On paths that are a thousandth as long, the limit is still exact in
    float32, and a third or more of what a step of 1e-4 measures is rounding."""
    assert length("lerp", trim=0.0, epsilon=1e-2).value == pytest.approx(SPEEDS.mean(), rel=1e-3)
    ends = STARTS + 1e-3 * (ENDS - STARTS)
    exact = np.mean(np.sum(((ends - STARTS).astype(float) @ MAP.T) ** 2, axis=1))
    assert length("lerp", trim=0.0, ends=ends).value == pytest.approx(exact, rel=1e-4)
    assert length("lerp", trim=0.0, ends=ends, epsilon=1e-2).value == pytest.approx(exact, rel=0.05)
    assert length("lerp", trim=0.0, ends=ends, epsilon=1e-4).value > 1.5 * exact


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ends": ENDS[:2]}, r"starts and ends must be \[num, ...\] of one shape; got \(300, 4\) and \(2, 4\)"),
        ({"starts": STARTS[0], "ends": ENDS[0]}, r"got \(4,\) and \(4,\)"),
        ({"interpolation": "cubic"}, "interpolation must be slerp or lerp; got 'cubic'"),
        ({"epsilon": 0.0}, "epsilon must be positive and finite; got 0.0"),
        ({"trim": 0.5}, r"trim must be in \[0, 0.5\); got 0.5"),
        ({"starts": STARTS[:0], "ends": ENDS[:0]}, r"x must be \[num >= 1, ...\]"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        length(**({"interpolation": "lerp"} | options))


def test_the_features_of_a_judge_have_a_derivative():
    """They are those of `read` without its rounding of images, with which all derivatives would be 0."""
    network = Classifier(3, (2, 3), 4, is_strided=False)
    images = RANDOM.integers(50, 200, (5, 8, 8, 1)).astype(np.float32) / 255
    params = normalise_features(network, network.init(KEY, images)["params"], images)
    judge = Judge("test", "", (8, 8, 1), network, params)
    np.testing.assert_allclose(judge.features(images), judge.read(images).features, rtol=1e-5)

    def features(params, rng_key, code):
        return judge.features(code)

    paths = functools.partial(evaluation.perceptual_path_length, features, (), KEY, images, images[::-1], trim=0.0)
    limit, steps = paths(interpolation="lerp"), paths(interpolation="lerp", epsilon=1e-3)
    assert limit.value > 0 and steps.value == pytest.approx(limit.value, rel=0.05)


# ---- influences of styles


def layers_of(params, rng_key, styles):
    """Layer l affects feature l alone, by a factor of l + 1; the noise is the same for all styles of an image."""
    return (jnp.arange(3.0) + 1) * styles.sum(axis=-1) + 10 * jax.random.normal(rng_key, (3,))


def test_influences_in_closed_form():
    """Squared changes of each group over those of all layers, pair by pair; separate groups add up to 1."""
    styles, others = RANDOM.normal(size=(2, 50, 3, 2)).astype(np.float32)
    groups = {"coarse": [0], "fine": range(1, 3), "all": range(3), "none": []}
    found = evaluation.style_influence(layers_of, (), KEY, styles, others, groups, chunk_size=20)
    changes = np.mean((np.arange(1, 4) * (others - styles).astype(float).sum(axis=-1)) ** 2, axis=0)
    expected = {"coarse": changes[0], "fine": changes[1:].sum(), "all": changes.sum(), "none": 0.0}
    assert found == pytest.approx({name: value / changes.sum() for name, value in expected.items()}, rel=1e-4)
    assert list(found) == list(groups) and found["coarse"] + found["fine"] == pytest.approx(1)


def test_bad_groups_and_styles():
    styles = np.zeros((5, 3, 2), np.float32)
    with pytest.raises(ValueError, match=r"layers of groups must lie in 0 .. 2; got fine: \[2, 3\]"):
        evaluation.style_influence(layers_of, (), KEY, styles, styles, {"fine": [2, 3]})
    with pytest.raises(
        ValueError, match=r"must be \[num, num_layers, dim\] of one shape; got \(5, 3\) and \(5, 3, 2\)"
    ):
        evaluation.style_influence(layers_of, (), KEY, styles[..., 0], styles, {"fine": [2]})
