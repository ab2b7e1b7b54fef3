"""The GANs as called: every loss for every kernel, what generates, runs that resume, bad input in one line."""

import dataclasses
import json
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels
from bayesjax.types import Given
from experiments import common, gan, gan_networks, gan_players, judge
from tests.experiments.test_weight_uncertainty import call

pytestmark = pytest.mark.usefixtures("compile_once")
TINY = gan.Config(hidden=(6,), latent_dim=3, batch_size=8)
X = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32)


def test_every_loss_pulls_fakes_to_data_and_is_finite_far_out():
    """One step down the generator's loss raises what the discriminator says of its fakes (takes it nearer to 1, for
    least squares); with data at 1e4 nothing overflows. A generator's loss of the wrong sign fails."""
    for name in gan.LOSSES:
        net = gan_networks.networks(TINY, gan_networks.VARIANTS[name], (2,))
        of = gan_networks.losses(TINY, gan_networks.VARIANTS[name], net)
        position = net.init(jax.random.key(1))

        @jax.jit
        def moved(position, scale, net=net, of=of):
            given = Given(scale * X, {"discriminator": position["discriminator"], "generator": position["generator"]})
            (value, aux), grads = jax.value_and_grad(of["discriminator"], has_aux=True)(
                position["discriminator"], jax.random.key(2), given
            )
            slope = jax.grad(of["generator"])(position["generator"], jax.random.key(3), given)
            stepped = jax.tree.map(lambda w, g: w - 1e-3 * g, position["generator"], slope)
            said = [
                net.rate(position["discriminator"], net.make(params, jax.random.key(3), 8))
                for params in (position["generator"], stepped)
            ]
            return value, aux, grads, said

        _, _, _, (before, after) = moved(position, 1.0)
        if name == "least_squares":
            before, after = -((before - 1) ** 2), -((after - 1) ** 2)
        assert after.mean() > before.mean(), name
        assert jax.tree.all(jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), moved(position, 1e4))), name


def test_clipped_and_normalised_critics_are_what_they_say():
    """The clipped critic does not change when weights beyond the bound grow; the normalised one when kernels grow."""
    for name, factor in (("wasserstein", 100.0), ("hinge", 3.0)):
        net = gan_networks.networks(TINY, gan_networks.VARIANTS[name], (2,))
        params = jax.tree.map(jnp.sign, net.init(jax.random.key(0))["discriminator"])
        grown = jax.tree.map(lambda w, factor=factor: factor * w, params)
        np.testing.assert_allclose(net.rate(params, X), net.rate(grown, X), rtol=1e-4)
        plain = gan_networks.networks(TINY, gan_networks.VARIANTS["minimax"], (2,))
        assert not np.allclose(plain.rate(params, X), plain.rate(grown, X), rtol=0.1)


def test_a_walk_between_noises_stays_where_noise_is():
    """Its ends are two independent draws, and all along it noise has variance 1, within 5 standard errors (false alarms
    below 1e-5); halfway along a straight line it would have 1/2."""
    walks = jax.vmap(lambda key: gan_networks.walk(key, 5, 2))(jax.random.split(jax.random.key(0), 2000))
    error = math.sqrt(2 / 4000)  # of a mean of 4000 squares
    np.testing.assert_allclose((walks**2).mean(axis=(0, 2)), np.ones(5), atol=5 * error)
    assert abs(float((walks[:, 0] * walks[:, -1]).mean())) < 5 / math.sqrt(4000)
    np.testing.assert_allclose(walks[:, 2], (walks[:, 0] + walks[:, -1]) / math.sqrt(2), atol=1e-5)
    straight = (walks[:, 0] + walks[:, -1]) / 2
    assert float((straight**2).mean()) < 1 - 5 * error


def test_mlps_have_the_activation_that_was_asked_for():
    """Without offsets, as they begin, mlps of tanh are odd and those of leaky ReLUs not; hinge's critic never is."""

    def is_odd(of, x):
        return np.allclose(of(-x), -of(x), atol=1e-6)

    for activation, loss, expected in (
        ("tanh", "minimax", (True, True)), ("tanh", "hinge", (True, False)), ("leaky_relu", "minimax", (False, False)),
    ):  # fmt: skip
        config = dataclasses.replace(TINY, activation=activation)
        net = gan_networks.networks(config, gan_networks.VARIANTS[loss], (2,))
        params = net.init(jax.random.key(0))
        made = is_odd(lambda z, net=net, params=params: net.decode(params["generator"], z), jnp.ones((1, 3)))
        rated = is_odd(lambda x, net=net, params=params: net.rate(params["discriminator"], x), X)
        assert (made, rated) == expected, (activation, loss)


def test_generate_takes_turns_among_draws():
    """Of four draws, six samples: 0, 1, 2, 3, 0, 1; of more draws than samples, those spread evenly."""
    make = lambda params, rng_key, num: jnp.full((num, 1), params)  # noqa: E731
    found = gan_players.generate(make, jnp.arange(4.0), jax.random.key(0), 6)
    np.testing.assert_array_equal(found[:, 0], [0, 1, 2, 3, 0, 1])
    few = gan_players.generate(make, jnp.arange(9.0), jax.random.key(0), 3)
    np.testing.assert_array_equal(few[:, 0], [0, 4, 8])


def test_a_game_generates_with_all_its_chains_and_no_other():
    """Two draws of two games of three chains, numbered 1 to 6: the first game has 1 to 3 of either draw, in turns.
    Games and chains the wrong way around would mix 1, 3 and 5."""
    chain, tenths = np.arange(1.0, 7.0), np.array([0.1, 0.2])[:, None]
    draws = {"w": (chain + tenths)[..., None]}
    first, second = (gan_players.of_chains(draws, game, 3) for game in range(2))
    assert [each["w"][:, 0].round(1).tolist() for each in first] == [[1.1, 1.2], [2.1, 2.2], [3.1, 3.2]]
    np.testing.assert_allclose(gan_players.pooled(first)["w"][:, 0], [1.1, 2.1, 3.1, 1.2, 2.2, 3.2])
    np.testing.assert_allclose(gan_players.pooled(second)["w"][:, 0], [4.1, 5.1, 6.1, 4.2, 5.2, 6.2])


def test_looks_are_of_the_mixture():
    """Each noise is there once, made by one chain of its game, the same at every check; chains have equal shares; and
    neighbours are of one chain in one of three cases, as two draws of the mixture are, not in none (as in turns, which
    would make the diversity that of one chain against another) and not in most (as block after block)."""
    num_checks, num_games, num_chains, num = 2, 2, 3, 300
    at = np.meshgrid(*(np.arange(n) for n in (num_checks, num_games, num_chains, num)), indexing="ij")
    check, game, chain, noise = np.moveaxis(gan_players.mixed(np.stack(at, axis=-1)), -1, 0)
    assert check.shape == (num_checks, num_games, num)
    assert (noise == np.arange(num)).all() and (chain == chain[0, 0]).all()
    assert (check == np.arange(num_checks)[:, None, None]).all() and (game == np.arange(num_games)[:, None]).all()
    np.testing.assert_array_equal(np.bincount(chain[0, 0]), [100] * 3)
    turns, blocks = np.arange(num) % 3, np.arange(num) * 3 // num
    shares = [np.mean(order == np.roll(order, 1)) for order in (chain[0, 0], turns, blocks)]
    assert abs(shares[0] - 1 / 3) < 4 * np.sqrt(2 / 9 / num) and shares[1] == 0 and shares[2] > 0.9


def test_a_summary_tells_sampling_and_the_number_of_pairs_apart():
    """Two games of two pairs, whose mixtures have 8 and 6 modes, 7 and 7 before sampling; each pair alone has less."""
    modes = lambda value: {"modes": {"value": value}}  # noqa: E731
    game = lambda judged, started, pairs, last: {  # noqa: E731
        "judged": modes(judged), "started": modes(started), "diversity": [9.0, last], "swing": [9.0] * 3 + [last],
        "pairs": [{"judged": modes(after), "started": modes(before)} for after, before in pairs],
    }  # fmt: skip
    games = [game(8, 7, [(5, 1), (6, 4)], 0.5), game(6, 7, [(2, 3), (3, 3)], 1.5)]
    found = gan.summary({"games": games, "steps": [10, 20], "ms per step": 50.0})
    values = {name: entry["value"] for name, entry in found.items()}
    assert values == {
        "modes": 7, "modes before sampling": 7, "modes of one pair": 4, "modes of one pair before sampling": 2.75,
        "diversity": 1, "swing": 1, "ms per step": 50,
    }  # fmt: skip
    assert found["modes"]["values"] == [8, 6] and found["modes before sampling"]["values"] == [7, 7]
    assert found["modes of one pair"]["values"] == [5.5, 2.5]
    np.testing.assert_allclose(found["modes"]["stderr"], 1.0)  # of 8 and 6: sd sqrt(2) over sqrt(2)
    alone = gan.summary({"games": [{k: v for k, v in games[0].items() if k in ("judged", "diversity", "swing")}],
                         "steps": [20], "ms per step": None})  # fmt: skip
    assert set(alone) == {"modes", "diversity", "swing", "ms per step"} and alone["ms per step"]["value"] is None


def test_what_stood_before_sampling_is_the_end_of_the_warm_up(tmp_path):
    """`started` is where the stage of Adam ends, which the same stage alone shows, and no draw of the sampler is it."""
    config = dataclasses.replace(
        TINY, kernel="sghmc", num_steps=8, warmup=0.5, num_checks=2, learning_rate=1e-3, out=str(tmp_path / "run"),
    )  # fmt: skip
    net = gan_networks.networks(config, gan_networks.VARIANTS["non_saturating"], (2,))
    plan = gan_players.stages(config, gan_networks.losses(config, gan_networks.VARIANTS["non_saturating"], net), 64)
    batches = gan_players.batches(config, jax.random.key(0), jax.random.normal(jax.random.key(1), (64, 2)))
    played = []
    with common.Experiment("gan", config) as run:
        for name, stages in (("whole", plan), ("warm-up", [plan[0]._replace(name="adam")])):
            position = net.init(jax.random.key(2))
            played.append(gan_players.play(
                run, name, stages, position, batches, rng_key=jax.random.key(3), observe=lambda params: jnp.zeros(()),
            ))  # fmt: skip
    whole, warm = played
    chex.assert_trees_all_equal(whole.started, jax.tree.map(lambda leaf: leaf[None], warm.position["generator"]))
    assert warm.started == ()
    first = jax.tree.leaves(whole.started)[0]
    drawn = jax.tree.leaves(whole.generators)[0]
    assert len(drawn) == 2 and all(np.abs(each - first[0]).max() > 0 for each in drawn)


def test_the_constraint_holds_after_adam():
    """Adam's critic stays inside the bound; without the constraint its weights, which begin at He's scale, do not."""
    config = dataclasses.replace(TINY, num_steps=20)
    variant = gan_networks.VARIANTS["wasserstein"]
    net = gan_networks.networks(config, variant, (2,))
    for constraint, is_inside in ((kernels.clip_weights(config.clip), True), (None, False)):
        (stage,) = gan_players.stages(config, gan_networks.losses(config, variant, net), 100, constraint=constraint)
        state = stage.kernel.init(net.init(jax.random.key(0)), jax.random.key(1))
        state, _ = jax.jit(stage.kernel.step)(jax.random.key(2), state, X[None])
        largest = max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(state.position["discriminator"]))
        assert bool(largest <= config.clip + 1e-6) == is_inside


def test_a_bayesian_run_leaves_its_table_and_resumes(tmp_path, capsys):
    flags = ("--losses", "r1", "--kernel", "sghmc", "--num-seeds", 2, "--hidden", 6, "--batch-size", 8,
             "--num-steps", 10, "--num-checks", 2, "--num-judged", 20, "--discriminator-steps", 2,
             "--num-chains", 3, "--warmup", 0.5)  # fmt: skip
    call("gan", *flags, "--out", tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {"r1 modes", "r1 high quality", "r1 diversity", "r1 swing"} < set(results["metrics"])
    for name in ("modes", "modes before sampling"):
        assert len(results["metrics"][f"r1 {name}"]["values"]) == 2
    assert {path.name for path in (tmp_path / "run" / "figures").iterdir()} == {
        "samples.png", "training-r1.png", "diversity.png", "swing.png",
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "2 games of 3 independent pairs of players" in printed
    assert "| r1   | sghmc  |" in printed and "4 steps of Adam and 4 of SGHMC, batches of 8" in printed
    assert json.loads((tmp_path / "run" / "parts" / "r1.json").read_text())["steps"] == [2, 4, 6, 8]  # not 5 and 5
    (tmp_path / "run" / "parts" / "r1.json").unlink()  # the run was cut off after its last step
    call("gan", *flags, "--out", tmp_path / "run", "--resume")
    again = json.loads((tmp_path / "run" / "results.json").read_text())
    timed = "r1 ms per step"
    assert results["metrics"][timed]["value"] > 0 and again["metrics"][timed]["value"] is None  # it took no step
    assert {k: v for k, v in again["metrics"].items() if k != timed} == {
        k: v for k, v in results["metrics"].items() if k != timed
    }


@pytest.mark.slow
def test_images_are_judged_beside_training_images(tmp_path, monkeypatch, images):
    monkeypatch.setattr(judge, "Recipe", lambda: dataclasses.replace(RECIPE, num_steps=10, channels=(2, 4)))
    call("gan", "--dataset", images, "--architecture", "dcgan", "--losses", "minimax", "--generator-features", 4,
         "--discriminator-features", 4, "--num-steps", 2, "--num-checks", 2, "--num-judged", 20, "--batch-size", 8,
         "--latent-dim", 3, "--out", tmp_path / "run")  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    assert metrics["real FCD"]["value"] < metrics["minimax FCD"]["value"]
    assert metrics["minimax FCD"]["num_fake"] == 20
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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--losses", "wgan"), "--losses must be among minimax, non_saturating"),
        (
            ("--losses", "r1", "hinge", "--real-target", 0.9),
            "--real-target must be 1 for losses without probabilities; got 0.9 and ['hinge']",
        ),
        (("--kernel", "sghmc", "--warmup", 1e-4), "--warmup must leave a step of 1500 before sampling; got 0.0001"),
        (("--kernel", "hmc"), "--kernel must be adam or sghmc or sgld; got 'hmc'"),
        (("--activation", "relu"), "--activation must be leaky_relu or tanh; got 'relu'"),
        (
            ("--architecture", "dcgan"),
            "--architecture dcgan makes images; --dataset synthetic/ring has examples of (2,)",
        ),
        (("--num-steps", "10"), "--num-steps must leave a step for each of 20 checks after 0 steps of warm-up; got 10"),
        (("--batch-size", "20000"), "--batch-size times --discriminator-steps must be at most 10000"),
        (("--real-target", "1.5"), "--real-target must lie in (0, 1]; got 1.5"),
        (
            ("--dataset", "synthetic/ten_clusters"),
            "--dataset synthetic/ten_clusters must hold images [height, width, channels] with labels of two "
            "classes or more; got (100,) and 0 classes",
        ),
    ],
)
def test_bad_input_is_one_line(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        call("gan", *flags, "--out", tmp_path / "run")
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "\n" not in error
    assert not (tmp_path / "run" / "results.json").exists()
