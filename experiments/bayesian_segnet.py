"""Bayesian SegNet: segmentation of images with uncertainty from repeated passes with dropout.

Papers: Kendall, Badrinarayanan & Cipolla, "Bayesian SegNet", BMVC 2017 (tables 1 and 2, figures 1 and 4);
Badrinarayanan, Kendall & Cipolla, "SegNet", PAMI 2017.

    python -m experiments.bayesian_segnet                       quick: synthetic shapes, under a minute
    python -m experiments.bayesian_segnet --preset paper        CamVid at 120 x 160 in the folder camvid: 15 minutes
    python -m experiments.bayesian_segnet --preset full         the widths of VGG-16, for a GPU

One network predicts in three ways: by a single pass with dropout, by weight averaging (one pass without dropout), and
by the mean of --num-draws passes with dropout (Monte Carlo). Uncertainty is the entropy of the predicted class
probabilities. For a mean of passes, it is also the mutual information between class and dropout mask, the part of the
entropy that stems from disagreement between passes. In the training loss, the weight of a class is the median of all
class frequencies divided by its own frequency, as in the papers. To choose settings, --judge validation evaluates on
the validation images.

Expected (papers, 360 x 480, VGG-16 widths): class average 71.20 % for SegNet and 76.3 % for Bayesian SegNet, mean IoU
60.1 % and 63.1 %. The paper preset has a ninth of the pixels and a small network, so that its numbers are lower. The
three ways should rank as in the papers, and uncertainty should be high at boundaries and at errors.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, kernels, models, objectives, plots, training
from bayesjax.data.segmentation import SegmentationDataset, SegmentationSplit, load_segmentation
from bayesjax.evaluation import segmentation, uncertainty
from experiments.harness import Column, Count, NonEmpty, Positive, Range, Run, RunConfig, Table, cli, require, row


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.bayesian_segnet."""

    dataset: str = "synthetic/shapes"
    """Images: `synthetic/shapes`, or a folder in --data-dir or BAYESJAX_DATA_DIR with train.npz, val.npz, test.npz."""
    num_classes: Annotated[int, Range(least=2)] = 4
    """Number of classes, at least 2; pixels with other labels, such as void, are ignored."""
    widths: Annotated[tuple[Count, ...], NonEmpty] = (16, 32)
    """Number of channels in each stage of the encoder."""
    convolutions: Annotated[tuple[Count, ...], NonEmpty] = (1, 1)
    """Number of convolutions in each stage of the encoder; VGG-16 has 2 2 3 3 3, with --widths 64 128 256 512 512."""
    dropout_rate: Annotated[float, Range(above=0, below=1)] = 0.5
    """Dropout rate after each stage in the deepest half of encoder and decoder, in (0, 1)."""
    num_epochs: Count = 12
    """Number of training epochs."""
    batch_size: Count = 8
    """Number of images in a training step."""
    learning_rate: Positive = 3e-3
    """Initial learning rate of Adam; it decays to 0 along a cosine."""
    flip: bool = True
    """Mirror each training image with probability 1/2 at every step."""
    num_draws: Annotated[int, Range(least=2)] = 50
    """Number of passes with dropout whose predictions are averaged, at least 2."""
    judge: Literal["test", "validation"] = "test"
    """Split of the data set on which the network is evaluated."""
    num_shown: Count = 4
    """Number of images in the figure."""

    def __post_init__(self) -> None:
        """Checks that each stage has a width and a number of convolutions."""
        super().__post_init__()
        require(
            len(self.widths) == len(self.convolutions),
            f"--widths and --convolutions must have the same length; got {self.widths} and {self.convolutions}",
        )


PAPER = Config(
    dataset="camvid", num_classes=11, widths=(32, 48, 64, 64), convolutions=(1, 1, 1, 1), num_epochs=60,
    learning_rate=2e-3,
)  # fmt: skip
PRESETS = {
    "quick": Config(),
    "paper": PAPER,
    "full": replace(
        PAPER, widths=(64, 128, 256, 512, 512), convolutions=(2, 2, 3, 3, 3), num_epochs=200, learning_rate=1e-3
    ),
}
TABLES = [
    Table(
        {"method": "prediction"},
        [Column("pixel accuracy", digits=3), Column("class-average accuracy", "class average", 3),
         Column("mean IoU", digits=3)],
        note=lambda config: f"Accuracies are fractions of the labelled pixels of the {config['judge']} images.",
    ),
    Table(
        {"method": "prediction", "score": "uncertainty"},
        [Column("AUROC for errors", digits=3), Column("mean at boundaries / elsewhere", digits=3)],
    ),
]  # fmt: skip
HEADLINE = "bayesian_segnet-paper-camvid", {"measure": "class-average accuracy", "method": "50 passes"}

CHUNK_SIZE = 4  # images that are segmented at once

# ---- network, loss and training


def class_weights(split: SegmentationSplit, num_classes: int) -> np.ndarray:
    """Weights `[num_classes]` of the classes: the median of all class frequencies divided by each class's own.

    The frequency of a class is its fraction of the labelled pixels of those images that contain the class.
    """
    present = np.stack([(split.labels == k).any(axis=(1, 2)) for k in range(num_classes)])
    pixels = np.array([(split.labels == k).sum() for k in range(num_classes)], float)
    labelled = np.array([(split.labels[images] < num_classes).sum() for images in present], float)
    frequency = np.where(pixels > 0, pixels / np.maximum(labelled, 1), np.nan)
    return np.nan_to_num(np.nanmedian(frequency) / frequency, nan=0.0)


def network(config: Config, num_classes: int) -> tuple[models.SegNet, Callable]:
    """Returns the Flax module, and `(params, rng_key, x) -> logits`, which applies no dropout if the key is None."""
    stages = tuple((width,) * num for width, num in zip(config.widths, config.convolutions, strict=True))
    model = models.SegNet(num_classes, stages=stages, dropout_rate=config.dropout_rate)

    def apply(params: Any, rng_key: jax.Array | None, x: jax.Array) -> Any:
        rngs = {} if rng_key is None else {"dropout": rng_key}
        return model.apply({"params": params}, x, deterministic=rng_key is None, rngs=rngs)

    return model, apply


def train(run: Run, dataset: SegmentationDataset) -> Any:
    """Trains the network; returns its parameters."""
    config, num_classes = run.config, dataset.num_classes
    model, apply = network(config, num_classes)
    weights = jnp.asarray(class_weights(dataset.train, num_classes), jnp.float32)

    def loss(params: Any, rng_key: jax.Array, image: SegmentationSplit) -> jax.Array:
        """Weighted cross-entropy of an image, averaged over its pixels; the one-hot code of a void pixel is zero."""
        flip_key, dropout_key = jax.random.split(rng_key)
        mirrored = jax.random.bernoulli(flip_key) if config.flip else jnp.bool_(False)
        x, y = (jnp.where(mirrored, jnp.flip(part, 1), part) for part in image)
        log_p = jax.nn.log_softmax(apply(params, dropout_key, x))
        return -(jax.nn.one_hot(y, num_classes) * weights * log_p).sum() / y.size

    num_steps = max(1, len(dataset.train.images) // config.batch_size) * config.num_epochs
    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed), 4)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, num_steps))
    kernel, options = run.stage("segnet", kernels.optimize(objectives.batch_mean(loss), optimizer))
    params = jax.jit(model.init)(init_key, dataset.train.images[:1])["params"]
    batches = data.Minibatches(data_key, dataset.train, config.batch_size)
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(params, start_key), batches, num_steps=num_steps,
        keep=lambda state: (), **options,
    )  # fmt: skip
    return training.fetch(state.position)


# ---- prediction


class Maps(NamedTuple):
    """Predictions for all pixels of images, arrays `[num, height, width]`.

    Attributes:
      labels: the most probable class.
      entropy: entropy of the predicted probabilities, in nats.
      mutual_information: mutual information between class and dropout mask, in nats; 0 for a single pass.
    """

    labels: Any
    entropy: Any
    mutual_information: Any


def mean_prediction(apply: Callable) -> Callable[[Any, jax.Array | None, Any], Maps]:
    """Returns the function `(params, rng_keys, x [num, height, width, channels]) -> Maps`.

    It averages the probabilities of one pass for each key. If the keys are None, it makes one pass without dropout.
    """

    def probabilities_and_entropy(params: Any, rng_key: jax.Array | None, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_p = jax.nn.log_softmax(apply(params, rng_key, x))
        return jnp.exp(log_p), -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)

    @jax.jit
    def predict(params: Any, rng_keys: jax.Array | None, x: jax.Array) -> Maps:
        if rng_keys is None:
            mean, expected_entropy = probabilities_and_entropy(params, None, x)
        else:

            def add(sums: tuple, rng_key: jax.Array) -> tuple[tuple, None]:
                return jax.tree.map(jnp.add, sums, probabilities_and_entropy(params, rng_key, x)), None

            total, _ = jax.lax.scan(add, probabilities_and_entropy(params, rng_keys[0], x), rng_keys[1:])
            mean, expected_entropy = jax.tree.map(lambda part: part / len(rng_keys), total)
        entropy = -jnp.sum(jax.scipy.special.xlogy(mean, mean), axis=-1)
        return Maps(mean.argmax(axis=-1), entropy, entropy - expected_entropy)

    return predict


def predict_run(config: Config, parts: dict[str, Any], inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Maps of images by a finished run with dropout, for `experiments.sample`."""
    dataset = load_segmentation(config.dataset, num_classes=config.num_classes, data_dir=config.data_dir or None)
    num_channels = dataset.train.images.shape[-1]
    require(
        inputs.shape[-1] == num_channels,
        f"images of {inputs.shape[-1]} channels do not fit the networks of the run, which take {num_channels}",
    )
    _, apply = network(config, dataset.num_classes)
    predict_chunk, keys = mean_prediction(apply), jax.random.split(jax.random.key(config.seed), config.num_draws)
    chunks = [
        predict_chunk(parts["network"], keys, jnp.asarray(inputs[start : start + CHUNK_SIZE]))
        for start in range(0, len(inputs), CHUNK_SIZE)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *chunks)._asdict()


def segment(run: Run, apply: Callable, params: Any, images: np.ndarray, name: str, num_passes: int) -> Maps:
    """Predicts maps of all images by `num_passes` passes with dropout, or by one pass without dropout if it is 0."""
    predict, draws_key = mean_prediction(apply), jax.random.key(run.config.seed + 1)

    def segment_chunk(start: int, stop: int) -> dict[str, Any]:
        keys = jax.random.split(jax.random.fold_in(draws_key, start), num_passes) if num_passes else None
        return predict(params, keys, images[start:stop])._asdict()

    return Maps(**run.part_in_chunks(name.replace(" ", "-"), segment_chunk, len(images), CHUNK_SIZE))


# ---- evaluation


def judge(dataset: SegmentationDataset, split: SegmentationSplit, name: str, maps: Maps) -> list[dict]:
    """Result rows of one way to predict: accuracies, and the relation of uncertainty to errors and boundaries."""
    num_classes = dataset.num_classes
    labelled, boundary = split.labels < num_classes, segmentation.boundaries(split.labels)
    counts = segmentation.confusion_matrix(maps.labels, split.labels, num_classes, void=num_classes)
    accuracy = segmentation.accuracy(counts)
    rows = [
        row("pixel accuracy", accuracy.overall, method=name),
        row("class-average accuracy", accuracy.class_average, method=name),
        row("mean IoU", accuracy.mean_iou, method=name),
    ]
    wrong = (maps.labels != split.labels)[labelled]
    if not 0 < wrong.mean() < 1:
        return rows
    scores = {"entropy": maps.entropy, "mutual information": maps.mutual_information}
    for score, values in scores.items():
        if score == "entropy" or name.endswith("passes"):
            # AUROC's standard error is left out: the pixels of an image are not independent.
            area = uncertainty.auroc(values[labelled], wrong).value
            ratio = values[labelled & boundary].mean() / values[labelled & ~boundary].mean()
            rows.append(row("AUROC for errors", area, method=name, score=score))
            rows.append(row("mean at boundaries / elsewhere", float(ratio), method=name, score=score))
    return rows


def main(config: Config) -> None:
    """Trains the network, predicts in three ways and plots the maps; writes the figure and the results."""
    with Run("bayesian_segnet", config) as run:
        dataset = load_segmentation(config.dataset, num_classes=config.num_classes, data_dir=config.data_dir or None)
        split = dataset.test if config.judge == "test" else dataset.validation
        params = run.part("network", lambda: train(run, dataset))
        _, apply = network(config, dataset.num_classes)
        many = f"{config.num_draws} passes"
        ways = {"one pass": 1, "weight averaging": 0, many: config.num_draws}
        maps = {name: segment(run, apply, params, split.images, name, num) for name, num in ways.items()}
        rows = [each for name in ways for each in judge(dataset, split, name, maps[name])]
        shown = slice(config.num_shown)
        labels = np.where(split.labels < dataset.num_classes, split.labels, -1)
        plots.segmentation_maps(
            run.figure("maps.png"), split.images[shown], {"labels": labels[shown], many: maps[many].labels[shown]},
            {"entropy (nats)": maps[many].entropy[shown], "mutual information": maps[many].mutual_information[shown]},
            num_classes=dataset.num_classes,
        )  # fmt: skip
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
