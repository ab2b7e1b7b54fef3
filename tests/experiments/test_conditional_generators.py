"""InfoGAN and ACGAN as called, tiny: tables and figures, resuming, samplers, bad input; what a code stands for."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.objectives import infogan as infogan_objective
from bayesjax.objectives.infogan import Code
from bayesjax.types import Given
from experiments import infogan, infogan_game, labelled_images, tables
from tests.experiments.test_weight_uncertainty import call

pytestmark = pytest.mark.usefixtures("compile_once")

TINY = (
    "--judge", "none", "--latent-dim", 3, "--generator-features", 4, "--discriminator-features", 4,
    "--discriminator-hidden", 6, "--kernel-size", 3, "--batch-size", 6, "--num-steps", 4, "--num-checks", 2,
    "--num-judged", 12,
)  # fmt: skip
OF_INFOGAN = ("--num-codes", 3, "--code-hidden", 4)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two kinds of 6 x 6 images."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "images.npz"
    x = (np.arange(40)[:, None, None] % 2 == (np.arange(6) < 3)[:, None]) * random.uniform(0.8, 1, (40, 6, 6))
    y, x = np.arange(40) % 2, x.astype(np.float32)
    np.savez(path, x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    return str(path)


def metrics_of(folder):
    return json.loads((folder / "results.json").read_text())["metrics"]


def test_a_code_stands_for_the_class_that_most_of_its_images_have():
    """By hand; a code without images stands for none, two codes may stand for one class."""
    codes, labels = np.array([0, 0, 0, 1, 1, 3, 3, 3]), np.array([2, 2, 1, 0, 0, 2, 1, 2])
    np.testing.assert_array_equal(infogan_game.assignment(codes, labels, 5, 3), [2, 0, -1, 2, -1])


def test_probabilities_are_averaged_before_the_most_probable_is_taken(monkeypatch):
    """Of two draws the surer one decides, where a vote would be a tie; images in parts are images all the same."""
    monkeypatch.setattr(labelled_images, "AT_A_TIME", 2)
    draws = jnp.array([[1.0, 0.0], [-9.0, 0.0]])
    x = np.array([1.0, 1.0, -1.0], np.float32)
    found = labelled_images.most_probable(lambda params, x: x[:, None] * params, draws)(x)
    np.testing.assert_array_equal(found, [1, 1, 0])


def test_images_of_each_class_in_turn():
    """As many of each class and of each draw; the classes that are told are those that were made."""
    make = lambda params, key, classes: params + 10 * classes  # noqa: E731
    made, classes = labelled_images.make_of_each(make, jnp.arange(2), jax.random.key(0), 12, 3)
    np.testing.assert_array_equal(made // 10, classes)
    np.testing.assert_array_equal(np.bincount(classes), [4, 4, 4])
    np.testing.assert_array_equal(np.bincount(made % 10), [6, 6])


@pytest.mark.parametrize(("num_draws", "num"), [(20, 100), (20, 12), (30, 1000), (1, 25), (7, 33)])
def test_classes_are_balanced_however_few_images_are_a_draws(num_draws, num):
    """To within one; a round that began anew with each draw would have twenty of each of five classes of 100 images."""
    make = lambda params, key, classes: params + 100 * classes  # noqa: E731
    made, classes = labelled_images.make_of_each(make, jnp.arange(num_draws), jax.random.key(0), num, 10)
    np.testing.assert_array_equal(made // 100, classes)
    counts, draws = np.bincount(classes, minlength=10), np.bincount(made % 100)
    assert len(classes) == num and np.ptp(counts) <= 1 and np.ptp(draws[draws > 0]) <= 1


def test_codes_are_of_their_prior():
    """Every category equally often and moments of U(-1, 1), within 5 standard errors: false alarms below 1e-5."""
    config, num = infogan.Config(latent_dim=2, num_codes=3, num_continuous=1), 3000
    noise, code = infogan_game.draw(config, jax.random.key(0), num)
    assert noise.shape == (num, 2) and code.continuous.shape == code.categorical.shape == (num, 1)
    counts = np.bincount(code.categorical[:, 0])
    assert counts.shape == (3,) and np.abs(counts - 1000).max() < 5 * math.sqrt(num * 2 / 9)
    assert abs(np.mean(code.continuous)) < 5 / math.sqrt(3 * num)
    assert abs(np.mean(code.continuous**2) - 1 / 3) < 5 * math.sqrt(4 / 45 / num)


def test_a_code_that_small_movements_do_not_change():
    """The weight adds minus the information to D's loss alone; 0 leaves the game as it is."""
    x, key = np.random.default_rng(0).uniform(-1, 1, (6, 6, 6, 1)).astype(np.float32), jax.random.key(0)

    def lost(weight):
        config = infogan.Config(
            latent_dim=3, num_codes=3, generator_features=(4,), discriminator_features=(4,), discriminator_hidden=(6,),
            kernel_size=3, code_hidden=(4,), discriminator_norm="none", invariance_weight=weight, batch_size=6,
        )  # fmt: skip
        net = infogan_game.networks(config, x.shape[1:])
        params, losses = jax.jit(net.init)(jax.random.key(1)), infogan_game.losses(config, net)
        params = jax.tree.map(lambda w: 30 * w, params)

        def of(player, other):
            loss = jax.jit(losses[player])  # by itself, so that the generator's is the same program of both weights
            return loss(params[player], key, Given(x, {other: params[other]}))

        value, said = of("discriminator", "generator")
        logits = jax.jit(net.say)(params["discriminator"], x)[1].logits[0]
        unmoved = jax.jit(infogan_objective.invariant_information)(logits, logits)
        return value, of("generator", "discriminator")[0], said, unmoved

    (plain, of_generator, without, _), (value, same, said, unmoved) = lost(0.0), lost(2.0)
    assert "invariant" not in without and 1e-3 < said["invariant"] < math.log(3)
    np.testing.assert_allclose(value, plain - 2 * said["invariant"], atol=1e-5)
    assert same == of_generator
    assert abs(float(said["invariant"]) - float(unmoved)) > 1e-4  # of the same images, not moved, it is another


def test_a_traversal_moves_one_code_at_a_time():
    """Rows are categories; each continuous code in turn takes the values, the other is 0, the noise is the same."""
    config = infogan.Config(latent_dim=2, num_codes=3)

    def make(params, noise, code: Code):
        return jnp.concatenate([noise, code.categorical.astype(float), code.continuous], axis=1)

    net = infogan_game.Networks(lambda key: {}, make, lambda params, x: (x, x))
    found = infogan_game.traversals(config, net, {}, jax.random.key(0), np.array([-2.0, 0.0, 2.0]))
    assert found.shape == (3, 2, 3, 5)
    assert np.ptp(found[..., :2].reshape(-1, 2), axis=0).max() == 0
    np.testing.assert_array_equal(found[:, 1, 2, 2], [0, 1, 2])
    np.testing.assert_array_equal(found[1, 0, :, 3:], [[-2, 0], [0, 0], [2, 0]])
    np.testing.assert_array_equal(found[1, 1, :, 3:], [[0, -2], [0, 0], [0, 2]])
    none = infogan.Config(latent_dim=2, num_codes=3, num_continuous=0)
    assert infogan_game.traversals(none, net, {}, jax.random.key(0), np.zeros(3)).shape == (3, 0, 3, 3)


def test_what_q_reads_is_in_both_losses():
    """Lambda moves both losses by minus I_Q, and Q's weights are moved at fakes; a perfect Q reads ln K nats."""
    config = infogan.Config(
        latent_dim=3, num_codes=3, generator_features=(4,), discriminator_features=(4,), discriminator_hidden=(),
        code_hidden=(), kernel_size=3, batch_size=5,
    )  # fmt: skip
    plain = infogan.Config(**{**vars(config), "information_weight": 0.0, "continuous_weight": 0.0})
    config = infogan.Config(**{**vars(config), "information_weight": 2.0, "continuous_weight": 0.5})
    net = infogan_game.networks(config, (6, 6, 1))
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(scale=0.3, size=leaf.shape), jnp.float32), shapes)

    def both(config, player, params):
        from bayesjax.types import Given

        others = {name: params[name] for name in params if name != player}
        given = Given(jnp.zeros((5, 6, 6, 1)), others)
        return infogan_game.losses(config, net)[player](params[player], jax.random.key(1), given)

    for player in params:
        value = jax.jit(lambda p, player=player: (both(config, player, p), both(plain, player, p)))(params)
        (with_code, said), (without, _) = value
        of_numbers = (without - with_code - 2 * said["information"]) / 0.5  # the continuous part of I_Q, with scale 1
        mean_square = 2 * (1 - said["explained"]) * infogan_game.VARIANCE  # of two codes together
        expected = -0.5 * mean_square - math.log(2 * math.pi) + 2 * math.log(2)
        np.testing.assert_allclose(of_numbers, expected, rtol=1e-4, atol=1e-5)
        assert said["information"] < math.log(3)


INFOGAN = ("infogan", OF_INFOGAN, ("traversal-0", "training-0", "information"), "error %")
ACGAN = ("acgan", (), ("classes", "interpolation", "training", "right"), "own accuracy %")


@pytest.mark.parametrize(
    ("kernel", "name", "flags", "figures", "metric"),
    [
        ("adam", *INFOGAN),
        pytest.param("adam", *ACGAN, marks=pytest.mark.slow),
        pytest.param("sghmc", *INFOGAN, marks=pytest.mark.slow),
        pytest.param("sghmc", *ACGAN, marks=pytest.mark.slow),
    ],
)
def test_a_run_leaves_its_table_and_figures_and_resumes(kernel, name, flags, figures, metric, images, tmp_path, capsys):
    """By Adam or by SGHMC everything is finite; a finished run resumed says the same."""
    flags = (*TINY, *flags, "--kernel", kernel, "--dataset", images, "--out", tmp_path / "run")
    call(name, *flags)
    found = metrics_of(tmp_path / "run")
    assert metric in found and all(np.isfinite(entry["value"]) for entry in found.values()), found
    assert all((tmp_path / "run" / "figures" / f"{figure}.png").exists() for figure in figures)
    assert tables.render(tmp_path / "run" / "results.json") in capsys.readouterr().out
    call(name, *flags, "--resume")
    assert metrics_of(tmp_path / "run") == found


def test_games_are_summed_up():
    """The mean of the errors over games, and the test error of the one that is best on training images, not on test."""
    config = infogan.Config(preset="paper", num_seeds=2)
    one = {
        "steps": [1, 2],
        "ms per step": 500.0,
        "information": [0.0, 1.0],
        "explained": [0.0, 0.5],
        "assignment": [0, 0, -1],
    }
    games = {
        0: {**one, "train error": 0.2, "wrong": [True, True, False, False]},
        1: {**one, "train error": 0.3, "wrong": [True, False, False, False]},
    }
    found = infogan.summary(config, games)
    assert found["error %"]["value"] == pytest.approx(37.5) and found["error %"]["stderr"] == pytest.approx(12.5)
    chosen = found["error % of the game chosen on training images"]
    assert (chosen["seed"], chosen["value"]) == (0, 50) and found["error %"]["paper"] == 5
    assert found["seed 0 error %"]["stderr"] == pytest.approx(100 * math.sqrt(0.25 / 3))
    assert found["seed 0 classes"]["value"] == 1


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("infogan", ("--num-codes", 1), "--num-codes must be at least 2; got 1"),
        ("infogan", ("--code-hidden", 4, 0), "--code-hidden must be positive numbers"),
        ("infogan", ("--information-weight", -1), "--information-weight must be at least 0; got -1.0"),
        ("infogan", ("--judge", "digits"), "--judge digits judges images of (8, 8, 1)"),
        ("acgan", ("--norm", "layer"), "--norm must be group or batch or none; got 'layer'"),
        ("acgan", ("--num-judged", 5), "--num-judged must be at least 12; got 5"),
        ("acgan", ("--dataset", "synthetic/ring"), "--dataset synthetic/ring must hold images"),
    ],
)
def test_bad_input(name, flags, message, images, tmp_path, capsys, monkeypatch):
    """One line, exit code 2, before anything is trained."""

    class OfDigits:
        input_shape = (8, 8, 1)

    monkeypatch.setattr(labelled_images.judge, "load_judge", lambda *args, **kwargs: OfDigits)
    with pytest.raises(SystemExit) as caught:
        call(name, "--dataset", images, "--out", tmp_path / "run", "--judge", "none", *flags)
    err = capsys.readouterr().err
    assert caught.value.code == 2 and message in err and err.count("\n") == 1
