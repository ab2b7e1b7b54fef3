"""The judge of images: weights that are not the pinned ones are refused, distances are ordered, a run resumes."""

import functools
import hashlib
import json

import jax
import numpy as np
import pytest

from bayesjax import data
from experiments import common, judge, judge_images
from tests.experiments.test_weight_uncertainty import call

pytestmark = pytest.mark.usefixtures("compile_once")

TINY = judge.Recipe(channels=(2, 4), num_features=5)
SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def packed():
    """The file of an untrained judge of three classes."""
    init, random = functools.partial(TINY.network(3).init, jax.random.key(0)), np.random.default_rng(0)
    shapes = jax.eval_shape(init, np.zeros((1, *SHAPE), np.float32))["params"]
    return judge.pack(jax.tree.map(lambda leaf: random.normal(size=leaf.shape) / leaf.size**0.25, shapes))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two kinds of striped images, 100 to train on and 60 to test on."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "images.npz"
    y = np.arange(160) % 2
    x = random.uniform(0.6, 1, (160, 8, 8)) * np.where(
        y[:, None, None], np.arange(8)[:, None] % 4 < 2, np.arange(8) < 4
    )
    np.savez(
        path, x_train=x[:100].astype(np.float32), y_train=y[:100], x_test=x[100:].astype(np.float32), y_test=y[100:]
    )
    return str(path)


def test_weights_other_than_the_pinned_ones_are_refused(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "RECIPES", {"mnist": TINY})
    monkeypatch.setattr(judge, "INPUT_SHAPES", {"mnist": SHAPE})
    monkeypatch.setattr(judge, "SHA256", {"mnist": hashlib.sha256(packed).hexdigest()})
    with pytest.raises(FileNotFoundError):
        judge.load_judge("mnist", folder=tmp_path)
    (tmp_path / "mnist.npz").write_bytes(packed)
    found = judge.load_judge("mnist", folder=tmp_path)
    assert found.name == f"mnist-{hashlib.sha256(packed).hexdigest()[:8]}"
    (tmp_path / "mnist.npz").write_bytes(packed[:500] + bytes([packed[500] ^ 1]) + packed[501:])
    with pytest.raises(ValueError, match=r"the judge 'mnist' must have the sha256 .* would judge by other features"):
        judge.load_judge("mnist", folder=tmp_path)


@pytest.mark.parametrize("name", judge.SHA256)
def test_committed_weights_are_the_pinned_ones(name):
    """They load, they are small, and the published table is by them."""
    path = judge.JUDGES / f"{name}.npz"
    found = judge.load_judge(name)
    assert found.sha256 == judge.SHA256[name] and path.stat().st_size < 2**20
    features, probabilities = found.read(np.zeros((2, *judge.INPUT_SHAPES[name])))
    assert features.shape[1] == judge.RECIPES.get(name, judge.Recipe()).num_features and probabilities.shape == (2, 10)
    (published,) = common.RESULTS.glob(f"judge_images-*-{name}.json")
    assert json.loads(published.read_text())["metrics"]["accuracy %"]["sha256"] == found.sha256


def test_halves_of_fakes_whose_kinds_take_turns(packed):
    """The half that FCD is extrapolated from has both kinds; every second fake would be of one, and far."""
    its, random = judge.unpack(packed, "mine", SHAPE, TINY), np.random.default_rng(0)
    features = random.normal(size=(400, 5)).astype(np.float32)
    features[::2] += 5
    of = lambda x: judge.Reading(x, np.full((len(x), 3), 1 / 3, np.float32))  # noqa: E731
    whole, half = (judge.judged(its, of(features), of(part))["FCD"]["value"] for part in (features, features[::2]))
    assert whole < 1e-3 and half > 20
    assert judge.judged(its, of(features), of(features))["FCD extrapolated"]["half"] < 0.5


def test_what_a_judge_reads(packed):
    """Any number of images, as they would be saved, at most 500 at a time; the same bytes give the same features."""
    its = judge.unpack(packed, "mine/images.npz", SHAPE, TINY)
    assert its.name == f"images-{its.sha256[:8]}"
    x = np.random.default_rng(0).uniform(size=(507, *SHAPE))
    features, probabilities = its.read(x)
    assert features.shape == (507, 5) and probabilities.shape == (507, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(its.features(np.round(x * 255).astype(np.uint8) / 255), features, atol=1e-3)
    np.testing.assert_allclose(its.features(x[500:]), features[500:], atol=1e-5)
    assert np.abs(its.features(x[:7]) - features[500:]).max() > 1e-2  # power
    for wrong, message in (
        (x[..., 0], r"must be \[num, \(8, 8, 1\)\]; got \(507, 8, 8\)"),
        (x[:0], "got \\(0, 8"),
        (2 * x - 1, r"must lie in \[0, 1\]; got -0.99"),
        (np.full((1, *SHAPE), np.nan), "must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            its.read(wrong)


def test_scaled_features_are_of_the_same_classifier(packed):
    """Variance 1 on average, and no other probabilities."""
    its = judge.unpack(packed, "digits", SHAPE, TINY)
    x = np.random.default_rng(0).uniform(size=(300, *SHAPE)).astype(np.float32)
    scaled = judge._rescaled(its.network, its.params, x)
    features, probabilities = map(np.asarray, judge._read(its.network, scaled, x))
    assert features.var(axis=0).mean() == pytest.approx(1, rel=1e-4)
    assert its.features(x).var(axis=0).mean() != pytest.approx(1, rel=0.1)
    np.testing.assert_allclose(probabilities, its.probabilities(x), atol=1e-3)


def test_extrapolation_takes_most_of_the_bias_away(packed):
    """Of fakes of the law of the real samples, where FCD is 0; with 100 of them, of dimension 6, it is biased.

    Means over 20 repeats are 0.177 ± 0.012 and 0.007 ± 0.016 (sd of 100 such runs): the bounds are 4.5 sd away, and
    fail falsely less often than once in 10^4. Without extrapolation the second does not hold.
    """
    its, random = judge.unpack(packed, "digits", SHAPE, TINY), np.random.default_rng(0)
    draw = lambda num: judge.Reading(  # noqa: E731
        random.normal(size=(num, 6)).astype(np.float32), random.dirichlet(np.ones(3), num)
    )
    real = draw(1500)
    found = [judge.judged(its, real, draw(100)) for _ in range(20)]
    plain, extrapolated = (np.mean([one[name]["value"] for one in found]) for name in ("FCD", "FCD extrapolated"))
    assert plain > 0.12 and abs(extrapolated) < 0.08
    assert found[0]["FCD"]["num_real"] == 1500 and found[0]["FCD"]["num_fake"] == 100
    assert {"KCD", "IS", "precision", "recall", "density", "coverage"} < set(found[0])
    with pytest.raises(ValueError, match=r"at least 12 samples each.*got 1500, 11 and 11"):
        judge.judged(its, real, draw(11))


FLAGS = ("--num-steps", 60, "--noises", 0.2, 0.6, "--blurs", 1, 3, "--dataset")


def test_a_run_orders_what_is_known_and_resumes(images, tmp_path, capsys):
    call("judge_images", *FLAGS, images, "--out", tmp_path / "run")
    read = lambda: json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]  # noqa: E731
    first = read()
    assert first["accuracy %"]["value"] == 100
    assert first["FCD rises with noise"]["value"] == first["FCD rises with blur"]["value"] == 1
    assert first["training copies: FCD"]["value"] == pytest.approx(0, abs=1e-6)
    assert first["training copies: recall"]["value"] == 1
    assert first["one class: FCD"]["value"] > 3 * first["test images: FCD"]["value"]
    assert "| blur 3 " in capsys.readouterr().out
    for figure in ("distance", "images"):
        assert (tmp_path / "run" / "figures" / f"{figure}.png").exists()
    for part in ("judge.npz", "blur-3.json"):
        (tmp_path / "run" / "parts" / part).unlink()
    call("judge_images", *FLAGS, images, "--out", tmp_path / "run", "--resume")
    assert read() == first


def test_an_order_that_is_broken_is_noticed():
    values = {"test images": 1.0, "noise 0.1": 2.0, "noise 0.2": 3.0}
    found = {name: {"FCD": {"value": value}} for name, value in values.items()}
    assert judge_images.rises(found, "noise", (0.2, 0.1))
    found["noise 0.1"]["FCD"]["value"] = 0.9
    assert not judge_images.rises(found, "noise", (0.1, 0.2))


def test_no_judge_without_labels(tmp_path):
    x = np.zeros((30, *SHAPE), np.float32)
    np.savez(tmp_path / "images.npz", x_train=x, x_test=x)
    with pytest.raises(ValueError, match=r"there is no judge for '.*images.npz': one is trained on images with labels"):
        judge.load_judge(str(tmp_path / "images.npz"))
    with pytest.raises(data.UnknownDataset):
        judge.load_judge("nothing_of_that_name")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--noises", "0"), "--noises must be positive numbers; got (0.0,)"),
        (("--num-images", "23"), "--num-images must be at least 24; got 23"),
        (("--num-images", "60"), "--num-images 60 leaves 6 images in the row 'one class'; at least 12 are needed"),
        (("--num-steps", "-1"), "--num-steps must be at least 0; got -1"),
        (("--dataset", "synthetic/ten_clusters"), "must have labels of two classes or more"),
    ],
)
def test_bad_input(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        call("judge_images", *flags, "--out", tmp_path / "run")
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("where", [(), ("--data-devices", "2")], ids=["one", "batch"])
def test_two_devices_give_the_same_table(images, tmp_path, where):
    def of(*flags):
        out = tmp_path / str(len(flags))
        call("judge_images", *FLAGS, images, "--out", out, *flags)
        return {name: one["value"] for name, one in json.loads((out / "results.json").read_text())["metrics"].items()}

    expected = of()
    assert of("--devices", 2, *where) == pytest.approx(expected, rel=0.02, abs=0.02)  # stored in float16
