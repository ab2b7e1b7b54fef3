"""InfoGAN: a generator whose code is readable from its images, so that classes and shapes are found without labels.

Paper: Chen et al., "InfoGAN: interpretable representation learning by information maximizing generative adversarial
nets", NIPS 2016 (figures 1 and 2; 5 % error of the categorical code on MNIST). Bayesian: Saatci & Wilson, "Bayesian
GAN", NIPS 2017.

    python -m experiments.infogan                          quick: digits, under a minute
    python -m experiments.infogan --preset mnist           smaller networks, a budget for one core (mnist_sghmc)
    python -m experiments.infogan --preset paper           the paper's networks and steps, for a GPU (paper_sghmc)
    python -m experiments.infogan --preset paper_invariant categories that small movements do not change (also quick_,
                                                           and mnist_invariant with larger batches)
    python -m experiments.infogan --dataset mnist.npz --judge none

The code is one of --num-codes categories and --num-continuous numbers; I_Q, in nats, of the categorical code is shown
along the run under its ceiling, the logarithm of the number of codes. The code as a classifier: each code stands for
the class that most training images with this code have, and no label was used before. Games that differ in their seed
alone may split one class into two codes and merge two others, so there are several, and the one that would be chosen by
its error on *training* images is told from their mean. With --kernel sghmc or sgld what reads the code is the mean of
all kept draws of Q, and what generates is the mixture of all generators.

On MNIST the discriminator's norm is of the batch, of real images and of fakes apart, as in the authors' program: a
batch of fakes that are all alike then looks like none of data. With a norm of each image (--discriminator-norm group)
games collapse there; on the small images of digits it is the norm of the batch with which they do.

Lambda has a number of its own for the continuous codes: they can take the classes, and then a category turns from one
digit into another along its row of figures/traversal-*.png. A high I_Q alone does not tell.

What shares a category is left to the game, and often it is not a digit: 4 and 9 share one, and another digit has two.
With --invariance-weight D and Q also maximise the information that the categories of a training image and of the same
image, moved a little, have in common (Ji et al., "Invariant information clustering", ICCV 2019; Ojha et al.,
"Elastic-InfoGAN", NeurIPS 2020, had the thought first in this game): still without a label.

Expected: the paper's 5 % is of codes that have a class each. quick: an error near 27 % on digits, 10 classes found.
paper: 13 to 19 % in three games of two minutes of an H200 each; paper_invariant: 1.3 to 2.7 %; mnist_invariant: 2.7 %
after half an hour or more of a core.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common, conditional_flags


@dataclass(frozen=True)
class Config(conditional_flags.ConditionalFlags):
    """Flags of experiments.infogan."""

    num_seeds: int = 1
    """Games, one after another, that differ in their seed."""
    num_codes: int = 10
    """Values of the categorical code."""
    num_continuous: int = 2
    """Continuous codes, uniform on (-1, 1)."""
    information_weight: float = 1.0
    """Lambda, of the categorical code."""
    continuous_weight: float = 1.0
    """Lambda of the continuous codes."""
    invariance_weight: float = 0.0
    """Of the information that the categories of a training image and of the same image, turned, scaled and shifted a
    little, have in common (Ji et al. 2019); 0 leaves it out, as in the paper."""
    fixed_scale: bool = True
    """Whether Q's Gaussian of the continuous codes has scale 1, as in the authors' program."""
    code_hidden: tuple[int, ...] = (64,)
    """Units of Q's own layers."""


QUICK = Config(
    latent_dim=16, batch_size=64, num_steps=1000, discriminator_learning_rate=5e-4, generator_learning_rate=1e-3,
    average=0.99, num_judged=1000,
)  # fmt: skip
MNIST = dataclasses.replace(
    QUICK, preset="mnist", dataset="mnist", num_seeds=2, latent_dim=62, num_steps=5000, average=0.999,
    discriminator_learning_rate=2e-4, continuous_weight=0.1, generator_features=(64, 32),
    discriminator_features=(32, 64), discriminator_norm="batch", num_judged=10_000,
)  # fmt: skip
PAPER = dataclasses.replace(
    MNIST, preset="paper", num_seeds=3, batch_size=128, continuous_weight=1.0, generator_features=(128, 64),
    generator_hidden=(1024,), discriminator_features=(64, 128), discriminator_hidden=(1024,), code_hidden=(128,),
)  # fmt: skip
PRESETS = {
    preset.preset: preset
    for plain in (QUICK, MNIST, PAPER)
    for preset in (
        plain,
        dataclasses.replace(plain, preset=f"{plain.preset}_sghmc", kernel="sghmc"),
        dataclasses.replace(plain, preset=f"{plain.preset}_invariant", invariance_weight=1.0, continuous_weight=1.0),
    )
}
# What images and moved images share is measured in a batch, and one of 64 overstates it by a third of a nat.
PRESETS["mnist_invariant"] = dataclasses.replace(
    PRESETS["mnist_invariant"], batch_size=128, num_steps=4000, num_seeds=1
)

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation, plots
from bayesjax.objectives.infogan import Code
from experiments import gan_players, infogan_game, labelled_images, parts, tables

VALUES = np.linspace(-2, 2, 9)  # of a continuous code; it was trained on (-1, 1)


def play(run: common.Experiment, about: labelled_images.Subject, seed: int) -> dict[str, Any]:
    """One game: how well its code classifies, what is read of it along the way, how its images are judged."""
    config, shape = run.config, about.train.inputs.shape[1:]
    net = infogan_game.networks(config, shape)
    data_key, init_key, look_key, run_key, make_key = jax.random.split(jax.random.key(seed), 5)

    def look(params: Any) -> jax.Array:
        """An image of each code."""
        noise, code = infogan_game.draw(config, look_key, config.num_codes)
        return net.make(params, noise, code._replace(categorical=jnp.arange(config.num_codes)[:, None]))

    plan = gan_players.stages(config, infogan_game.losses(config, net), len(about.train))
    played = gan_players.play(
        run, f"seed{seed}", plan, jax.jit(net.init)(init_key),
        gan_players.batches(config, data_key, about.train.inputs), rng_key=run_key, observe=look,
        keep_discriminators=True,
    )  # fmt: skip
    read = labelled_images.most_probable(lambda params, x: net.say(params, x)[1].logits[0], played.discriminators)
    of_train, of_test = read(about.train.inputs), read(about.test.inputs)
    stands_for = infogan_game.assignment(of_train, about.train.labels, config.num_codes, about.num_classes)
    said = {name: np.asarray(values, float).tolist() for name, values in played.aux["generator"].items()}
    result: dict[str, Any] = {
        "assignment": stands_for.tolist(),
        "train error": float(np.mean(stands_for[of_train] != about.train.labels)),
        "wrong": (stands_for[of_test] != about.test.labels).tolist(),
        "steps": played.steps.tolist(),
        "ms per step": played.milliseconds,
        **said,
    }
    if about.jury is not None:

        def make(params: Any, key: jax.Array, classes: jax.Array) -> jax.Array:
            noise, code = infogan_game.draw(config, key, len(classes))
            return net.make(params, noise, Code(classes[:, None], code.continuous))

        images, codes = labelled_images.make_of_each(
            make, played.generators, make_key, config.num_judged, config.num_codes
        )
        reading = about.jury.read(images)
        agrees = reading.probabilities.argmax(axis=-1) == stands_for[codes]
        result["judged"] = {
            **about.jury.judged(reading), "of the code's class %": {"value": 100 * float(agrees.mean())}
        }  # fmt: skip
    last = jax.tree.map(lambda leaf: leaf[-1], played.generators)
    crossed = infogan_game.traversals(config, net, last, look_key, VALUES)
    parts.save_arrays(run, f"pictures-{seed}", traversals=crossed, training=played.checks)
    return result


def summary(config: Config, results: dict[int, dict]) -> dict[str, dict]:
    """A few numbers of each game, and of all of them where there are several."""
    metrics: dict[str, dict] = {}
    for seed, result in results.items():
        wrong = np.asarray(result["wrong"], float)
        found = {
            "error %": _percent(evaluation.mean_estimate(wrong)),
            "train error %": {"value": 100 * result["train error"]},
            "classes": {"value": len(set(result["assignment"]) - {-1})},
            "information": {"value": result["information"][-1], "ceiling": math.log(config.num_codes)},
            "explained": {"value": result["explained"][-1]},
            **result.get("judged", {}),
            "ms per step": {"value": result["ms per step"]},
        }
        metrics |= {f"seed {seed} {name}": entry for name, entry in found.items()}
    errors = [100 * float(np.mean(result["wrong"])) for result in results.values()]
    chosen = min(results, key=lambda seed: results[seed]["train error"])
    metrics["error %"] = dict(metrics[f"seed {chosen} error %"])
    if len(errors) > 1:
        metrics["error %"] = {**evaluation.mean_estimate(errors)._asdict(), "values": errors}
        metrics["error % of the game chosen on training images"] = {**metrics[f"seed {chosen} error %"], "seed": chosen}
    if config.preset.startswith("paper"):
        metrics["error %"] |= {"paper": 5.0, "source": "Chen et al. (2016), section 7.2"}
    return metrics


def _percent(estimate: evaluation.Estimate) -> dict[str, float]:
    return {name: 100 * value for name, value in estimate._asdict().items()}


def draw(run: common.Experiment, results: dict[int, dict]) -> None:
    """Traversals of each game, an image of each code along the run, and I_Q along the run."""
    figures, ceiling = run.out / "figures", math.log(run.config.num_codes)
    for seed, result in results.items():
        pictures = parts.load_arrays(run, f"pictures-{seed}")
        crossed, training = ((pictures[name] + 1) / 2 for name in ("traversals", "training"))
        names = [f"code {code}: {'-' if of < 0 else of}" for code, of in enumerate(result["assignment"])]
        gap = np.ones((len(crossed), 1, *crossed.shape[3:]))
        columns = [part for i in range(crossed.shape[1]) for part in (gap, crossed[:, i])][1:]
        title = f"each continuous code from {VALUES[0]:g} to {VALUES[-1]:g}; rows: categorical codes and their class"
        rows = np.concatenate(columns or [training[-1][:, None]], axis=1)
        plots.image_grid(figures / f"traversal-{seed}.png", rows, row_names=names, title=title)
        steps = [f"step {step}" for step in result["steps"]]
        plots.image_grid(figures / f"training-{seed}.png", training, row_names=steps, title="an image of each code")
    curves = {f"seed {seed}": (result["steps"], np.array(result["information"])) for seed, result in results.items()}
    steps = next(iter(results.values()))["steps"]
    curves[f"ln {run.config.num_codes}"] = ([steps[0], steps[-1]], np.array([ceiling, ceiling]))
    plots.curves(figures / "information.png", curves, xlabel="steps", ylabel="information in the code (nats)")


def main(config: Config) -> None:
    """Plays every game; writes the table, the figures and the results."""
    with common.Experiment("infogan", config) as run:
        conditional_flags.check(config)
        common.require_at_least(config, 1, "num_seeds")
        common.require_at_least(config, 2, "num_codes")
        common.require_at_least(config, 0, "num_continuous")
        common.require_at_least(config, 0, "information_weight", "continuous_weight", "invariance_weight")
        conditional_flags.require_widths(config, "code_hidden")
        about = labelled_images.load(config)
        results = {
            seed: run.cached(f"seed{seed}", functools.partial(play, run, about, seed))
            for seed in range(config.seed, config.seed + config.num_seeds)
        }
        draw(run, results)
        real = about.jury.real if about.jury is not None else {}
        path = run.finish({f"real {name}": entry for name, entry in real.items()} | summary(config, results))
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
