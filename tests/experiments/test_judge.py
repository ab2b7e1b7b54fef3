"""The judge of images: weights other than the pinned ones are refused, readings, the report of distances."""

import functools
import hashlib
import json

import jax
import numpy as np
import pytest

from bayesjax import data
from bayesjax.evaluation import judge as judge_library
from experiments.harness.provenance import RESULTS
from experiments.shared import judge

pytestmark = pytest.mark.usefixtures("compile_once")

TINY = judge.Recipe(channels=(2, 4), num_features=5)
SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def packed():
    """The file of an untrained judge of three classes."""
    init, random = functools.partial(TINY.network(3).init, jax.random.key(0)), np.random.default_rng(0)
    shapes = jax.eval_shape(init, np.zeros((1, *SHAPE), np.float32))["params"]
    return judge.pack(jax.tree.map(lambda leaf: random.normal(size=leaf.shape) / leaf.size**0.25, shapes))


def test_weights_other_than_the_pinned_ones_are_refused(packed, tmp_path, monkeypatch):
    committed = judge.Committed(TINY, SHAPE, hashlib.sha256(packed).hexdigest())
    monkeypatch.setattr(judge, "COMMITTED", {"mnist": committed})
    with pytest.raises(FileNotFoundError):
        judge.load("mnist", folder=tmp_path)
    (tmp_path / "mnist.npz").write_bytes(packed)
    loaded = judge.load("mnist", folder=tmp_path)
    assert loaded.name == f"mnist-{hashlib.sha256(packed).hexdigest()[:8]}"
    (tmp_path / "mnist.npz").write_bytes(packed[:500] + bytes([packed[500] ^ 1]) + packed[501:])
    with pytest.raises(ValueError, match=r"the judge 'mnist' must have the sha256 .* would not be comparable"):
        judge.load("mnist", folder=tmp_path)


@pytest.mark.parametrize("name", judge.COMMITTED)
def test_committed_weights_are_the_pinned_ones(name):
    """They load, they are small, and the published table is by them."""
    path = judge.FOLDER / f"{name}.npz"
    loaded = judge.load(name)
    recipe, input_shape, sha256 = judge.COMMITTED[name]
    assert loaded.sha256 == sha256 and path.stat().st_size < 2**20
    features, probabilities = loaded.read(np.zeros((2, *input_shape)))
    assert features.shape[1] == recipe.num_features and probabilities.shape == (2, 10)
    (published,) = RESULTS.glob(f"judge_images-*-{name}.json")
    (row,) = [row for row in json.loads(published.read_text())["rows"] if row["measure"] == "accuracy %"]
    assert row["sha256"] == loaded.sha256 and row["judge"] == loaded.name


def test_readings(packed):
    """Any number of images, as they would be saved, at most 500 at a time; the same bytes give the same features."""
    loaded = judge.unpack(packed, "mine/images.npz", SHAPE, TINY.network)
    assert loaded.name == f"images-{loaded.sha256[:8]}"
    x = np.random.default_rng(0).uniform(size=(507, *SHAPE))
    features, probabilities = loaded.read(x)
    assert features.shape == (507, 5) and probabilities.shape == (507, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(loaded.read(np.round(x * 255).astype(np.uint8) / 255).features, features, atol=1e-3)
    np.testing.assert_allclose(loaded.read(x[500:]).features, features[500:], atol=1e-5)
    np.testing.assert_array_equal(loaded.classes(x[:9]), probabilities[:9].argmax(axis=1))
    assert np.abs(loaded.read(x[:7]).features - features[500:]).max() > 1e-2  # power
    for wrong, message in (
        (x[..., 0], r"must be \[num, \(8, 8, 1\)\]; got \(507, 8, 8\)"),
        (x[:0], "got \\(0, 8"),
        (2 * x - 1, r"must lie in \[0, 1\]; got -0.99"),
        (np.full((1, *SHAPE), np.nan), "must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            loaded.read(wrong)


def test_normalised_features_are_of_the_same_classifier(packed):
    """Variance 1 on average, and no other probabilities."""
    loaded = judge.unpack(packed, "digits", SHAPE, TINY.network)
    x = np.random.default_rng(0).uniform(size=(300, *SHAPE)).astype(np.float32)
    params = judge.normalise_features(loaded.network, loaded.params, x)
    features, probabilities = map(np.asarray, judge_library._read(loaded.network, params, x))
    assert features.var(axis=0).mean() == pytest.approx(1, rel=1e-4)
    assert loaded.read(x).features.var(axis=0).mean() != pytest.approx(1, rel=0.1)
    np.testing.assert_allclose(probabilities, loaded.read(x).probabilities, atol=1e-3)


def test_a_report_has_each_measure_with_its_numbers_of_images():
    """Samples of one distribution give every measure; FCD of half the images is larger, because they are fewer."""
    random = np.random.default_rng(0)
    draw = lambda num: judge.Reading(  # noqa: E731
        random.normal(size=(num, 6)).astype(np.float32), random.dirichlet(np.ones(3), num)
    )
    report = judge.report(draw(1500), draw(100))
    assert list(report) == ["FCD", "FCD extrapolated", "KCD", "IS", "precision", "recall", "density", "coverage"]
    assert all(entry["num_fake"] == 100 and entry.get("num_real", 1500) == 1500 for entry in report.values())
    full, half = report["FCD"]["value"], report["FCD extrapolated"]["half"]
    assert half > full and report["FCD extrapolated"]["value"] == pytest.approx(2 * full - half)
    assert "stderr" in report["KCD"] and "sd" in report["IS"]


def test_halves_have_all_kinds_of_samples_that_alternate():
    """The half that FCD is extrapolated from has both kinds; every second sample would be of one, and far away."""
    features = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    features[::2] += 5
    reading = lambda x: judge.Reading(x, np.full((len(x), 3), 1 / 3, np.float32))  # noqa: E731
    whole, half = (judge.report(reading(features), reading(x))["FCD"]["value"] for x in (features, features[::2]))
    assert whole < 1e-3 and half > 20
    assert judge.report(reading(features), reading(features))["FCD extrapolated"]["half"] < 0.5


def test_extrapolation_removes_most_of_the_bias():
    """The true FCD is 0 for samples of the real distribution; its estimate from 100 samples of dimension 6 is biased.

    Means over 20 repeats are 0.177 ± 0.012 and 0.007 ± 0.016 (sd of 100 such runs): the bounds are 4.5 sd away, and
    fail falsely less often than once in 10^4. Without extrapolation the second does not hold.
    """
    random = np.random.default_rng(0)
    draw = lambda num: judge.Reading(  # noqa: E731
        random.normal(size=(num, 6)).astype(np.float32), random.dirichlet(np.ones(3), num)
    )
    real = draw(1500)
    reports = [judge.report(real, draw(100)) for _ in range(20)]
    plain, extrapolated = (np.mean([one[name]["value"] for one in reports]) for name in ("FCD", "FCD extrapolated"))
    assert plain > 0.12 and abs(extrapolated) < 0.08


def test_no_judge_without_labels(tmp_path):
    x = np.zeros((30, *SHAPE), np.float32)
    np.savez(tmp_path / "images.npz", x_train=x, x_test=x)
    with pytest.raises(ValueError, match=r"there is no judge for '.*images.npz': one is trained on images with labels"):
        judge.load(str(tmp_path / "images.npz"))
    with pytest.raises(data.UnknownDataset):
        judge.load("nothing_of_that_name")
