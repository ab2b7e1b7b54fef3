"""The GANs as called: every loss for every kernel, what generates, runs that resume, bad input in one line."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels
from bayesjax.types import Given
from experiments import gan, gan_networks, gan_players, judge
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
    """Two draws and two looks of two games of three chains, numbered 1 to 6: the first game has 1 to 3 of either draw,
    and a look of four samples takes turns among them. Games and chains the wrong way around would mix 1, 3 and 5."""
    chain, tenths = jnp.arange(1.0, 7.0), jnp.array([0.1, 0.2])[:, None]
    first, second = gan._pooled({"w": (chain + tenths)[..., None]}, 2, 3)
    np.testing.assert_allclose(first["w"][:, 0], [1.1, 2.1, 3.1, 1.2, 2.2, 3.2], rtol=1e-6)
    np.testing.assert_allclose(second["w"][:, 0], [4.1, 5.1, 6.1, 4.2, 5.2, 6.2], rtol=1e-6)
    looks = gan._mixed(np.broadcast_to(np.reshape(chain, (2, 3, 1, 1)), (2, 2, 3, 4, 1)))
    np.testing.assert_array_equal(looks[..., 0], [[[1, 2, 3, 1], [4, 5, 6, 4]]] * 2)


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
    assert "2 games of 3 pairs of players" in printed
    assert "| r1   | sghmc  |" in printed and "4 steps of Adam and 4 of SGHMC, batches of 8" in printed
    assert json.loads((tmp_path / "run" / "parts" / "r1.json").read_text())["steps"] == [2, 4, 6, 8]  # not 5 and 5
    (tmp_path / "run" / "parts" / "r1.json").unlink()  # the run was cut off after its last step
    call("gan", *flags, "--out", tmp_path / "run", "--resume")
    again = json.loads((tmp_path / "run" / "results.json").read_text())
    timed = "r1 ms per step"
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
