"""A judge of generated images: its training, and what its distances say of images about which everything is known.

Papers: Heusel et al., "GANs trained by a two time-scale update rule", NIPS 2017 (the distance under disturbances, their
figure 3); those of the other measures are in `evaluation/fidelity.py`.

    python -m experiments.judge_images                                       quick: digits, under a minute
    python -m experiments.judge_images --preset paper                        MNIST
    python -m experiments.judge_images --preset paper --dataset cifar10      or fashion_mnist

A small classifier (`judge.py`) is trained on the training images; its last hidden layer gives the features. The table
then compares sets of images with the first --num-images training images: the next as many; test images; the same with
normal noise, or blurred, more and more; test images of one class, or of all classes but one; and copies of those
training images, all of them or a tenth over and over. A distance must rise with noise and with blur. It cannot tell a
generator from a copier: copies are nearest of all.

The weights are left in the run's folder, and with --publish in experiments/judges, to be committed with their sha256 in
`judge.SHA256`.

Expected (MNIST): 99.4 % of the test images right; FCD 0.07 of other training images and 0.16 of test images, which the
judge has not been trained on, and more at every level of noise and blur; an inception score of test images of 9.8 (9.88
by a published judge). Training takes 3500 steps, some 6 minutes of one core, and each row 10 seconds.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.judge_images."""

    dataset: str = "digits"
    """digits, an image set of TensorFlow Datasets (mnist, fashion_mnist, cifar10), or an .npz file with labels."""
    num_images: int = 10_000
    """Images of each set that is compared, or half of the training images if that is less."""
    noises: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    """Standard deviations of normal noise, of pixels in [0, 1]."""
    blurs: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    """Standard deviations of a Gaussian blur, in pixels."""
    num_steps: int = 0
    """Of the judge's training; 0 for as many as its recipe has."""
    num_validation: int = 0
    """Training images that stand in for the test set, to choose a recipe by."""


PRESETS = {
    "quick": Config(noises=(0.1, 0.4), blurs=(0.5, 1.0)),
    "paper": Config(preset="paper", dataset="mnist"),
}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools

import numpy as np
from scipy import ndimage

from bayesjax import data, plots
from bayesjax.evaluation import generation
from bayesjax.training import processes
from experiments import judge, tables
from experiments.classification import splits


def noisy(images: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """Images with normal noise on every pixel, cut to [0, 1]."""
    noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
    return np.clip(images + np.float32(deviation) * noise, 0, 1)


def blurred(images: np.ndarray, deviation: float) -> np.ndarray:
    """Images under a Gaussian blur of so many pixels."""
    return ndimage.gaussian_filter(images, (0, deviation, deviation, 0), mode="nearest")


def trained(run: common.Experiment, train_set: data.Split, num_classes: int) -> judge.Judge:
    """The judge, trained once; its file in the run's folder."""
    config, path = run.config, run.out / "parts" / "judge.npz"
    recipe = judge.RECIPES.get(config.dataset, judge.Recipe())
    if config.num_steps:
        recipe = dataclasses.replace(recipe, num_steps=config.num_steps)
    params = judge.train(
        train_set, num_classes, recipe, seed=config.seed, spread=run.spread, stage=lambda: run.stage("judge")
    )
    packed = judge.pack(params)
    path.write_bytes(packed)
    return judge.unpack(packed, config.dataset, train_set.inputs.shape[1:], recipe)


def sets(config: Config, train_set: data.Split, test_set: data.Split, num: int) -> dict[str, np.ndarray]:
    """The rows of the table: images about which everything is known."""
    real, test, labels = train_set.inputs[:num], test_set.inputs[:num], test_set.labels[:num]
    return {
        "other training images": train_set.inputs[num : 2 * num],
        "test images": test,
        **{f"noise {level:g}": noisy(test, level, config.seed) for level in config.noises},
        **{f"blur {level:g}": blurred(test, level) for level in config.blurs},
        "one class": test[labels == 0],
        "all but one class": test[labels != 0],
        "training copies": real,
        "a tenth, copied": np.resize(real[: max(1, num // 10)], real.shape),
    }


def figures(run: common.Experiment, found: dict[str, dict], rows: dict[str, np.ndarray]) -> None:
    """FCD against the strength of what was done to the images, and the images."""
    kinds, base = {"noise": run.config.noises, "blur": run.config.blurs}, found["test images"]["FCD"]["value"]
    series = {
        f"{kind}, in units of {max(levels):g}{' px' if kind == 'blur' else ''}": (
            np.array([0.0, *levels]) / max(levels),
            np.array([base, *(found[f"{kind} {level:g}"]["FCD"]["value"] for level in levels)]),
        )
        for kind, levels in kinds.items()
    }
    folder = run.out / "figures"
    plots.curves(folder / "distance.png", series, xlabel="strength", ylabel="FCD", log_y=True)
    names = [name for name in rows if name == "test images" or name.split()[0] in kinds]
    shown = np.stack([rows[name][:16] for name in names])
    plots.image_grid(folder / "images.png", shown, row_names=names)


def rises(found: dict[str, dict], kind: str, levels: tuple[float, ...]) -> bool:
    """Whether FCD is larger at each level than at the one before, and at the first than without."""
    names = ["test images", *(f"{kind} {level:g}" for level in sorted(levels))]
    return bool((np.diff([found[name]["FCD"]["value"] for name in names]) > 0).all())


def main(config: Config) -> None:
    """Trains the judge and has it judge; writes table, figures, weights and results."""
    with common.Experiment("judge_images", config) as run:
        common.require_all_positive(config, "noises", "blurs")
        common.require_at_least(config, 24, "num_images")
        common.require_at_least(config, 0, "num_steps")
        train_set, test_set, num_classes = splits(config)
        train_set, test_set = data.Split(train_set.x, train_set.y), data.Split(test_set.x, test_set.y)
        common.require(train_set.inputs.ndim == 4, f"--dataset {config.dataset} must have images")
        num = min(config.num_images, len(train_set) // 2)
        rows = sets(config, train_set, test_set, num)
        fewest = min(rows, key=lambda name: len(rows[name]))
        common.require(
            len(rows[fewest]) >= generation.MIN_SAMPLES,
            f"--num-images {config.num_images} leaves {len(rows[fewest])} images in the row {fewest!r}; at least "
            f"{generation.MIN_SAMPLES} are needed",
        )
        its_judge = trained(run, train_set, num_classes)
        accuracy = run.cached("accuracy", lambda: judge.accuracy(its_judge, test_set))
        real = functools.cache(lambda: its_judge.read(train_set.inputs[:num]))
        found = {}
        for name, images in rows.items():
            compute = lambda images=images: judge.judged(its_judge, real(), images, seed=config.seed)  # noqa: E731
            found[name] = run.cached(name.replace(" ", "-").replace(",", ""), compute)
        figures(run, found, rows)
        metrics: dict[str, dict] = {
            "accuracy %": {**accuracy, "judge": its_judge.name, "sha256": its_judge.sha256},
            **{f"FCD rises with {kind}": {"value": int(rises(found, kind, levels))}
               for kind, levels in (("noise", config.noises), ("blur", config.blurs))},
        }  # fmt: skip
        metrics |= {f"{name}: {what}": entry for name, one in found.items() for what, entry in one.items()}
        path = run.finish(metrics)
        if config.publish and processes.is_first():
            judge.JUDGES.mkdir(exist_ok=True)
            (judge.JUDGES / f"{common.slug(config.dataset)}.npz").write_bytes(
                (run.out / "parts" / "judge.npz").read_bytes()
            )
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}; weights of sha256 {its_judge.sha256}")


if __name__ == "__main__":
    main(CONFIG)
