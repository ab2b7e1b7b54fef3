"""CycleGAN: two translations that undo one another, learnt from two sets of images without pairs.

Paper: Zhu, Park, Isola & Efros, "Unpaired image-to-image translation using cycle-consistent adversarial networks", ICCV
2017. The networks, a ResNet for each translation and a discriminator of patches for each domain, are those of
`bayesjax/models/cyclegan.py`; the objective is explained in `bayesjax/objectives/cycle.py`.

    python -m experiments.cyclegan                                  quick: digits to inverted digits, under a minute
    python -m experiments.cyclegan --preset mnist                   MNIST at 32 pixels (mnist_sghmc: Bayesian)
    python -m experiments.cyclegan --preset mnist --task edges      digits to their edges; coloured: to coloured digits
    python -m experiments.cyclegan --preset horse2zebra             any cycle_gan/NAME of TensorFlow Datasets; a GPU
    python -m experiments.cyclegan --dataset mine.npz               arrays trainA, trainB, testA, testB

For labelled grey images, the domains X and Y have disjoint halves of the training images, and each test image is known
in both domains. Images of Y are inverted, coloured or reduced to their edges by `data/translations.py`. The table has
the fraction of translations that a judge (`shared/judge.py`), a classifier trained on data, assigns to the correct
class. It also has the L1 distance to the true image (a mean over pixels of values in [0, 1]), and the L1 distance
between an image and its translation to the other domain and back. For comparison, the table has the fraction for the
true images and the distance of the untranslated images.

Both translators are updated together, and both discriminators together. With --kernel sghmc or sgld, an image is
translated by the mean over all kept draws. Under Adam the discriminators are trained on a pool of earlier fakes.
Sampled discriminators have no pool, because their conditional posterior depends on the current translators. Minus the
distance after both translations is then a Laplace log likelihood, averaged over the pixels of an image.

Translators of digits are small: one residual block at full resolution, with a receptive field of 5 pixels. The
objective does not fix the position of a stroke. Translators that halved the image and doubled it again had a distance
of only 0.02 per pixel after both translations of held-out images, and yet they lost half of the classes. One
translation moved strokes, and the other moved them back. (Their steps and learning rates also differed.)

The paper's lambda of 10 is --cycle-weight 5 here, and its identity weight of 0.5 is --identity-weight 2.5, because the
least-squares losses of `objectives/adversarial.py` have a factor 1/2. The identity loss is off by default, because
translations are meant to change the images.

Expected: at least 95 % of digits keep their class in both directions. On MNIST (mnist, nine minutes of two cores) the
distance after both translations falls from 0.48 to 0.03.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation, plots
from bayesjax.data.translations import TRANSLATIONS
from bayesjax.models import cyclegan as models
from bayesjax.objectives import adversarial, cycle
from bayesjax.types import Array, Carried, Density, Given, Params, PRNGKey
from experiments.harness import Column, Count, Natural, NonEmpty, NonNegative, Range, Run, Table, cli, require, row
from experiments.shared import games
from experiments.shared import judge as judges

CHUNK_SIZE = 100  # images in one pass through the translators
NUM_EVALUATED = 32  # test images of each domain in an evaluation during training
NUM_SHOWN = 10
GAME = adversarial.least_squares()
DIRECTIONS = {"X to Y": ("forward", "backward"), "Y to X": ("backward", "forward")}


@dataclass(frozen=True)
class Config(games.PairConfig):
    """Flags of experiments.cyclegan."""

    dataset: str = "digits"
    """Labelled grey images (`digits`, a TensorFlow Datasets name or an .npz file), or images of two domains
    (`cycle_gan/NAME`, or an .npz file with trainA, trainB, testA and testB)."""
    task: Literal["inverted", "coloured", "edges"] = "inverted"
    """Domain Y into which labelled grey images are translated; other data sets have their own domains."""
    image_size: Natural = 0
    """Height and width in pixels; labelled grey images are padded to it, and others resized. 0 keeps their size."""
    num_validation: Natural = 0
    """Number of held-out training images that replace the test set, for choosing settings; 0 uses the test set."""
    num_judged: Annotated[int, Range(least=2)] = 1000
    """Largest number of test images of each domain that are translated and evaluated, at least 2."""
    features: Count = 8
    """Number of channels of the translators' first layer; each halving of the image doubles it."""
    num_halvings: Natural = 0
    """Number of layers of a translator that halve height and width of the image; 2 in the paper."""
    num_blocks: Natural = 1
    """Number of residual blocks of each translator."""
    kernel_size: Count = 1
    """Width in pixels of the kernels of the translators' first and last convolution, an odd number; 7 in the paper."""
    discriminator_features: Annotated[tuple[Count, ...], NonEmpty] = (16, 32)
    """Number of channels of each layer of the discriminators; every layer except the last halves the image."""
    norm: Literal["instance", "group", "batch", "none"] = "instance"
    """Normalisation of the layers of all networks."""
    cycle_weight: NonNegative = 5.0
    """Weight of the distance after both translations, the cycle-consistency loss; half of the paper's lambda."""
    identity_weight: NonNegative = 0.0
    """Weight of the identity loss, the change that a translator makes to images of its target domain; 0 omits it."""
    pool_size: Natural = 50
    """Number of earlier generated images of each domain in the discriminators' pool; 0 trains them on new images only.
    The flag has no effect with --kernel sghmc or sgld."""

    def __post_init__(self) -> None:
        """Checks the width of the convolutions."""
        super().__post_init__()
        require(self.kernel_size % 2 == 1, f"--kernel-size must be odd; got {self.kernel_size}")


QUICK = Config(
    num_steps=400, num_warmup=200, batch_size=8, average=0.99, decay_from=0.5, generator_learning_rate=2e-3,
    discriminator_learning_rate=5e-4, num_judged=360,
)  # fmt: skip
MNIST = replace(QUICK, dataset="mnist", image_size=32, num_steps=600, num_warmup=300, num_judged=1000)
PRESETS = {
    "quick": QUICK,
    "quick_sghmc": replace(QUICK, kernel="sghmc"),
    "mnist": MNIST,
    "mnist_sghmc": replace(MNIST, kernel="sghmc"),
    "horse2zebra": Config(
        dataset="cycle_gan/horse2zebra", image_size=128, features=64, num_halvings=2, num_blocks=6, kernel_size=7,
        discriminator_features=(64, 128, 256, 512), identity_weight=2.5, batch_size=1, num_steps=200_000,
        num_warmup=100_000, decay_from=0.5, num_evaluations=100, num_judged=100,
    ),
}  # fmt: skip
TABLES = [
    Table(
        {"task": "task", "kernel": "kernel", "direction": "direction"},
        [
            Column("correct class %", digits=1), Column("correct class of true images %", digits=1),
            Column("L1 to the true image", digits=4), Column("L1 of the untranslated image", digits=4),
            Column("L1 after both translations", digits=4), Column("correct class after both translations %", digits=1),
            Column("sd over draws", digits=4), Column("correlation of sd and error"),
        ],
        where={"moment": None},
        note=lambda config: (
            f"The networks were trained for {games.describe_steps(config)} with batches of {config['batch_size']}."
        ),
    ),
    Table(
        {"task": "task", "kernel": "kernel", "moment": "moment"},
        [
            Column("L1 after both translations", digits=3), Column("L1 to the true image", digits=3),
            Column("ms per step", digits=0),
        ],
        where={"direction": None},
        note=f"Values during training are means over both directions and the first {NUM_EVALUATED} test images.",
    ),
]  # fmt: skip
HEADLINE = "cyclegan-mnist-mnist", {"measure": "correct class %", "direction": "X to Y"}

# ---- the two domains


class Truth(NamedTuple):
    """Test images `[num, ...]` in both domains, in [0, 1], their labels, and classifiers of images of X and of Y."""

    x: np.ndarray
    y: np.ndarray
    labels: np.ndarray
    read_x: Callable[[np.ndarray], np.ndarray]
    read_y: Callable[[np.ndarray], np.ndarray]


class Domains(NamedTuple):
    """Images of both domains in (-1, 1), for training and testing; `truth` is None if translations are not known."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    truth: Truth | None


def load_domains(run: Run) -> Domains:
    """Loads both domains, and the judges if the true translation is known.

    Raises:
      ValueError: if labelled images are not grey or do not fit --image-size, or --num-validation is not possible.
    """
    config, task = run.config, TRANSLATIONS[run.config.task]
    data_dir, held_out = config.data_dir or None, config.num_validation
    if config.dataset.startswith("cycle_gan/") or data.is_unpaired_file(config.dataset):
        require(not held_out, "--num-validation is for data sets whose true translation is known")
        images = data.load_unpaired(config.dataset, config.image_size, data_dir=data_dir)
        return Domains(*(2 * each - 1 for each in images), truth=None)
    dataset = data.load(config.dataset, data_dir=data_dir)
    judges.require_labelled_images(dataset)
    height, width, channels = dataset.input_shape
    require(channels == 1, f"--dataset {config.dataset} must have grey images; got {channels} channels")
    size = config.image_size or max(height, width)
    require(
        size >= max(height, width) and (size - height) % 2 == (size - width) % 2 == 0,
        f"--image-size must be 0, or at least {max(height, width)} and leave two equal edges of {height} x {width}; "
        f"got {config.image_size}",
    )
    most = len(dataset.train) // 2
    require(held_out <= most, f"--num-validation must be at most {most}, half of the training images; got {held_out}")
    dataset = dataset.hold_out(held_out)
    train, test = dataset.train, dataset.test
    rows, columns = (size - height) // 2, (size - width) // 2

    def in_both(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = np.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
        return np.repeat(padded, task.num_channels, axis=-1), task.translate(padded)

    judge = judges.load(config.dataset, data_dir=data_dir)

    def read_grey(images: np.ndarray) -> np.ndarray:
        return judge.classes(np.clip(images[:, rows : size - rows, columns : size - columns], 0, 1))

    if task.invert is None:  # a classifier of images in Y is trained
        images, recipe = in_both(train.inputs)[1], judges.Recipe()
        split, stage = data.Split(images, train.labels), functools.partial(run.stage, "judge")
        packed = judges.pack(judges.train(split, dataset.num_classes, recipe, stage=stage))
        judge_y = judges.unpack(packed, f"{config.dataset}-{config.task}", images.shape[1:], recipe.network)
    order = np.random.default_rng(config.seed).permutation(len(train))
    first, second = np.array_split(train.inputs[order], 2)
    x_test, y_test = in_both(test.inputs[: config.num_judged])
    truth = Truth(
        x_test, y_test, test.labels[: config.num_judged],
        read_x=lambda images: read_grey(images.mean(axis=-1, keepdims=True)),
        read_y=lambda images: read_grey(task.invert(images)) if task.invert else judge_y.classes(np.clip(images, 0, 1)),
    )  # fmt: skip
    return Domains(2 * in_both(first)[0] - 1, 2 * in_both(second)[1] - 1, 2 * x_test - 1, 2 * y_test - 1, truth)


# ---- networks and losses


class Networks(NamedTuple):
    """The translators and the discriminators as pure functions of their weights.

    Attributes:
      init: `rng_key -> {"generator": {"forward", "backward"}, "discriminator": {"x", "y"}}`.
      translate: `(a translator's params, images [n, ...]) -> images [n, ...]`.
      rate: `(a discriminator's params, images [n, ...]) -> [n, height, width]`, an output for each patch.
    """

    init: Callable[[PRNGKey], dict[str, dict[str, Params]]]
    translate: Callable[[Params, Array], Array]
    rate: Callable[[Params, Array], Array]


def networks(config: Config, shape: tuple[int, ...]) -> Networks:
    """Returns the translators and the discriminators for images `[n, *shape]`."""
    translator: Any = models.ResNetGenerator(
        shape[-1], config.features, config.num_halvings, config.num_blocks, config.norm, config.kernel_size
    )
    discriminator: Any = models.PatchDiscriminator(config.discriminator_features, config.norm)

    def init(rng_key: PRNGKey) -> dict[str, dict[str, Params]]:
        keys, example = jax.random.split(rng_key, 4), jnp.zeros((1, *shape))
        forward, backward = (translator.init(key, example)["params"] for key in keys[:2])
        x, y = (discriminator.init(key, example)["params"] for key in keys[2:])
        return {"generator": {"forward": forward, "backward": backward}, "discriminator": {"x": x, "y": y}}

    return Networks(
        init,
        translate=lambda params, images: translator.apply({"params": params}, images),
        rate=lambda params, images: discriminator.apply({"params": params}, images),
    )


def translate_both(net: Networks, params: Params, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """The fakes in X and in Y, and the L1 distance per pixel after both translations, summed over directions."""
    forward, backward = (functools.partial(net.translate, params[name]) for name in ("forward", "backward"))
    fake_x, fake_y = backward(y), forward(x)
    distance = cycle.mean_absolute_error(backward(fake_y), x) + cycle.mean_absolute_error(forward(fake_x), y)
    return fake_x, fake_y, distance


def losses(config: Config, net: Networks) -> dict[str, Density]:
    """Losses of the translators and of the discriminators, means over a batch."""

    def generator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        x, y = (given.data[name][-1] for name in "xy")  # images of the discriminators' last step
        raters = given.others["discriminator"]
        fake_x, fake_y, distance = translate_both(net, params, x, y)
        ratings = [net.rate(raters["x"], fake_x), net.rate(raters["y"], fake_y)]
        adversarial_loss = 2 * GAME.generator_loss(jnp.stack(ratings)).mean()  # a sum over domains
        value = adversarial_loss + config.cycle_weight * distance
        if config.identity_weight:
            forward, backward = (functools.partial(net.translate, params[name]) for name in ("forward", "backward"))
            value += config.identity_weight * (cycle.identity_loss(forward, y) + cycle.identity_loss(backward, x))
        return value, {"adversarial": adversarial_loss, "cycle": distance}

    def discriminator(params: Params, rng_key: PRNGKey, batch: Given | Carried) -> tuple[Array, dict]:
        given, pools = (batch.batch, dict(batch.carry)) if isinstance(batch, Carried) else (batch, {})
        translators, x, y = given.others["generator"], given.data["x"], given.data["y"]
        fakes = {"x": net.translate(translators["backward"], y), "y": net.translate(translators["forward"], x)}
        for name, key in zip(pools, jax.random.split(rng_key), strict=False):
            pools[name], fakes[name] = cycle.exchange(key, pools[name], fakes[name])
        both = [net.rate(params[name], jnp.concatenate([given.data[name], fakes[name]])) for name in "xy"]
        real, fake = jnp.split(jnp.stack(both), 2, axis=1)
        value = 2 * GAME.discriminator_loss(real, fake).mean()
        return value, {"real": real.mean(), "fake": fake.mean()} | ({"carry": pools} if pools else {})

    return {"discriminator": discriminator, "generator": generator}


# ---- the experiment


def minibatches(config: Config, rng_key: PRNGKey, domains: Domains) -> Callable[[Array], dict[str, Array]]:
    """The function `step -> {"x": images, "y": images}`, with an independent order of the images of each domain."""
    x, y = (
        games.minibatches(config, key, images)
        for key, images in zip(jax.random.split(rng_key), (domains.x, domains.y), strict=True)
    )
    return jax.tree_util.Partial(lambda x, y, step: {"x": x(step), "y": y(step)}, x, y)


def translate(net: Networks, generators: Params, direction: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Translates images "there" and "back" by all draws, and returns means over draws, in [0, 1].

    The entry "sd" is the standard deviation of "there" over draws.
    """
    first, second = DIRECTIONS[direction]

    @jax.jit
    def translate_chunk(x: Array) -> dict[str, Array]:
        def by_draw(params: Params) -> tuple[Array, Array]:
            there = net.translate(params[first], x)
            return there, net.translate(params[second], there)

        there, back = ((each + 1) / 2 for each in jax.lax.map(by_draw, generators))
        return {"there": there.mean(axis=0), "back": back.mean(axis=0), "sd": there.std(axis=0)}

    chunks = [translate_chunk(images[start : start + CHUNK_SIZE]) for start in range(0, len(images), CHUNK_SIZE)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *chunks)


def judge_rows(config: Config, domains: Domains, direction: str, made: dict[str, np.ndarray]) -> list[dict]:
    """Result rows of one direction: measures of the translated test images, means over images."""
    is_forward, truth = direction == "X to Y", domains.truth
    given = (domains.x_test if is_forward else domains.y_test)[: len(made["there"])] / 2 + 0.5

    def l1(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.abs(a - b).mean(axis=(1, 2, 3))

    per_image = {"L1 after both translations": l1(made["back"], given)}
    if truth is not None:
        target, read_target, read_source = (
            (truth.y, truth.read_y, truth.read_x) if is_forward else (truth.x, truth.read_x, truth.read_y)
        )
        per_image |= {
            "correct class %": 100.0 * (read_target(made["there"]) == truth.labels),
            "correct class of true images %": 100.0 * (read_target(target) == truth.labels),
            "correct class after both translations %": 100.0 * (read_source(made["back"]) == truth.labels),
            "L1 to the true image": l1(made["there"], target),
            "L1 of the untranslated image": l1(given, target),
        }
    if config.kernel != "adam":
        per_image["sd over draws"] = made["sd"].mean(axis=(1, 2, 3))
    keys: dict[str, Any] = {"direction": direction} | ({} if truth is not None else {"task": "unknown"})
    rows = [row(measure, evaluation.mean_estimate(values), **keys) for measure, values in per_image.items()]
    if truth is not None and config.kernel != "adam":
        error = np.abs(made["there"] - target)
        rows.append(row("correlation of sd and error", np.corrcoef(made["sd"].ravel(), error.ravel())[0, 1], **keys))
    return rows


def play(run: Run, domains: Domains) -> dict[str, Any]:
    """Trains the networks and translates the test images.

    Returns:
      A dict of `ms per step`, of `distances` by name, measured at each of `steps`, of `translations` by direction, and
      of the weights of the `generators`, `[num_draws, ...]`.
    """
    config, shape = run.config, domains.x.shape[1:]
    net = networks(config, shape)
    data_key, init_key, run_key = jax.random.split(jax.random.key(config.seed), 3)
    position = jax.jit(net.init)(init_key)
    x, y = (jnp.asarray(images[:NUM_EVALUATED]) for images in (domains.x_test, domains.y_test))

    def evaluate(params: Params) -> dict[str, Array]:
        fake_x, fake_y, distance = translate_both(net, params, x, y)
        values = {"L1 after both translations": distance / 4}  # a mean over directions, and pixels lie in (-1, 1)
        if domains.truth is not None:  # y has the true translations of x
            values["L1 to the true image"] = (
                cycle.mean_absolute_error(fake_y, y) + cycle.mean_absolute_error(fake_x, x)
            ) / 4
        return values

    has_pool = config.pool_size and config.kernel == "adam"
    carries = {"discriminator": {name: cycle.empty_pool(config.pool_size, shape) for name in "xy"}} if has_pool else {}
    stages = games.pair_stages(config, losses(config, net), min(len(domains.x), len(domains.y)), carries=carries)
    start = jax.jit(evaluate)(position["generator"])
    played = games.play_pair(
        run, config.kernel, stages, position, minibatches(config, data_key, domains), rng_key=run_key, evaluate=evaluate
    )
    return {
        "ms per step": played.milliseconds,
        "generators": played.generators,
        "steps": np.concatenate([[0], played.steps]),
        "distances": {name: np.concatenate([[start[name]], each]) for name, each in played.evaluations.items()},
        "translations": {
            direction: translate(net, played.generators, direction, given[: config.num_judged])
            for direction, given in (("X to Y", domains.x_test), ("Y to X", domains.y_test))
        },
    }


def plot(run: Run, domains: Domains, result: dict[str, Any]) -> None:
    """Plots test images with their translations there and back, and the distances during training."""
    num = min(NUM_SHOWN, len(domains.x_test), len(domains.y_test), run.config.num_judged)
    panels = {}
    for direction, given, names in (
        ("X to Y", domains.x_test, ("x", "G(x)", "F(G(x))")),
        ("Y to X", domains.y_test, ("y", "F(y)", "G(F(y))")),
    ):
        made = result["translations"][direction]
        panels |= dict(zip(names, (given / 2 + 0.5, made["there"], made["back"]), strict=True))
        if domains.truth is not None:
            panels[f"true {names[1]}"] = domains.truth.y if direction == "X to Y" else domains.truth.x
    images = np.stack([images[:num] for images in panels.values()])
    plots.image_grid(run.figure("panels.png"), images, row_names=list(panels))
    curves = {name: (result["steps"], values) for name, values in result["distances"].items()}
    plots.curves(run.figure("distances.png"), curves, xlabel="steps", ylabel="mean distance of a pixel", log_y=True)


def predict_run(config: Config, parts: dict[str, Any], inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Translations of images in both directions by a finished run, for `experiments.sample`."""
    num_channels = parts["game"]["translations"]["X to Y"]["there"].shape[-1]
    require(
        inputs.shape[-1] == num_channels,
        f"images of {inputs.shape[-1]} channels do not fit the networks of the run, which take {num_channels}",
    )
    net, generators = networks(config, inputs.shape[1:]), parts["game"]["generators"]
    return {direction: translate(net, generators, direction, 2 * inputs - 1)["there"] for direction in DIRECTIONS}


def main(config: Config) -> None:
    """Trains and evaluates a CycleGAN; writes the table, the figures and the results."""
    with Run("cyclegan", config, one_device=True) as run:
        domains = load_domains(run)
        result = run.part("game", lambda: play(run, domains))
        rows = [
            each for direction, made in result["translations"].items()
            for each in judge_rows(config, domains, direction, made)
        ]  # fmt: skip
        for name, values in result["distances"].items():
            rows += [row(name, values[0], moment="at the start"), row(name, values[-1], moment="at the end")]
        rows.append(row("ms per step", result["ms per step"]))
        plot(run, domains, result)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
