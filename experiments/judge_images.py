"""The judge of generated images: its training, and its measures on sets of images whose quality is known.

Papers: Heusel et al., "GANs trained by a two time-scale update rule", NIPS 2017 (the distance under disturbances, their
figure 3). `bayesjax/evaluation/fidelity.py` names the papers of the other measures.

    python -m experiments.judge_images                                       quick: digits, under a minute
    python -m experiments.judge_images --preset paper                        MNIST
    python -m experiments.judge_images --preset paper --dataset cifar10      or fashion_mnist

A small classifier (`shared/judge.py`) is trained on the training images, and its last hidden layer gives the features.
The table compares sets of images with the first --num-images training images. The sets are other training images, test
images, and test images with normal noise (--noises) or a blur (--blurs). Further sets are test images of one class,
test images without this class, copies of the training images, and a tenth of the training images, repeated. The
Fréchet distance in these features is called the Fréchet classifier distance (FCD). It must rise with noise and with
blur. It does not detect memorisation: copies of the training images have the smallest distance. The judge was trained
on the training images, so the distance of test images is the smallest to expect of a generator.

The run folder holds the weights. With --publish they are also written to experiments/judges, to be committed with
their sha256 in `shared/judge.py`.

Expected (MNIST): the judge classifies 99.4 % of the test images correctly. The FCD is 0.07 for other training images
and 0.16 for test images, and larger at every level of noise and blur. The inception score of test images is 9.8 (9.88
by a published judge). Training takes 3500 steps, about 6 minutes on one core, and each row of the table 10 seconds.
"""

import functools
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from scipy import ndimage

from bayesjax import data, evaluation, plots
from bayesjax.evaluation.generation import MIN_SAMPLES
from bayesjax.training import processes
from experiments.harness import Column, Natural, NonEmpty, Positive, Range, Run, RunConfig, Table, cli, require, row
from experiments.shared import judge


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.judge_images."""

    dataset: str = "digits"
    """Labelled images: `digits`, the name of a TensorFlow Datasets image set (mnist, fashion_mnist, cifar10), or the
    path of an .npz file."""
    num_images: Annotated[int, Range(least=24)] = 10_000
    """Largest number of images in a set, at least 24; it is reduced to half of the training images. Sets that select
    classes are smaller."""
    noises: Annotated[tuple[Positive, ...], NonEmpty] = (0.05, 0.1, 0.2, 0.4)
    """Standard deviations of the normal noise, for pixels in [0, 1]."""
    blurs: Annotated[tuple[Positive, ...], NonEmpty] = (0.5, 1.0, 1.5, 2.0)
    """Standard deviations of the Gaussian blur, in pixels."""
    num_steps: Natural = 0
    """Number of training steps of the judge; 0 uses the number in the judge's recipe."""
    num_validation: Natural = 0
    """Number of training images that replace the test images, to choose a recipe; 0 uses the test images."""


Place = tuple[str, float | None]  # kind of a set of images, and level of its noise or blur
PRESETS = {"quick": Config(noises=(0.1, 0.4), blurs=(0.5, 1.0)), "paper": Config(dataset="mnist")}
MEASURES = {
    "FCD": 3, "FCD extrapolated": 3, "KCD": 4, "IS": 2, "precision": 3, "recall": 3, "density": 3, "coverage": 3
}  # fmt: skip
TABLES = [
    Table(
        {"method": "compared with training images", "level": "level"},
        [
            Column("FCD", "images", field="num_fake"),
            Column("FCD", "training images", field="num_real"),
            *(Column(name, digits=digits) for name, digits in MEASURES.items()),
            Column("IS", "sd of IS", field="sd"),
        ],
    ),
    Table(
        {"judge": "judge"},
        [
            Column("accuracy %", "test images right %"),
            Column("FCD rises with noise", digits=0),
            Column("FCD rises with blur", digits=0),
        ],
        note="The value is 1 if the FCD rises at every level, and 0 otherwise.",
    ),
]
HEADLINE = "judge_images-paper-mnist", {"method": "test images", "measure": "FCD"}


def add_noise(images: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """Images with normal noise on every pixel, clipped to [0, 1]."""
    noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
    return np.clip(images + np.float32(deviation) * noise, 0, 1)


def blur(images: np.ndarray, deviation: float) -> np.ndarray:
    """Images `[num, height, width, channels]` after a Gaussian blur with a standard deviation in pixels."""
    return ndimage.gaussian_filter(images, (0, deviation, deviation, 0), mode="nearest")


def load_splits(config: Config) -> tuple[data.Split, data.Split, int]:
    """Loads the training images, the test images or, with --num-validation, held-out ones, and the number of classes.

    Raises:
      ValueError: if the data are not labelled images, or --num-validation leaves no training image.
    """
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    judge.require_labelled_images(dataset)
    most = len(dataset.train) - 1
    require(config.num_validation <= most, f"--num-validation must be at most {most}; got {config.num_validation}")
    dataset = dataset.hold_out(config.num_validation)
    return dataset.train, dataset.test, dataset.num_classes


def make_sets(config: Config, train: data.Split, test: data.Split, num: int) -> dict[Place, np.ndarray]:
    """The sets of images, one for each row of the table, by kind and level.

    Raises:
      ValueError: if a set has too few images.
    """
    real, images, labels = train.inputs[:num], test.inputs[:num], test.labels[:num]
    sets: dict[Place, np.ndarray] = {
        ("other training images", None): train.inputs[num : 2 * num],
        ("test images", None): images,
        **{("noise", level): add_noise(images, level, config.seed) for level in config.noises},
        **{("blur", level): blur(images, level) for level in config.blurs},
        ("one class", None): images[labels == 0],
        ("all but one class", None): images[labels != 0],
        ("training copies", None): real,
        ("a tenth, copied", None): np.resize(real[: max(1, num // 10)], real.shape),
    }
    fewest = min(sets, key=lambda kind: len(sets[kind]))
    require(
        len(sets[fewest]) >= MIN_SAMPLES,
        f"--num-images {config.num_images} leaves {len(sets[fewest])} images in the row {fewest[0]!r}; at least "
        f"{MIN_SAMPLES} are needed",
    )
    return sets


def train_judge(run: Run, train: data.Split, num_classes: int) -> tuple[judge.Judge, bytes]:
    """Trains the judge; returns it and the bytes of its weights file."""
    config = run.config
    recipe = judge.COMMITTED[config.dataset].recipe if config.dataset in judge.COMMITTED else judge.Recipe()
    recipe = replace(recipe, num_steps=config.num_steps or recipe.num_steps)

    def compute() -> np.ndarray:
        stage = functools.partial(run.stage, "judge")
        params = judge.train(train, num_classes, recipe, seed=config.seed, stage=stage)
        return np.frombuffer(judge.pack(params), np.uint8)

    packed = run.part("judge", compute).tobytes()
    return judge.unpack(packed, config.dataset, train.inputs.shape[1:], recipe.network), packed


def rises(distances: dict[Place, float], kind: str, levels: tuple[float, ...]) -> bool:
    """Whether the distance rises from the test images to the lowest level, and from each level to the next."""
    places = [("test images", None), *((kind, level) for level in sorted(levels))]
    return bool((np.diff([distances[place] for place in places]) > 0).all())


def draw_figures(run: Run, distances: dict[Place, float], sets: dict) -> None:
    """Draws the FCD against the strength of noise and blur, and examples of the images."""
    curves = {}
    for kind, levels in (("noise", run.config.noises), ("blur", run.config.blurs)):
        unit = f"{max(levels):g}{' px' if kind == 'blur' else ''}"
        values = [distances["test images", None], *(distances[kind, level] for level in levels)]
        curves[f"{kind}, in units of {unit}"] = np.array([0.0, *levels]) / max(levels), np.array(values)
    plots.curves(run.figure("distance.png"), curves, xlabel="strength", ylabel="FCD", log_y=True)
    shown = [place for place in sets if place[0] in ("test images", "noise", "blur")]
    names = [kind if level is None else f"{kind} {level:g}" for kind, level in shown]
    plots.image_grid(run.figure("images.png"), np.stack([sets[place][:16] for place in shown]), row_names=names)


def main(config: Config) -> None:
    """Trains the judge and evaluates all sets; writes the tables, the figures, the weights and the results."""
    with Run("judge_images", config) as run:
        train, test, num_classes = load_splits(config)
        num = min(config.num_images, len(train) // 2)
        sets = make_sets(config, train, test, num)
        classifier, packed = train_judge(run, train, num_classes)
        error = run.part(
            "error", lambda: evaluation.error_rate(classifier.read(test.inputs).probabilities, test.labels)
        )
        read_real = functools.cache(lambda: classifier.read(train.inputs[:num]))
        reports = {
            (kind, level): run.part(
                kind.replace(" ", "-").replace(",", "") + ("" if level is None else f"-{level:g}"),
                lambda images=images: judge.report(read_real(), classifier.read(images), seed=config.seed),
            )
            for (kind, level), images in sets.items()
        }
        distances = {place: report["FCD"]["value"] for place, report in reports.items()}
        accuracy, stderr, name = 100 * (1 - float(error["value"])), 100 * float(error["stderr"]), classifier.name
        rows = [row("accuracy %", accuracy, stderr, judge=name, sha256=classifier.sha256)]
        for kind, levels in (("noise", config.noises), ("blur", config.blurs)):
            rows.append(row(f"FCD rises with {kind}", int(rises(distances, kind, levels)), judge=name))
        for (kind, level), report in reports.items():
            rows += [row(measure, **entry, method=kind, level=level) for measure, entry in report.items()]
        draw_figures(run, distances, sets)
        run.finish(rows, TABLES)
        if config.publish and processes.is_first():
            judge.FOLDER.mkdir(exist_ok=True)
            (judge.FOLDER / f"{config.dataset}.npz").write_bytes(packed)
            print(f"weights of sha256 {classifier.sha256}")


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
