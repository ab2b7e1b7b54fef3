"""The figures of `vae.py`: what models make of data and of draws, the plane of two latents, bounds by images seen.

Papers: Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, figures 2, 4 and 5.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import scipy.stats

from bayesjax import plots
from bayesjax.types import ArrayLike


class Model(NamedTuple):
    """What is drawn of a trained model.

    Attributes:
      name: of its row.
      suffix: of the names of its own figures; empty if its latent dimension tells it from the others.
      latent_dim: length of z.
      reconstruct: z `[num, latent_dim]` to means of p(x | z).
      embed: x `[num, ...]` to means of q(z | x).
    """

    name: str
    suffix: str
    latent_dim: int
    reconstruct: Callable[[ArrayLike], ArrayLike]
    embed: Callable[[ArrayLike], ArrayLike]


def draw_models(folder: Path, models: list[Model], test_set: np.ndarray, labels: np.ndarray, seed: int) -> None:
    """Reconstructions, samples and interpolations of every model; the manifold and the latent plane if one has two."""
    shape = test_set.shape[1:]
    rows, samples, names = [test_set[:12]], [], [model.name for model in models]
    for model in models:
        means = np.asarray(model.embed(test_set))
        rows.append(np.asarray(model.reconstruct(means[:12])))
        samples.append(np.asarray(model.reconstruct(jax.random.normal(jax.random.key(seed), (12, model.latent_dim)))))
        if model.latent_dim == 2:
            quantiles = scipy.stats.norm.ppf(np.linspace(0.03, 0.97, 15)).astype(np.float32)
            plane = np.stack(np.meshgrid(quantiles, quantiles[::-1], indexing="xy"), axis=-1)
            plots.image_grid(
                folder / f"manifold{model.suffix}.png",
                np.asarray(model.reconstruct(plane.reshape(-1, 2))).reshape(15, 15, *shape),
                title=f"decoder's mean over the quantiles of the prior, {model.name}",
            )  # fmt: skip
            if len(labels):
                title = f"means of q(z | x), test set, {model.name}"
                plots.scatter_by_label(folder / f"latent{model.suffix}.png", means, labels, title=title)
        if model.latent_dim == max(each.latent_dim for each in models):
            way = np.linspace(0, 1, 12, dtype=np.float32)[None, :, None]
            ends = means[: 2 * (len(means) // 2)][:10].reshape(-1, 2, 1, model.latent_dim)
            between = ((1 - way) * ends[:, 0] + way * ends[:, 1]).reshape(-1, model.latent_dim)
            plots.image_grid(
                folder / f"interpolation{model.suffix}.png",
                np.asarray(model.reconstruct(between)).reshape(-1, 12, *shape),
                title=f"between two test images, {model.name}",
            )  # fmt: skip
    plots.image_grid(folder / "reconstructions.png", np.stack(rows), row_names=["test data", *names])
    plots.image_grid(
        folder / "samples.png", np.stack(samples), row_names=names, title="decoder's mean at draws of the prior"
    )


def draw_curves(folder: Path, found: dict[str, dict], compared: dict[str, dict]) -> None:
    """Negative bounds in nats against the training images seen, on a logarithmic axis as in the paper."""

    def curve(result: dict, which: str) -> tuple[np.ndarray, np.ndarray]:
        epochs = result["epochs_before"] + 1 + np.arange(len(result[which]))
        return result["images_per_epoch"] * epochs, np.array(result[which])

    draw = functools.partial(plots.curves, xlabel="training images seen", ylabel="negative ELBO (nats)", log_x=True)
    draw(folder / "bound.png", {f"{name} test": curve(result, "test") for name, result in found.items()})
    if compared:
        series = {name.replace("_", " "): curve(result, "train") for name, result in compared.items()}
        draw(folder / "estimators.png", series)


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("vae")
