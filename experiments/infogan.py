"""InfoGAN: a generator whose code can be read from its images, so that classes and shapes are found without labels.

Paper: Chen et al., "InfoGAN: interpretable representation learning by information maximizing generative adversarial
nets", NIPS 2016 (figures 1 and 2; 5 % error of the categorical code on MNIST). Bayesian: Saatci & Wilson, "Bayesian
GAN", NIPS 2017.

    python -m experiments.infogan                          quick: digits, under a minute
    python -m experiments.infogan --preset mnist           smaller networks, sized for one core (mnist_sghmc)
    python -m experiments.infogan --preset paper           the paper's networks and steps, for a GPU (paper_sghmc)
    python -m experiments.infogan --preset paper_invariant categories that small movements do not change (also
                                                           quick_invariant, and mnist_invariant with larger batches)
    python -m experiments.infogan --dataset mnist.npz --judge none

G maps noise and a code to an image. D and Q are two heads of one network, which maps an image to a logit and to the
distribution of its code. The code is one of --num-codes categories and --num-continuous numbers. D and Q minimise the
discriminator's loss minus lambda I_Q at the generator's images; G minimises its own loss minus lambda I_Q. I_Q is a
lower bound, in nats, of the mutual information between code and image. For the categorical code it is at most
ln(--num-codes). Categorical and continuous codes have separate weights lambda.

The code classifies images without labels. The code of an image is the most probable one under Q, and a code stands for
the most frequent class among the training images with this code. Games that differ only in their seed may split one
class into two codes and merge two others. The table therefore has --num-seeds games, and the test error of the game
with the smallest error on training images. With --kernel sghmc or sgld, Q is averaged over all draws, and all
generators make images.

A high I_Q alone does not show that categories are classes: continuous codes can carry the classes, and then a row of
figures/traversal-*.png turns from one digit into another. Apart from this, 4 and 9 often share a category. With
--invariance-weight, D and Q also maximise the mutual information between the categories of a training image and of a
slightly moved copy, again without labels (Ji et al., "Invariant information clustering", ICCV 2019; first used with
InfoGAN by Ojha et al., "Elastic-InfoGAN", NeurIPS 2020).

On MNIST the discriminator has batch normalisation, with separate batches of real and generated images, as in the
authors' program; with group normalisation games collapse there. On the small images of digits the opposite holds.

Expected: the paper's 5 % requires codes with one class each. The error is near 27 % with quick (digits, 10 classes), 13
to 19 % with paper, 1.3 to 2.7 % with paper_invariant, and 2.7 % with mnist_invariant. A game of paper takes two minutes
of an H200; mnist_invariant takes half an hour or more of a core.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation, models, plots
from bayesjax.models import dcgan
from bayesjax.objectives import adversarial, infogan
from bayesjax.types import Array, CodeHead, Density, Given, Params, PRNGKey
from experiments.harness import Column, Count, Natural, NonNegative, Range, Run, Table, cli, row
from experiments.shared import conditional, games, images

VALUES = np.linspace(-2, 2, 9, dtype=np.float32)  # values of a continuous code in figures; its prior is on (-1, 1)
VARIANCE = 1 / 3  # variance of a continuous code, uniform on (-1, 1)


@dataclass(frozen=True)
class Config(conditional.ConditionalConfig):
    """Flags of experiments.infogan."""

    num_seeds: Count = 1
    """Number of games, one after another, which differ in their seed."""
    num_codes: Annotated[int, Range(least=2)] = 10
    """Number of values of the categorical code, at least 2."""
    num_continuous: Natural = 2
    """Number of continuous codes, uniform on (-1, 1)."""
    information_weight: NonNegative = 1.0
    """Weight lambda of the mutual information between an image and its categorical code, at least 0."""
    continuous_weight: NonNegative = 1.0
    """Weight lambda of the mutual information between an image and its continuous codes, at least 0."""
    invariance_weight: NonNegative = 0.0
    """Weight of the mutual information between the categories of a training image and of a slightly rotated, scaled and
    shifted copy (Ji et al. 2019). 0 omits this term, which the InfoGAN paper does not have."""
    fixed_scale: bool = True
    """Whether Q's Gaussian of the continuous codes has standard deviation 1, as in the authors' program."""
    code_hidden: tuple[Count, ...] = (64,)
    """Numbers of units of the hidden layers that Q does not share with D."""


QUICK = Config(
    latent_dim=16, batch_size=64, num_steps=1000, num_warmup=500, discriminator_learning_rate=5e-4,
    generator_learning_rate=1e-3, average=0.99, num_judged=1000,
)  # fmt: skip
MNIST = replace(
    QUICK, dataset="mnist", num_seeds=2, latent_dim=62, num_steps=5000, num_warmup=2500, average=0.999,
    discriminator_learning_rate=2e-4, continuous_weight=0.1, generator_features=(64, 32),
    discriminator_features=(32, 64), discriminator_norm="batch", num_judged=10_000,
)  # fmt: skip
PAPER = replace(
    MNIST, num_seeds=3, batch_size=128, continuous_weight=1.0, generator_features=(128, 64), generator_hidden=(1024,),
    discriminator_features=(64, 128), discriminator_hidden=(1024,), code_hidden=(128,),
)  # fmt: skip
INVARIANT = {"invariance_weight": 1.0, "continuous_weight": 1.0}
PRESETS = {
    "quick": QUICK,
    "quick_sghmc": replace(QUICK, kernel="sghmc"),
    "quick_invariant": replace(QUICK, **INVARIANT),
    "mnist": MNIST,
    "mnist_sghmc": replace(MNIST, kernel="sghmc"),
    # With a batch of 64, the mutual information of images and moved copies is overestimated by a third of a nat.
    "mnist_invariant": replace(MNIST, **INVARIANT, batch_size=128, num_steps=4000, num_warmup=2000, num_seeds=1),
    "paper": PAPER,
    "paper_sghmc": replace(PAPER, kernel="sghmc"),
    "paper_invariant": replace(PAPER, **INVARIANT),
}


def note(config: dict) -> str:
    """The table's note on how the games were trained."""
    steps, ceiling = games.describe_steps(config), math.log(config["num_codes"])
    return (
        f"The networks were trained for {steps} with batches of {config['batch_size']}. The information is at most "
        f"{ceiling:.3f} nats."
    )


TABLES = [
    Table(
        {"method": "images", "game": "seed"},
        [
            Column("error %"),
            Column("train error %", "error on training images %"),
            Column("classes", digits=0),
            Column("information", "I(c; x) in nats", 3),
            Column("explained", "R² of continuous codes", 3),
            Column("images of the code's class %", digits=1),
            *conditional.JUDGE_COLUMNS,
        ],
        where={"games": None},
        note=note,
    ),
    Table(
        {"games": "games"},
        [Column("error %"), Column("error %", "published", field="paper")],
        where={"games": ("mean", "best on training images")},
    ),
]
HEADLINE = "infogan-paper-mnist", {"measure": "error %", "games": "mean"}

# ---- networks and losses


class Networks(NamedTuple):
    """The generator and the discriminator as pure functions of their weights."""

    init: Callable[[PRNGKey], dict[str, Params]]  # {player: params}
    generate: Callable[
        [Params, Array, infogan.Code], Array
    ]  # params, noise [n, latent_dim], n codes -> images [n, ...]
    discriminate: Callable[[Params, Array], tuple[Array, CodeHead]]  # params, images [n, ...] -> logits [n], n codes


def networks(config: Config, shape: tuple[int, ...]) -> Networks:
    """The networks for images of the given shape, with pixels in (-1, 1)."""
    generator: Any = dcgan.Generator(
        shape, config.generator_features, config.norm, config.kernel_size, hidden=config.generator_hidden
    )
    trunk = dcgan.Discriminator(
        shape, 1, config.discriminator_features, config.discriminator_norm, config.kernel_size,
        hidden=config.discriminator_hidden,
    )  # fmt: skip
    discriminator: Any = models.infogan.CodeDiscriminator(
        trunk, (config.num_codes,), config.num_continuous, config.code_hidden, config.discriminator_norm,
        config.fixed_scale,
    )  # fmt: skip

    def generate(params: Params, noise: Array, code: infogan.Code) -> Array:
        inputs = infogan.to_generator_input(code, (config.num_codes,))
        return generator.apply({"params": params}, jnp.concatenate([noise, inputs], axis=-1))

    def discriminate(params: Params, x: Array) -> tuple[Array, CodeHead]:
        return discriminator.apply({"params": params}, x)

    num_inputs = config.latent_dim + config.num_codes + config.num_continuous
    return Networks(games.initialise(generator, discriminator, num_inputs, shape), generate, discriminate)


def draw_code(config: Config, rng_key: PRNGKey, num: int) -> tuple[Array, infogan.Code]:
    """Draws noise and codes of `num` images from their priors; one call compiles faster than `infogan.sample_code`."""
    uniform = models.latent_noise(rng_key, num, config.latent_dim + 1 + config.num_continuous, "uniform")
    noise, share, numbers = jnp.split(uniform, [config.latent_dim, config.latent_dim + 1], axis=1)
    categorical = jnp.floor(config.num_codes * (share + 1) / 2).astype(int)
    return noise, infogan.Code(jnp.minimum(categorical, config.num_codes - 1), numbers)


def losses(config: Config, net: Networks) -> dict[str, Density]:
    """The losses of generator and discriminator, means per example, with I_Q in nats and R^2 of the continuous codes.

    The invariance term is estimated from a whole batch and is not a mean over examples. In a sampler's log density it
    therefore has the bias of an estimate from one batch.
    """
    game = adversarial.NON_SATURATING

    def weighted_information(head: CodeHead, code: infogan.Code) -> tuple[Array, dict[str, Array]]:
        categorical, continuous = jax.vmap(infogan.log_prob)(head, code)
        nats = categorical.mean() + infogan.entropy((config.num_codes,), 0)
        continuous_nats = continuous.mean() + infogan.entropy((), config.num_continuous)
        explained = 1 - jnp.mean((head.mean - code.continuous) ** 2) / VARIANCE if config.num_continuous else 0.0
        weighted = config.information_weight * nats + config.continuous_weight * continuous_nats
        return weighted, {"information": nats, "explained": jnp.asarray(explained)}

    def discriminator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        noise, code = draw_code(config, rng_key, len(given.data))
        fake = net.generate(given.others["generator"], noise, code)
        (real_logits, real_head), (fake_logits, head) = (net.discriminate(params, x) for x in (given.data, fake))
        information, aux = weighted_information(head, code)
        value = game.discriminator_loss(real_logits, fake_logits).mean() - information
        if config.invariance_weight:
            # With fold_in rather than split, the other random numbers are the same with and without this term.
            keys = jax.random.split(jax.random.fold_in(rng_key, 1), len(given.data))
            _, moved_head = net.discriminate(params, jax.vmap(data.randomly_transform_image)(keys, given.data))
            aux["invariant"] = infogan.invariant_information(real_head.logits[0], moved_head.logits[0])
            value -= config.invariance_weight * aux["invariant"]
        return value, {"real": real_logits.mean(), "fake": fake_logits.mean(), **aux}

    def generator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        noise, code = draw_code(config, rng_key, config.batch_size)
        logits, head = net.discriminate(given.others["discriminator"], net.generate(params, noise, code))
        information, aux = weighted_information(head, code)
        return game.generator_loss(logits).mean() - information, aux

    return {"discriminator": discriminator, "generator": generator}


# ---- the code as a classifier, and its figures


def assign(codes: np.ndarray, labels: np.ndarray, num_codes: int, num_classes: int) -> np.ndarray:
    """The class that most images with a code have, `[num_codes]`; -1 for a code without images."""
    counts = np.zeros((num_codes, num_classes), int)
    np.add.at(counts, (codes, labels), 1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1)


def traverse(config: Config, net: Networks, params: Params, rng_key: PRNGKey) -> np.ndarray:
    """Images from one noise vector, `[num_codes, num_continuous, num_values, ...]`: each continuous code takes
    all `VALUES` while the others are 0.

    They are generated in one batch with images of random codes, because batch normalisation removes common features.
    """
    numbers = np.zeros((config.num_codes, config.num_continuous, len(VALUES), config.num_continuous), np.float32)
    for i in range(config.num_continuous):
        numbers[:, i, :, i] = VALUES
    shape = numbers.shape[:-1]
    num = math.prod(shape)
    categorical = np.broadcast_to(np.arange(config.num_codes)[:, None, None], shape).reshape(num, 1)
    code = infogan.Code(jnp.asarray(categorical), jnp.asarray(numbers.reshape(num, config.num_continuous)))
    prior_key, noise_key = jax.random.split(rng_key)
    noise = jnp.broadcast_to(models.latent_noise(noise_key, 1, config.latent_dim, "uniform"), (num, config.latent_dim))
    inputs = jax.tree.map(
        lambda own, other: jnp.concatenate([own, other]), (noise, code), draw_code(config, prior_key, 10 * num)
    )
    pictures = np.asarray(jax.jit(net.generate)(params, *inputs))[:num]
    return pictures.reshape(*shape, *pictures.shape[1:])


# ---- the games


def generate_codes(config: Config, net: Networks, params: Params, rng_key: PRNGKey, codes: Array) -> Array:
    """Images of the given categorical codes `[num]`, from fresh noise and continuous codes."""
    noise, code = draw_code(config, rng_key, len(codes))
    return net.generate(params, noise, infogan.Code(codes[:, None], code.continuous))


def play(run: Run, subject: images.Images, seed: int) -> dict[str, Any]:
    """Trains the networks of one seed.

    Returns:
      `measures`, `{measure: entries of a row}`; the class of each code, `classes`; I_Q in nats (`information`) and
      images of each code (`training`) at `steps`; the images of `traverse`, `traversals`; and the weights of the
      `generators`, `[num_draws, ...]`.
    """
    config, (train, test) = run.config, (subject.train, subject.test)
    net = networks(config, train.inputs.shape[1:])
    data_key, init_key, evaluation_key, run_key, sample_key = jax.random.split(jax.random.key(seed), 5)

    def one_of_each_code(params: Params) -> Array:
        noise, code = draw_code(config, evaluation_key, config.num_codes)
        return net.generate(params, noise, code._replace(categorical=jnp.arange(config.num_codes)[:, None]))

    played = games.play_pair(
        run, f"seed{seed}", games.pair_stages(config, losses(config, net), len(train)), jax.jit(net.init)(init_key),
        games.minibatches(config, data_key, train.inputs), rng_key=run_key, evaluate=one_of_each_code,
    )  # fmt: skip
    read = conditional.classifier(lambda params, x: net.discriminate(params, x)[1].logits[0], played.discriminators)
    train_codes, test_codes = read(train.inputs), read(test.inputs)
    classes = assign(train_codes, train.labels, config.num_codes, subject.num_classes)
    aux = played.aux["generator"]
    measures: dict[str, dict] = {
        "error %": _percent(evaluation.mean_estimate((classes[test_codes] != test.labels).astype(float))),
        "train error %": {"value": 100 * float(np.mean(classes[train_codes] != train.labels))},
        "classes": {"value": len(set(classes.tolist()) - {-1})},
        "information": {"value": float(aux["information"][-1]), "ceiling": math.log(config.num_codes)},
        "explained": {"value": float(aux["explained"][-1])},
        "ms per step": {"value": played.milliseconds},
    }
    if subject.classifier is not None:
        samples, codes = conditional.generate_balanced(
            functools.partial(generate_codes, config, net),
            played.generators,
            sample_key,
            config.num_judged,
            config.num_codes,
        )
        reading, report = subject.report(samples)
        agrees = reading.probabilities.argmax(axis=-1) == classes[codes]
        measures |= report | {"images of the code's class %": {"value": 100 * float(agrees.mean())}}
    last = jax.tree.map(lambda leaf: leaf[-1], played.generators)
    return {
        "measures": measures, "classes": classes, "steps": played.steps, "generators": played.generators,
        "information": aux["information"], "traversals": traverse(config, net, last, evaluation_key),
        "training": played.evaluations,
    }  # fmt: skip


def sample_run(config: Config, parts: dict[str, dict], rng_key: PRNGKey, num: int) -> dict[str, np.ndarray]:
    """Samples of all categorical codes in turn from each seed of a finished run, for `experiments.sample`."""
    made = {}
    for name in (f"seed{seed}" for seed in range(config.seed, config.seed + config.num_seeds)):
        generate = functools.partial(generate_codes, config, networks(config, parts[name]["training"].shape[-3:]))
        images, _ = conditional.generate_balanced(generate, parts[name]["generators"], rng_key, num, config.num_codes)
        made[name] = (images + 1) / 2
    return made


def _percent(estimate: evaluation.Estimate) -> dict[str, float]:
    return {name: 100 * value for name, value in estimate._asdict().items()}


def summarise(config: Config, results: dict[int, dict]) -> list[dict]:
    """The rows of each game, the mean error over games, and the error of the game that is best on training images. With
    one game, the standard error of the mean is that over test images."""
    rows = [
        row(name, **entry, method="infogan", game=seed)
        for seed, result in results.items() for name, entry in result["measures"].items()
    ]  # fmt: skip
    errors = [result["measures"]["error %"]["value"] for result in results.values()]
    chosen = min(results, key=lambda seed: results[seed]["measures"]["train error %"]["value"])
    selected = results[chosen]["measures"]["error %"]
    mean = {**evaluation.mean_estimate(errors)._asdict(), "values": errors} if len(errors) > 1 else selected
    is_paper = config.preset.startswith("paper") and config.dataset == "mnist"
    published = {"paper": 5.0, "source": "Chen et al. (2016), section 7.2"} if is_paper else {}
    rows.append(row("error %", **mean, **published, method="infogan", games="mean"))
    if len(errors) > 1:
        rows.append(row("error %", **selected, method="infogan", games="best on training images", seed=chosen))
    return rows


def draw_figures(run: Run, results: dict[int, dict]) -> None:
    """Draws traversals of each game, and an image of each code and the mutual information during training."""
    for seed, result in results.items():
        pictures, training = ((result[name] + 1) / 2 for name in ("traversals", "training"))
        names = [f"code {code}: {'-' if label < 0 else label}" for code, label in enumerate(result["classes"])]
        gap = np.ones((len(pictures), 1, *pictures.shape[3:]))
        columns = [part for i in range(pictures.shape[1]) for part in (gap, pictures[:, i])][1:]
        title = f"each continuous code from {VALUES[0]:g} to {VALUES[-1]:g}; rows: categorical codes and their class"
        rows = np.concatenate(columns or [training[-1][:, None]], axis=1)
        plots.image_grid(run.figure(f"traversal-{seed}.png"), rows, row_names=names, title=title)
        steps = [f"step {step}" for step in result["steps"]]
        path = run.figure(f"training-{seed}.png")
        plots.image_grid(path, training, row_names=steps, title="an image of each code")
    curves = {f"seed {seed}": (result["steps"], result["information"]) for seed, result in results.items()}
    steps, ceiling = next(iter(results.values()))["steps"], math.log(run.config.num_codes)
    curves[f"ln {run.config.num_codes}"] = (steps[[0, -1]], np.array([ceiling, ceiling]))
    plots.curves(run.figure("information.png"), curves, xlabel="steps", ylabel="information in the code (nats)")


def main(config: Config) -> None:
    """Plays every game; writes the tables, the figures and the results."""
    with Run("infogan", config, one_device=True) as run:
        subject = images.load(config)
        seeds = range(config.seed, config.seed + config.num_seeds)
        results = {seed: run.part(f"seed{seed}", functools.partial(play, run, subject, seed)) for seed in seeds}
        draw_figures(run, results)
        rows = [row(name, **entry, method="training images") for name, entry in subject.training_report.items()]
        run.finish(rows + summarise(config, results), TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
