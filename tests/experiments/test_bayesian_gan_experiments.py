"""The Bayesian GAN's experiments beyond the contract: what is summarised, every method, and step sizes that diverge."""

import json
import math

import jax
import numpy as np
import pytest

from bayesjax import posteriors
from bayesjax.types import Given
from experiments import bayesian_gan, bayesian_gan_semisupervised
from experiments.shared import few_labels
from tests.experiments.test_devices import assert_same, values
from tests.experiments.test_devices import call as call_tiny
from tests.experiments.test_every_experiment import call

pytestmark = pytest.mark.usefixtures("compile_once")


def by_measure(rows):
    return {row["measure"]: row for row in rows}


def test_seeds_are_chains():
    """Means over seeds have standard errors; draws of several seeds that stay apart have a large R-hat."""
    random = np.random.default_rng(0)

    def outcome(level):
        draws = level + 0.01 * random.normal(size=20)
        return {
            "JS at the end (nats)": draws[-1], "js of draws": draws, "logits of draws": random.normal(size=(20, 3)),
            "ms per step": 1.0, "fraction outside chunks": 0.1,
        }  # fmt: skip

    outcomes = [outcome(level) for level in (0.1, 0.2, 0.3)]
    rows = by_measure(bayesian_gan.method_rows("bayes", 0.5, outcomes))
    assert all((row["method"], row["T"]) == ("bayes", 0.5) for row in rows.values())
    last = [each["JS at the end (nats)"] for each in outcomes]
    assert rows["JS at the end (nats)"]["value"] == pytest.approx(np.mean(last))
    assert rows["JS at the end (nats)"]["stderr"] == pytest.approx(np.std(last, ddof=1) / math.sqrt(3))
    means = [each["js of draws"].mean() for each in outcomes]
    assert rows["JS of the draws (nats)"]["value"] == pytest.approx(np.mean(means))
    assert rows["R-hat of JS"]["value"] > 5 and rows["ESS of JS"]["value"] < 10
    assert rows["worst R-hat of D(x)"]["value"] < 1.3
    optimised = by_measure(bayesian_gan.method_rows("ml", None, outcomes))
    assert "T" not in optimised["JS at the end (nats)"] and "R-hat of JS" not in optimised


def test_densities_count_data_and_labels():
    """N real examples, N fakes of each of J generators, and the labels: the discriminator's density by hand."""
    config = bayesian_gan.Config(hidden=3, latent_dim=2, batch_size=5)
    net = bayesian_gan.networks(config, 4)
    position = jax.jit(net.init, static_argnums=(1, 2))(jax.random.key(0), 2, 3)
    x = jax.random.normal(jax.random.key(1), (5, 4))
    params = jax.tree.map(lambda leaf: leaf[0], position["discriminator"])
    given = Given(posteriors.GANBatch(x), {"generator": position["generator"]})
    density = bayesian_gan.conditionals(net, posteriors.gaussian(2.0), 100, batch_size=5)["discriminator"]
    value, aux = jax.jit(density)(params, jax.random.key(2), given)
    squares = sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(params))
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    prior = -0.5 * squares / 4 - size * math.log(2 * math.sqrt(2 * math.pi))
    expected = prior + 2 * 100 * float(aux["log_prob_real"] + aux["log_prob_fake"])
    assert float(value) == pytest.approx(expected, rel=1e-5)


def assert_steps_keep_the_structure(stages, position, batch):
    """A step of every stage returns positions of the same shapes and types; it is traced, not computed."""
    assert stages
    for stage in stages:
        state = jax.eval_shape(stage.kernel.init, position, jax.random.key(0))
        after, _ = jax.eval_shape(stage.kernel.step, jax.random.key(0), state, batch)
        assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(after.position)] == [
            (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(position)
        ]
        assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.parametrize("method", ["ml", "ml_coupled", "authors_code"])
def test_other_methods_take_a_step(method):
    """The methods of experiments.bayesian_gan that the cheapest flags leave out."""
    config = bayesian_gan.Config(hidden=3, latent_dim=2, batch_size=5, num_generators=2)
    net = bayesian_gan.networks(config, 4)
    num = (1, 1) if method == "ml" else config.num_networks
    position = jax.eval_shape(lambda key: net.init(key, *num), jax.random.key(0))
    stages = bayesian_gan.method_stages(config, net, 100, method, temperature=1.0)
    assert_steps_keep_the_structure(stages, position, posteriors.GANBatch(np.zeros((5, 4), np.float32)))


DCGAN = {"generator_features": (2,), "discriminator_features": (2,), "kernel_size": 1}
MLP = {"architecture": "mlp_noise", "generator_loss": "feature_matching"}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("w_dcgan", DCGAN),
        ("authors_code", DCGAN),
        ("dcgan_10", MLP),
        ("w_dcgan", MLP),
        ("bayes", MLP),
        ("bayes_10", MLP),
    ],
)
def test_other_methods_with_labels_take_a_step(method, options):
    """Methods and networks of experiments.bayesian_gan_semisupervised that the cheapest flags leave out."""
    config = bayesian_gan_semisupervised.Config(
        batch_size=5, num_generators=2, num_discriminators=2, num_warmup=4, num_steps=100, **options
    )
    splits = few_labels.load(config)
    net = few_labels.networks(config, splits, config.latent_dim)
    num = bayesian_gan_semisupervised.num_networks(config, method)

    def init(key):
        games = bayesian_gan_semisupervised.NUM_GAMES
        if bayesian_gan_semisupervised.is_repeated(method):
            return jax.vmap(lambda key: net.init(key, *num))(jax.random.split(key, games))
        return net.init(key, *num)

    stages = bayesian_gan_semisupervised.method_stages(config, net, len(splits.train), 20, method)
    images, labels = 2 * splits.train.inputs[:5] - 1, splits.train.labels[:5]
    position = jax.eval_shape(init, jax.random.key(0))
    assert_steps_keep_the_structure(stages, position, posteriors.GANBatch(images, images, labels))


@pytest.mark.slow
def test_every_method_on_two_devices(tmp_path):
    """Methods that the cheapest flags leave out, on one device and on two."""
    flags = ("--methods", "dcgan", "dcgan_10", "ml_coupled", "bayes", "bayes_10")
    expected = call_tiny("bayesian_gan_semisupervised", tmp_path / "one", *flags)
    assert_same(call_tiny("bayesian_gan_semisupervised", tmp_path / "two", *flags, "--devices", "2"), expected)
    assert values(tmp_path / "one").keys() == values(tmp_path / "two").keys()


def test_differences_are_paired():
    """The standard errors are those of differences; only errors are compared with the Bayesian GAN."""
    scores, more = np.array([10.0, 20.0, 30.0]), np.array([1.0, 1.5, 2.0])
    results = {
        ("dcgan_10", 20): {"errors": scores, "nll": scores, "ece": scores},
        ("bayes", 20): {"errors": scores + more, "nll": scores - more, "ece": scores + 2 * more},
        ("bayes", 50): {"errors": scores, "nll": scores, "ece": scores},
    }
    ten, one = {}, []
    for row in bayesian_gan_semisupervised.differences(results):
        measure, reference = row["measure"].split(" minus that of ")
        assert row["labels"] == 20 and row["method"] != reference
        if reference == "dcgan_10":
            ten[measure] = row
        else:
            one.append((measure, row["value"]))
    assert {measure: row["value"] for measure, row in ten.items()} == pytest.approx(
        {"error %": 1.5, "negative log-likelihood": -1.5, "ECE %": 3.0}
    )
    assert ten["error %"]["stderr"] == pytest.approx(0.5 / math.sqrt(3))
    assert one == [("error %", pytest.approx(-1.5))]


def test_batch_norm_needs_whole_batches():
    """Divided, each part of a batch would be normalised by itself."""
    with pytest.raises(ValueError, match=r"--norm batch, --architecture mlp_noise .* need whole batches"):
        bayesian_gan_semisupervised.Config(norm="batch", devices=2)
    with pytest.raises(ValueError, match="and --generator-loss feature_matching need whole batches"):
        bayesian_gan_semisupervised.Config(architecture="mlp_noise", devices=2)
    bayesian_gan_semisupervised.Config(norm="batch", devices=2, data_devices=1)


def test_released_losses_have_no_noise():
    """The released program has no networks with noise."""
    with pytest.raises(ValueError, match="the method authors_code has no noise in its networks; it needs --arch"):
        bayesian_gan_semisupervised.Config(architecture="mlp_noise", methods=("authors_code",))


@pytest.mark.slow
def test_a_step_size_that_is_too_large_diverges(tmp_path, capsys):
    """Every setting is measured from one warm-up; a step size a million times too large diverges."""
    flags = ("--hidden", "8", "--num-generators", "2", "--num-warmup", "10", "--num-steps", "30", "--temperatures", "1")
    flags = (*flags, "--frictions", "0.5", "--learning-rates", "1e-4", "1e3", "--out", tmp_path)
    call("bayesian_gan_step_sizes", *flags)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert len(rows) == 4
    small, large = ([row["value"] for row in rows if row["learning_rate"] == rate] for rate in (1e-4, 1e3))
    assert all(0.5 < value < 2 for value in small[1:]) and large == [None, None]
    assert "diverges" in capsys.readouterr().out
