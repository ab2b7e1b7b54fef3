"""Bayesian SegNet: labels of pixels and where they are not to be trusted, by many passes with dropout.

Papers: Kendall, Badrinarayanan & Cipolla, "Bayesian SegNet", BMVC 2017 (tables 1 and 2, figures 1 and 4);
Badrinarayanan, Kendall & Cipolla, "SegNet", PAMI 2017.

    python -m experiments.bayesian_segnet                                       quick: synthetic shapes, under a minute
    python -m experiments.bayesian_segnet --preset paper                        CamVid: the folder camvid in --data-dir

One network, three ways to use it: a single pass with dropout; weight averaging (one pass without); the mean of
--num-draws passes, "Monte Carlo". Uncertainty is the entropy of that mean, and the part of it that passes disagree
about (mutual information). Pixels are
weighted by the median frequency of the classes over their own, as in the papers. Settings are chosen with --judge
validation; the test images are looked at once.

Expected (360 x 480, VGG-16 widths): class average 71.20 for SegNet and 76.3 for Bayesian SegNet, mean IoU 60.1 and
63.1. The images here are of 120 x 160 and the network is small, so that its numbers are not to be compared with those;
what should hold is their order, and that uncertainty is high at boundaries and where the labels are wrong.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.bayesian_segnet."""

    dataset: str = "synthetic/shapes"
    """synthetic/shapes, or a folder in --data-dir (or BAYESJAX_DATA_DIR) with train.npz, val.npz and test.npz."""
    num_classes: int = 4
    """Labels that count; others, such as void, do not."""
    widths: tuple[int, ...] = (16, 32)
    """Channels of each encoder stage."""
    convolutions: tuple[int, ...] = (1, 1)
    """Convolutions of each stage; VGG-16 has 2 2 3 3 3 of 64 128 256 512 512."""
    dropout_rate: float = 0.5
    """After the deepest half of the stages."""
    num_epochs: int = 12
    """Epochs of training."""
    batch_size: int = 8
    """Images a step."""
    learning_rate: float = 3e-3
    """Adam's; it falls to 0 along a cosine."""
    flip: bool = True
    """Whether half of the training images are mirrored, anew at every step."""
    num_draws: int = 50
    """Passes with dropout."""
    judge: str = "test"
    """test or validation: the images that numbers and figures are of."""
    num_shown: int = 4
    """Images in the figure."""


QUICK = Config()
PAPER = dataclasses.replace(
    QUICK, preset="paper", dataset="camvid", num_classes=11, widths=(32, 48, 64, 64), convolutions=(1, 1, 1, 1),
    num_epochs=60, learning_rate=2e-3,
)  # fmt: skip
FULL = dataclasses.replace(
    PAPER, preset="full", widths=(64, 128, 256, 512, 512), convolutions=(2, 2, 3, 3, 3), num_epochs=200,
    learning_rate=1e-3,
)  # fmt: skip
PRESETS = {preset.preset: preset for preset in (QUICK, PAPER, FULL)}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, kernels, models, objectives, plots, training
from bayesjax.data.segmentation import SegmentationDataset, SegmentationSplit, load_segmentation
from bayesjax.evaluation import segmentation, uncertainty
from bayesjax.training.progress import Progress
from experiments import tables

AT_A_TIME = 4  # test images


def class_weights(split: SegmentationSplit, num_classes: int) -> np.ndarray:
    """Median frequency balancing: the median of the classes' frequencies over each one's, in images that have it."""
    present = np.stack([(split.labels == k).any(axis=(1, 2)) for k in range(num_classes)])
    pixels = np.array([(split.labels == k).sum() for k in range(num_classes)], float)
    counted = np.array([(split.labels[images] < num_classes).sum() for images in present], float)
    frequency = np.where(pixels > 0, pixels / np.maximum(counted, 1), np.nan)
    return np.nan_to_num(np.nanmedian(frequency) / frequency, nan=0.0)


def network(config: Config, num_classes: int) -> tuple[Any, Callable]:
    """The module, and `(params, rng_key or None, x) -> logits`."""
    stages = tuple((width,) * num for width, num in zip(config.widths, config.convolutions, strict=True))
    model = models.SegNet(num_classes, stages=stages, dropout_rate=config.dropout_rate)

    def apply(params: Any, rng_key: jax.Array | None, x: jax.Array) -> Any:
        rngs = {} if rng_key is None else {"dropout": rng_key}
        return model.apply({"params": params}, x, deterministic=rng_key is None, rngs=rngs)

    return model, apply


def train(run: common.Experiment, found: SegmentationDataset) -> Any:
    """The trained parameters."""
    config = run.config
    model, apply = network(config, found.num_classes)
    weights = jnp.asarray(class_weights(found.train, found.num_classes), jnp.float32)

    def loss(params: Any, rng_key: jax.Array, image: SegmentationSplit) -> jax.Array:
        """Weighted cross-entropy of an image's pixels; those that count for nothing have no class."""
        flip_key, dropout_key = jax.random.split(rng_key)
        mirrored = jax.random.bernoulli(flip_key) if config.flip else jnp.bool_(False)
        x, y = (jnp.where(mirrored, jnp.flip(part, 1), part) for part in image)
        each = jax.nn.one_hot(y, found.num_classes) * weights * jax.nn.log_softmax(apply(params, dropout_key, x))
        return -each.sum() / y.size

    steps = max(1, len(found.train.images) // config.batch_size)
    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed), 4)
    falling = optax.cosine_decay_schedule(config.learning_rate, steps * config.num_epochs)
    kernel = run.spread(kernels.optimize(objectives.batch_mean(loss), optax.adam(falling)))
    params = jax.jit(model.init)(init_key, found.train.images[:1])["params"]
    batches = data.Minibatches(data_key, found.train, config.batch_size)
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(params, start_key), batches, num_steps=steps * config.num_epochs,
        keep=lambda state: (), **run.stage("segnet"),
    )  # fmt: skip
    return training.fetch(state.position)


# ---- three ways to use it


class Maps(NamedTuple):
    """What is said of pixels, `[num, height, width]` each.

    Attributes:
      labels: the most probable class.
      entropy: of the prediction.
      mutual_information: the part of it that passes disagree about; 0 of a single pass.
    """

    labels: Any
    entropy: Any
    mutual_information: Any


def maps(apply: Callable) -> Callable[[Any, jax.Array | None, Any], Maps]:
    """`(params, rng_keys, x [num, height, width, channels]) -> Maps` of the mean of passes, one after another.

    Of one pass without dropout if there are no keys.
    """

    def one(params: Any, rng_key: jax.Array | None, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Probabilities and their entropy."""
        log_p = jax.nn.log_softmax(apply(params, rng_key, x))
        return jnp.exp(log_p), -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)

    @jax.jit
    def of_mean(params: Any, rng_keys: jax.Array | None, x: jax.Array) -> Maps:
        if rng_keys is None:
            mean, expected = one(params, None, x)
        else:

            def add(sums: tuple, rng_key: jax.Array) -> tuple[tuple, None]:
                return jax.tree.map(jnp.add, sums, one(params, rng_key, x)), None

            total, _ = jax.lax.scan(add, one(params, rng_keys[0], x), rng_keys[1:])
            mean, expected = jax.tree.map(lambda part: part / len(rng_keys), total)
        entropy = -jnp.sum(jax.scipy.special.xlogy(mean, mean), axis=-1)
        return Maps(mean.argmax(axis=-1), entropy, entropy - expected)

    return of_mean


def label(run: common.Experiment, apply: Callable, params: Any, images: np.ndarray, name: str, num: int) -> Maps:
    """The maps of all images by `num` passes; 0 for one without dropout."""
    of_passes, draws_key = maps(apply), jax.random.key(run.config.seed + 1)
    bar, parts = Progress(name, len(images), 0), []
    for start in range(0, len(images), AT_A_TIME):
        keys = jax.random.split(jax.random.fold_in(draws_key, start), num) if num else None
        parts.append(jax.tree.map(np.asarray, of_passes(params, keys, images[start : start + AT_A_TIME])))
        bar.update(min(start + AT_A_TIME, len(images)), {})
    bar.close()
    return Maps(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def judge(
    found: SegmentationDataset, split: SegmentationSplit, name: str, said: Maps, *, is_mean: bool
) -> dict[str, dict]:
    """Accuracies of one of the three, and what its uncertainty is worth."""
    counted, edge = split.labels < found.num_classes, segmentation.boundaries(split.labels)
    counts = segmentation.confusion_matrix(said.labels, split.labels, found.num_classes, void=found.num_classes)
    metrics = {
        f"{name} {measure}": {"value": value} for measure, value in segmentation.accuracy(counts)._asdict().items()
    }
    wrong = (said.labels != split.labels)[counted]
    if not 0 < wrong.mean() < 1:
        return metrics
    for measure in ("entropy", "mutual_information") if is_mean else ("entropy",):
        values = getattr(said, measure)
        area = uncertainty.auroc(values[counted], wrong)
        ratio = values[counted & edge].mean() / values[counted & ~edge].mean()
        # without its standard error: pixels of an image are not independent
        metrics[f"{name} AUROC of {measure} for errors"] = {"value": area.value}
        metrics[f"{name} {measure} at boundaries over elsewhere"] = {"value": float(ratio)}
    return metrics


# ---- the run


def main(config: Config) -> None:
    """Trains, labels in three ways, draws; writes table, figures and results."""
    with common.Experiment("bayesian_segnet", config) as run:
        common.require_choice(config, "judge", ("test", "validation"))
        common.require_all_positive(config, "widths", "convolutions")
        common.require(
            len(config.widths) == len(config.convolutions),
            f"--widths and --convolutions must have as many numbers; got {config.widths} and {config.convolutions}",
        )
        common.require(0 < config.dropout_rate < 1, f"--dropout-rate must lie in (0, 1); got {config.dropout_rate}")
        common.require_positive(config, "learning_rate")
        common.require_at_least(config, 1, "num_epochs", "batch_size", "num_shown")
        common.require_at_least(config, 2, "num_draws")
        found = load_segmentation(config.dataset, num_classes=config.num_classes, data_dir=config.data_dir or None)
        split = found.test if config.judge == "test" else found.validation
        params, shown = train(run, found), slice(config.num_shown)
        _, apply = network(config, found.num_classes)
        many = f"{config.num_draws} passes"
        metrics: dict[str, dict] = {}
        for name, num in (("one pass", 1), ("weight averaging", 0), (many, config.num_draws)):
            said = label(run, apply, params, split.images, name, num)
            metrics |= judge(found, split, name, said, is_mean=num > 1)
        plots.segmentation_maps(
            run.out / "figures" / "maps.png", split.images[shown],
            {"labels": np.where(split.labels < found.num_classes, split.labels, -1)[shown], many: said.labels[shown]},
            {"entropy (nats)": said.entropy[shown], "mutual information": said.mutual_information[shown]},
            num_classes=found.num_classes,
        )  # fmt: skip
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
