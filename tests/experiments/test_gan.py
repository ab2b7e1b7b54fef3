"""The GANs: every loss, the networks, the mixture of the chains, the rows of a run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.types import Given
from experiments import gan
from experiments.harness import report
from experiments.harness.provenance import RESULTS
from experiments.shared import judge
from tests.experiments.test_every_experiment import call

pytestmark = pytest.mark.usefixtures("compile_once")
TINY = gan.Config(hidden=(6,), latent_dim=3, batch_size=8)
X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32)


@pytest.mark.parametrize("name", gan.LOSSES)
def test_every_loss_pulls_samples_to_data_and_is_finite_far_out(name):
    """One step down the generator's loss raises the discriminator's output at its samples (takes it nearer to 1, for
    least squares); with data at 1e4 nothing overflows. A generator's loss of the wrong sign fails."""
    net = gan.networks(TINY, gan.LOSSES[name], (2,))
    losses = gan.losses(TINY, gan.LOSSES[name], net)
    position = net.init(jax.random.key(1))

    @jax.jit
    def move(position, scale):
        given = Given(scale * X, position)
        (value, aux), grads = jax.value_and_grad(losses["discriminator"], has_aux=True)(
            position["discriminator"], jax.random.key(2), given
        )
        inner_steps = given._replace(data=given.data[None])  # the generator receives those of a whole step
        slope = jax.grad(losses["generator"])(position["generator"], jax.random.key(3), inner_steps)
        stepped = jax.tree.map(lambda w, g: w - 1e-3 * g, position["generator"], slope)
        outputs = [
            net.discriminate(position["discriminator"], net.generate(params, jax.random.key(3), 8))
            for params in (position["generator"], stepped)
        ]
        return value, aux, grads, outputs

    _, _, _, (before, after) = move(position, 1.0)
    if name == "least_squares":
        before, after = -((before - 1) ** 2), -((after - 1) ** 2)
    assert after.mean() > before.mean()
    assert jax.tree.all(jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), move(position, 1e4)))


def test_losses_have_the_penalties_of_their_papers():
    """At equal weights: wasserstein_gp adds the penalty between data and samples, r1 that at data, by their weights."""

    def discriminator_loss(name, **settings):
        config = dataclasses.replace(TINY, activation="tanh", clip=100.0, **settings)
        net = gan.networks(config, gan.LOSSES[name], (2,))
        position = net.init(jax.random.key(1))
        loss = gan.losses(config, gan.LOSSES[name], net)["discriminator"]
        return float(loss(position["discriminator"], jax.random.key(2), Given(X, position))[0])

    for name, plain, flag in (
        ("wasserstein_gp", "wasserstein", "penalty"),
        ("r1", "non_saturating", "r1_penalty"),
    ):
        one, three = (discriminator_loss(name, **{flag: weight}) for weight in (1.0, 3.0))
        assert one - discriminator_loss(plain) > 1e-3
        np.testing.assert_allclose(three - one, 2 * (one - discriminator_loss(plain)), rtol=1e-3)


def test_r3gan():
    """Both losses by hand: of the difference of two outputs, with gamma / 2 times the squared slopes at both points."""
    config, gamma = dataclasses.replace(TINY, activation="tanh", r1_penalty=3.0), 3.0
    net = gan.networks(config, gan.LOSSES["r3gan"], (2,))
    position, key = net.init(jax.random.key(1)), jax.random.key(2)
    losses = gan.losses(config, gan.LOSSES["r3gan"], net)
    fake = net.generate(position["generator"], jax.random.split(key)[0], len(X))
    outputs, slopes = [], []
    for x in (X, fake):
        outputs.append(net.discriminate(position["discriminator"], x))
        slopes.append(jax.grad(lambda x: net.discriminate(position["discriminator"], x).sum())(x))
    margin = np.asarray(outputs[0] - outputs[1])
    penalty = sum(np.sum(np.asarray(slope) ** 2, axis=1) for slope in slopes)
    expected = np.mean(np.log1p(np.exp(-margin)) + gamma / 2 * penalty)
    assert np.mean(gamma / 2 * penalty) > 0.01 * expected
    value, _ = losses["discriminator"](position["discriminator"], key, Given(X, position))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    fake = net.generate(position["generator"], key, len(X))
    margin = np.asarray(outputs[0] - net.discriminate(position["discriminator"], fake))
    value = losses["generator"](position["generator"], key, Given(jnp.stack([X + 1, X]), position))
    np.testing.assert_allclose(value, np.mean(np.log1p(np.exp(margin))), rtol=1e-5)  # with the data of the last step


def test_clipped_and_normalised_critics():
    """The clipped critic does not change when weights beyond the bound grow; the normalised one when kernels grow."""
    for name, factor in (("wasserstein", 100.0), ("hinge", 3.0)):
        net = gan.networks(TINY, gan.LOSSES[name], (2,))
        params = jax.tree.map(jnp.sign, net.init(jax.random.key(0))["discriminator"])
        grown = jax.tree.map(lambda w, factor=factor: factor * w, params)
        np.testing.assert_allclose(net.discriminate(params, X), net.discriminate(grown, X), rtol=1e-4)
        plain = gan.networks(TINY, gan.LOSSES["minimax"], (2,))
        assert not np.allclose(plain.discriminate(params, X), plain.discriminate(grown, X), rtol=0.1)


def test_mlps_have_the_activation_of_the_flag():
    """Without offsets, as they begin, mlps of tanh are odd and those of leaky ReLUs not; hinge's critic never is."""

    def is_odd(apply, x):
        return np.allclose(apply(-x), -apply(x), atol=1e-6)

    for activation, loss, expected in (
        ("tanh", "minimax", (True, True)), ("tanh", "hinge", (True, False)), ("leaky_relu", "minimax", (False, False)),
    ):  # fmt: skip
        net = gan.networks(dataclasses.replace(TINY, activation=activation), gan.LOSSES[loss], (2,))
        params = net.init(jax.random.key(0))
        decode = is_odd(lambda z, net=net, params=params: net.decode(params["generator"], z), jnp.ones((1, 3)))
        outputs = is_odd(lambda x, net=net, params=params: net.discriminate(params["discriminator"], x), X)
        assert (decode, outputs) == expected, (activation, loss)


def test_a_game_generates_with_all_its_chains_and_no_other():
    """Two draws of two games of three chains, numbered 1 to 6: the first game has 1 to 3 of either draw, interleaved.
    Games and chains the wrong way around would mix 1, 3 and 5."""
    chain, tenths = np.arange(1.0, 7.0), np.array([0.1, 0.2])[:, None]
    draws = {"w": (chain + tenths)[..., None]}
    for first, num, expected in (
        (0, 3, [1.1, 2.1, 3.1, 1.2, 2.2, 3.2]), (3, 3, [4.1, 5.1, 6.1, 4.2, 5.2, 6.2]), (1, 1, [2.1, 2.2]),
    ):  # fmt: skip
        np.testing.assert_allclose(gan.pool_chains(draws, first, num)["w"][:, 0], expected)


def test_rows_distinguish_stages_and_chains():
    """Two games of two chains, whose mixtures cover 8 and 6 modes, 7 and 7 before sampling; each chain alone less."""
    modes = lambda after, before: {  # noqa: E731
        "": {"modes": {"value": after}}, "warm-up": {"modes": {"value": before}}
    }  # fmt: skip
    game = lambda pooled, chains, last: {  # noqa: E731
        "pooled": modes(*pooled), "chains": [modes(*each) for each in chains], "diversity": [9.0, last],
        "mean drift": [9.0] * 3 + [last],
    }  # fmt: skip
    games = [game((8, 7), [(5, 1), (6, 4)], 0.5), game((6, 7), [(2, 3), (3, 3)], 1.5)]
    rows = gan.summarise("r1", {"games": games, "ms per step": 50.0})
    values = {(each["measure"], each.get("stage"), each.get("chain")): each["value"] for each in rows}
    assert values == {
        ("modes", None, None): 7, ("modes", "warm-up", None): 7, ("modes", None, "mean"): 4,
        ("modes", "warm-up", "mean"): 2.75, ("diversity", None, None): 1, ("mean drift", None, None): 1,
        ("ms per step", None, None): 50,
    }  # fmt: skip
    by_keys = {(each.get("stage"), each.get("chain")): each for each in rows if each["measure"] == "modes"}
    assert by_keys[None, None]["values"] == [8, 6] and by_keys["warm-up", None]["values"] == [7, 7]
    assert by_keys[None, "mean"]["values"] == [5.5, 2.5]
    np.testing.assert_allclose(by_keys[None, None]["stderr"], 1.0)  # of 8 and 6: sd sqrt(2) over sqrt(2)
    one = {"games": [{**games[0], "pooled": {"": modes(8, 7)[""]}, "chains": []}], "ms per step": None}
    alone = {each["measure"]: each for each in gan.summarise("r1", one)}
    assert set(alone) == {"modes", "diversity", "mean drift", "ms per step"} and alone["ms per step"]["value"] is None
    assert "stderr" not in alone["modes"]
    text = report.render(gan.TABLES, [{**RUN, "rows": rows}])
    assert "| r1   | sghmc  | 7.0 ± 1.0 | 7.0 ± 0.0" in text and "4.0 ± 1.5" in text and "2.8 ± 0.2" in text
    assert "2 games of 3 independent chains of each loss were trained for 5 steps of Adam and 4 steps of SGHMC" in text


RUN = {
    "config": {"kernel": "sghmc", "num_seeds": 2, "num_chains": 3, "num_steps": 9, "num_warmup": 5, "batch_size": 8,
               "num_evaluations": 1, "num_judged": 20},
    "command": "", "device": "", "commit": "",
}  # fmt: skip


@pytest.mark.slow
def test_a_bayesian_run_without_steps_left_gives_the_same_rows(tmp_path, capsys):
    """Two games of three chains: figures, steps of both stages, and a resumed run that only evaluates anew."""
    flags = ("--losses", "r1", "--kernel", "sghmc", "--num-seeds", 2, "--hidden", 6, "--batch-size", 8,
             "--num-steps", 10, "--num-evaluations", 2, "--num-judged", 20, "--discriminator-steps", 2,
             "--num-chains", 3, "--num-warmup", 5)  # fmt: skip
    call("gan", *flags, "--out", tmp_path / "run")
    first = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert {path.name for path in (tmp_path / "run" / "figures").iterdir()} == {
        "samples.png", "training-r1.png", "diversity.png", "mean_drift.png",
    }  # fmt: skip
    assert "4 steps of Adam and 4 steps of SGHMC with batches of 8" in capsys.readouterr().out
    part = tmp_path / "run" / "parts" / "r1.npz"
    part.unlink()  # the run was interrupted after its last step
    call("gan", *flags, "--out", tmp_path / "run", "--resume")
    again = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    timed = [row for row in first if row["measure"] == "ms per step"]
    assert timed[0]["value"] > 0 and {**timed[0], "value": None} in again  # no step was left
    assert [row for row in again if row["value"] is not None] == [row for row in first if row not in timed]


def keys(rows):
    """What identifies rows: all but their numbers."""
    numbers = ("value", "stderr", "values", "sd", "half", "num_real", "num_fake")
    return {tuple(sorted((k, v) for k, v in row.items() if k not in numbers)) for row in rows}


@pytest.mark.slow
def test_rows_have_the_keys_of_the_published_ones(tmp_path):
    """A short run of a loss and the chains of a published one leaves rows with the same keys."""
    path = RESULTS / "gan-ring_sghmc-synthetic_ring.json"
    published = [row for row in json.loads(path.read_text())["rows"] if row["method"] == "r1"]
    call(
        "gan", "--preset", "ring_sghmc", "--losses", "r1", "--num-seeds", 1, "--hidden", 6, "--batch-size", 8,
        "--num-steps", 4, "--num-warmup", 2, "--num-evaluations", 2, "--num-judged", 12, "--out", tmp_path / "run",
    )  # fmt: skip
    assert keys(json.loads((tmp_path / "run" / "results.json").read_text())["rows"]) == keys(published)


@pytest.mark.slow
def test_images_are_evaluated_beside_training_images(tmp_path, monkeypatch, images):
    monkeypatch.setattr(judge, "Recipe", lambda: dataclasses.replace(RECIPE, num_steps=10, channels=(2, 4)))
    call("gan", "--dataset", images, "--architecture", "dcgan", "--losses", "minimax", "--generator-features", 4,
         "--discriminator-features", 4, "--num-steps", 2, "--num-evaluations", 2, "--num-judged", 20,
         "--batch-size", 8, "--latent-dim", 3, "--out", tmp_path / "run")  # fmt: skip
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    fcd = {row["method"]: row for row in rows if row["measure"] == "FCD"}
    assert fcd["training images"]["value"] < fcd["minimax"]["value"] and fcd["minimax"]["num_fake"] == 20
    assert {"interpolation.png", "training-minimax.png"} < {each.name for each in (tmp_path / "run/figures").iterdir()}


RECIPE = judge.Recipe()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two kinds of 8 x 8 images."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "images.npz"
    y = np.arange(100) % 2
    x = (y[:, None, None] == (np.arange(8) < 4)[:, None]) * random.uniform(0.8, 1, (100, 8, 8))
    np.savez(path, x_train=x[:60].astype(np.float32), y_train=y[:60], x_test=x[60:].astype(np.float32), y_test=y[60:])
    return str(path)
