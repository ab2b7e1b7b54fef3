"""Learning from few labels: labels that are withheld, scores of draws, and sampled players."""

import functools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import data, evaluation
from bayesjax.posteriors import GANBatch
from bayesjax.types import Given
from experiments import bayesian_gan, semi_supervised_gan
from experiments.shared import few_labels, populations
from tests.experiments.test_every_experiment import call
from tests.experiments.tiny import TINY
from tests.parameters import some

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(scope="module")
def splits():
    return few_labels.load(semi_supervised_gan.QUICK)


@pytest.mark.parametrize("draws", some([1, 2], 2))
def test_unlabelled_images_have_no_labels(splits, draws):
    """Batches do not depend on the training set's labels; labelled images are those of the subset."""
    config = replace(semi_supervised_gan.QUICK, batch_size=6, labelled_batch_size=8, num_label_draws=draws)
    labelled = few_labels.draw_labelled(config, splits, 10)
    assert (np.sort(labelled["y"], axis=1) == np.arange(10)).all()  # class-balanced
    without = data.Split(splits.train.inputs, np.zeros_like(splits.train.labels))
    batches = [
        semi_supervised_gan.minibatches(config, jax.random.key(0), train, labelled)(3)
        for train in (splits.train, without)
    ]
    jax.tree.map(np.testing.assert_array_equal, *batches)
    shape = (draws,) if draws > 1 else ()
    assert batches[0].real.shape[:-3] == (*shape, 1, 6) and batches[0].labels.shape == (*shape, 1, 8)
    for draw in range(draws):
        seen = {(x.tobytes(), int(y)) for x, y in zip(labelled["x"][draw], labelled["y"][draw], strict=True)}
        images, labels = (
            np.asarray(leaf)[draw] if draws > 1 else np.asarray(leaf)
            for leaf in (batches[0].labelled, batches[0].labels)
        )
        for image, label in zip(images[0], labels[0], strict=True):
            assert (image.tobytes(), int(label)) in seen


def test_held_out_images_are_not_trained_on(splits):
    """--num-validation replaces the test set by the last training images."""
    held_out = few_labels.load(replace(semi_supervised_gan.QUICK, num_validation=240))
    whole = data.load("digits").train
    np.testing.assert_array_equal(held_out.test.inputs, whole.inputs[-240:])
    np.testing.assert_array_equal(held_out.train.inputs, whole.inputs[:-240])
    assert len(splits.test) == len(data.load("digits").test)


def test_scores_average_predictions(splits):
    """Two networks of each label draw: the scores of their mean prediction, and no other draw's networks."""
    net = few_labels.networks(semi_supervised_gan.QUICK, splits, 2)
    params = jax.jit(net.init, static_argnums=(1, 2))(jax.random.key(0), 1, 4)["discriminator"]
    params = jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), params)
    test, logits = splits.test, jax.jit(net.logits)
    predicted = jax.jit(functools.partial(few_labels.predict, net))(params, test.inputs)
    scores = few_labels.score(predicted, test.labels)
    for draw in range(2):
        networks = [jax.tree.map(lambda leaf, at=(draw, i): leaf[at], params) for i in range(2)]
        predictions = [jax.nn.softmax(logits(each, 2 * test.inputs - 1)) for each in networks]
        probabilities = np.mean(predictions, axis=0)
        np.testing.assert_allclose(predicted[draw], probabilities, atol=1e-6)
        wrong = probabilities.argmax(axis=1) != test.labels
        assert scores["errors"][draw] == pytest.approx(100 * wrong.mean(), abs=1e-4)
        nll = -np.log(probabilities[np.arange(len(wrong)), test.labels]).mean()
        assert scores["nll"][draw] == pytest.approx(nll, rel=1e-4)
        assert scores["ece"][draw] == pytest.approx(
            100 * evaluation.calibration.expected_calibration_error(probabilities, test.labels), rel=1e-4
        )
    assert scores["nll"][0] != pytest.approx(scores["nll"][1], rel=1e-3)


def test_rows_of_scores():
    """The standard deviation over label draws, its standard error, single errors and the published number."""
    result = {
        "errors": np.array([1.0, 2.0, 3.0]), "nll": np.array([0.5, 0.7, 0.6]), "ece": np.array([4.0, 6.0, 8.0]),
        "ms per step": None,
    }  # fmt: skip
    error, nll, ece, time = few_labels.score_rows("gan", 100, result, paper=7.2, source="Odena 2016")
    assert (error["value"], error["sd"], error["values"]) == (2.0, 1.0, [1.0, 2.0, 3.0])
    assert error["stderr"] == pytest.approx(1 / np.sqrt(3)) and error["paper"] == 7.2
    assert nll["value"] == pytest.approx(0.6) and nll["stderr"] == pytest.approx(0.1 / np.sqrt(3))
    assert (ece["value"], ece["stderr"]) == (6.0, pytest.approx(2 / np.sqrt(3))) and time["value"] is None
    counted = few_labels.score_rows("gan", 100, result | {"network steps": 7})
    assert [row["value"] for row in counted if row["measure"] == "network steps"] == [7]
    single, *_ = few_labels.score_rows("gan", 100, result | {"errors": result["errors"][:1]})
    assert "sd" not in single and "stderr" not in single


@pytest.fixture(scope="module")
def noisy(splits):
    """The networks with noise, and the parameters of one discriminator and of two generators."""
    config = replace(
        semi_supervised_gan.QUICK, architecture="mlp_noise", discriminator_features=(8, 6), generator_features=(5,)
    )
    net = few_labels.networks(config, splits, 2)
    position = jax.jit(net.init, static_argnums=(1, 2))(jax.random.key(0), 2, 1)
    return net, position


def test_noise_is_new_in_every_evaluation(splits, noisy):
    """Densities of noisy networks depend on the key through the noise; predictions have none."""
    net, position = noisy
    params, x = jax.tree.map(lambda leaf: leaf[0], position["discriminator"]), 2 * splits.train.inputs[:4] - 1
    assert net.is_noisy

    def make(net):
        return lambda params, rng_key, batch: net.logits(params, batch)

    density = jax.jit(populations.with_noise(net, make))
    one, same, other = (density(params, jax.random.key(seed), x) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert float(jnp.abs(one - other).min()) > 1e-4
    np.testing.assert_array_equal(net.logits(params, x), net.logits(params, x))
    quiet = net._replace(is_noisy=False)
    np.testing.assert_allclose(
        populations.with_noise(quiet, make)(params, jax.random.key(1), x), net.logits(params, x), rtol=1e-6
    )


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_feature_matching_is_pooled(splits, noisy, pool):
    """The loss is a sum or a mean over discriminators, and as a log likelihood it counts N times."""
    net, position = noisy
    net = net._replace(is_noisy=False)
    generator = jax.tree.map(lambda leaf: leaf[0], position["generator"])
    others = {"discriminator": jax.tree.map(lambda leaf: jnp.stack([leaf[0], 2 * leaf[0]]), position["discriminator"])}
    real = jnp.asarray(2 * splits.train.inputs[:6] - 1)
    loss = populations.feature_matching(net, 6, pool)
    value = float(jax.jit(loss)(generator, jax.random.key(1), Given(GANBatch(real), others)))
    fakes, expected = net.generate(generator, jax.random.key(1), 6), []
    for i in range(2):
        params = jax.tree.map(lambda leaf, i=i: leaf[i], others["discriminator"])
        difference = net.features(params, real).mean(axis=0) - net.features(params, fakes).mean(axis=0)
        expected.append(float((difference**2).mean()))
    assert value == pytest.approx(getattr(np, pool)(expected), rel=1e-4)
    densities = bayesian_gan.conditionals(
        net, populations.flat_prior, 100, batch_size=6, pool=pool, generator_loss="feature_matching"
    )
    density = jax.jit(densities["generator"])(generator, jax.random.key(1), Given(GANBatch(real), others))
    assert float(density[0] if isinstance(density, tuple) else density) == pytest.approx(-100 * value, rel=1e-4)


@pytest.mark.slow
def test_classifiers_may_be_sampled(tmp_path):
    """SGHMC of both players with two label draws side by side: finite scores, which differ between draws of labels."""
    flags = ("--kernel", "sghmc", "--methods", "gan", "--num-label-draws", "2", "--num-warmup", "4")
    call("semi_supervised_gan", *TINY["semi_supervised_gan"].flags, *flags, "--out", tmp_path)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    (error,) = [row for row in rows if row["measure"] == "error %"]
    (nll,) = [row for row in rows if row["measure"] == "negative log-likelihood"]
    assert len(error["values"]) == 2 and 0 <= error["value"] <= 100 and np.isfinite(nll["value"])


def test_labels_weigh_as_they_should(splits):
    """Twice the label weight adds the labels' mean cross entropy once more to the discriminator's loss."""
    config = replace(semi_supervised_gan.QUICK, batch_size=4)
    net = few_labels.networks(config, splits, config.latent_dim)
    params = jax.jit(lambda key: jax.tree.map(lambda leaf: leaf[0], net.init(key, 1, 1)))(jax.random.key(0))
    x, y = jnp.asarray(2 * splits.train.inputs[:4] - 1), jnp.asarray(splits.train.labels[:4])
    given = Given(GANBatch(x, x, y), {"generator": params["generator"]})

    def loss(weight, method="gan"):
        losses = semi_supervised_gan.losses(replace(config, label_weight=weight), net, method, 1437)
        value = jax.jit(losses["discriminator"])(params["discriminator"], jax.random.key(1), given)
        return float(value[0] if isinstance(value, tuple) else value)

    assert loss(2.0) - loss(1.0) == pytest.approx(loss(1.0, "supervised"), rel=1e-4)


@pytest.mark.parametrize("method", ["supervised", "gan", "feature_matching"])
def test_every_loss_has_the_noise(splits, noisy, method):
    """With a noisy discriminator, the loss of each trained player depends on the noise."""
    net, position = noisy
    params = jax.tree.map(lambda leaf: leaf[0], position)
    x, y = jnp.asarray(2 * splits.train.inputs[:4] - 1), jnp.asarray(splits.train.labels[:4])
    config = replace(semi_supervised_gan.QUICK, batch_size=4)
    fixed = net._replace(generate=lambda params, rng_key, num: net.generate(params, jax.random.key(0), num))
    losses = semi_supervised_gan.losses(config, fixed, method, 1437)
    for player in ("discriminator", "generator")[: 1 if method == "supervised" else 2]:
        real = x if player == "discriminator" else x[None]  # a generator sees the batches of all inner steps
        others = {name: each for name, each in params.items() if name != player}
        batch = GANBatch(real if method != "gan" else x, x, y)

        def value(seed, player=player, batch=batch, others=others):
            loss = losses[player](params[player], jax.random.key(seed), Given(batch, others))
            return float(loss[0] if isinstance(loss, tuple) else loss)

        assert value(1) != value(2)


def test_examples_in_chunks():
    """As many examples as asked for, all different, of which no more than a chunk is made at once."""
    sizes = []

    def generate(params, rng_key, num):
        sizes.append(num)
        return params + jax.random.normal(rng_key, (num, 3))

    chunked = jax.jit(populations.in_chunks(generate, 4), static_argnums=2)
    examples = chunked(10.0, jax.random.key(0), 10)
    assert examples.shape == (10, 3) and len(np.unique(examples)) == 30 and max(sizes) == 4
    assert chunked(10.0, jax.random.key(0), 2).shape == (2, 3) and float(examples.mean()) > 5
