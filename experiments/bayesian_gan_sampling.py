"""Does sampling help a Bayesian GAN with few labels, and when? One setting at a time, at an equal number of updates.

Paper: Saatci & Wilson, "Bayesian GAN", NIPS 2017, section 4.2. Zhang, Li, Zhang, Chen & Wilson, "Cyclical stochastic
gradient MCMC for Bayesian deep learning", ICLR 2020 (step sizes).

    python -m experiments.bayesian_gan_sampling                    quick: numbers of draws on digits, under a minute
    python -m experiments.bayesian_gan_sampling --preset paper     all settings on digits, ten label draws: 40 minutes

The networks, the data and the base setting are those of `bayesian_gan_semisupervised.py`. Each factor changes one
setting of its method bayes, the base; the base is a level of every factor. The levels of a factor:

    method              one GAN, ten GANs, coupled GANs (all by Adam), bayes, ten sampled games
    temperature         0 (gradient descent with momentum), 0.1, 1 and 2
    step sizes          constant; one cycle, or four cycles with restarts, of twice the largest step size
    networks            numbers J_g of generators and J_d of discriminators in the game
    MC samples          M networks for each of them
    labels              the labelled images count as N data, or as N_s
    prior scale         standard deviation of a weight, before it is divided by the square root of the fan-in
    noise               new noise z in every evaluation (the average over noise), or a fixed set of noise vectors
    draws               number of kept draws, of one run

All levels have as many updates of a network as the base: with more networks, a run has fewer steps. Differences from
the base are paired over label draws. R-hat and the effective sample size (ESS) refer to the log probability of the
label of a test image along the draws of one run. The tables have their median over test images and label draws, and
the kinetic temperature of the discriminators relative to T. Draws in cycles have no such diagnostics.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple, get_args

import jax
import numpy as np

from bayesjax import evaluation, plots
from bayesjax.types import Array, Params, PRNGKey
from experiments import bayesian_gan_semisupervised as semisupervised
from experiments.bayesian_gan_semisupervised import Method
from experiments.harness import Column, Count, NonEmpty, Run, Table, cli, row
from experiments.shared import few_labels, games
from experiments.shared.populations import Networks

Factor = Literal[
    "method", "temperature", "step sizes", "networks", "MC samples", "labels", "prior scale", "noise", "draws"
]
BASE = "base"  # the name of the base in run folders
SCORES = {"error %": "errors", "negative log-likelihood": "nll", "ECE %": "ece"}


@dataclass(frozen=True)
class Config(semisupervised.Config):
    """Flags of experiments.bayesian_gan_sampling; --methods has no effect."""

    factors: Annotated[tuple[Factor, ...], NonEmpty] = get_args(Factor)
    """Settings to change; the description above defines them."""
    num_diagnosed: Count = 100
    """Number of test images for R-hat and ESS."""


QUICK = Config(**vars(replace(semisupervised.QUICK, thinning=10)), factors=("draws",))
PAPER = Config(**vars(semisupervised.PAPER))
PAPER = replace(PAPER, num_labelled=(50, 100))
PRESETS = {"quick": QUICK, "paper": PAPER}


class Level(NamedTuple):
    """One level of a factor: a method, its settings, and the size of the fixed set of noise vectors, or None."""

    method: Method
    config: Config
    num_noise: int | None = None


def scaled(config: Config, method: Method = "bayes", **changes: Any) -> Level:
    """A level that differs from the base `config` by `changes`, with the same number of updates of a network."""
    changed = replace(config, **changes)
    num_games = semisupervised.NUM_GAMES if semisupervised.is_repeated(method) else 1
    num = num_games * sum(semisupervised.num_networks(changed, method))
    least = {"num_steps": 4, "num_warmup": 1, "num_burnin": 0, "thinning": 1}
    factor = sum(config.num_networks) / num
    return Level(
        method, replace(changed, **{name: max(round(factor * getattr(config, name)), least[name]) for name in least})
    )


def levels(config: Config, factor: Factor) -> dict[str, Level]:
    """The levels of a factor by name, each with as many updates of a network as the base."""
    bayes = functools.partial(scaled, config)
    match factor:
        case "method":
            return {name: bayes(name) for name in ("dcgan", "dcgan_10", "ml_coupled", "bayes", "bayes_10")}
        case "temperature":
            return {f"{value:g}": bayes(temperature=value) for value in (0.0, 0.1, 1.0, 2.0)}
        case "step sizes":
            cycles = functools.partial(bayes, learning_rate=2 * config.learning_rate)
            return {"constant": bayes(), "one cycle": cycles(num_cycles=1), "four cycles": cycles(num_cycles=4)}
        case "networks":
            sizes = dict.fromkeys([(config.num_generators, config.num_discriminators), (1, 1), (1, 5), (5, 2), (10, 1)])
            return {f"{g} x {d}": bayes(num_generators=g, num_discriminators=d) for g, d in sizes}
        case "MC samples":
            return {str(num): bayes(num_mc_samples=num) for num in (1, 2)}
        case "labels":
            return {"N": bayes(labels_count_as="unlabelled"), "N_s": bayes(labels_count_as="labelled")}
        case "prior scale":
            return {f"{value:g}": bayes(prior_scale=value) for value in (1.0, 3.0, 10.0, 30.0)}
        case "noise":
            sizes = (config.batch_size, 16 * config.batch_size)
            return {"new": bayes()} | {str(num): bayes()._replace(num_noise=num) for num in sizes}
    return {"all": bayes()}


TABLES = [
    Table(
        {"labels": "labels", "factor": "factor", "level": "level"},
        [
            Column("error %", digits=1), Column("negative log-likelihood", digits=3), Column("ECE %", digits=1),
            *[
                Column(f"{measure} minus that of the base", f"{measure} minus base", digits)
                for measure, digits in semisupervised.DIFFERENCES.items()
            ],
            Column("R-hat"), Column("ESS", digits=0), Column("kinetic temperature / T"), Column("draws", digits=0),
            Column("ms per step", digits=1),
        ],
    )
]  # fmt: skip
HEADLINE = "bayesian_gan_sampling-paper-digits", {
    "measure": "error %", "labels": 100, "factor": "temperature", "level": "1",
}  # fmt: skip

# ---- one level


def fix_noise(net: Networks, batch_size: int, num_noise: int) -> Networks:
    """The networks with a set of `num_noise` noise vectors, of which each evaluation uses one batch at random."""
    num_batches = max(num_noise // batch_size, 1)

    def generate(params: Params, rng_key: PRNGKey, num: int) -> Array:
        batch = jax.random.randint(rng_key, (), 0, num_batches)
        return net.generate(params, jax.random.fold_in(jax.random.key(0), batch), num)

    return net._replace(generate=generate)


def diagnose(log_probs: np.ndarray) -> dict[str, float]:
    """Median R-hat and ESS of chains `[num_draws, num_label_draws, n]`, each a run of one label draw."""
    if len(log_probs) < 4:
        return {}
    chain = log_probs.reshape(1, len(log_probs), -1)
    return {
        "R-hat": float(np.median(evaluation.split_r_hat(chain))),
        "ESS": float(np.median(evaluation.effective_sample_size(chain))),
    }


def play(run: Run, splits: few_labels.Splits, level: Level, num_labelled: int, name: str) -> dict[str, Any]:
    """Trains at one level. Returns its scores, also by number of draws, its chain diagnostics and "ms per step"."""
    config, labels = level.config, splits.test.labels
    net = few_labels.networks(config, splits, config.latent_dim)
    if level.num_noise is not None:
        net = fix_noise(net, config.batch_size, level.num_noise)
    trained = semisupervised.train(run, config, net, splits, level.method, num_labelled, name)
    probabilities, trace = trained.probabilities, trained.traces[-1]
    result: dict[str, Any] = {
        "scores": few_labels.score(probabilities.mean(axis=0), labels), "draws": len(probabilities),
        "ms per step": games.timings(trained.traces)["ms per step"], "by draws": {}, "diagnostics": {},
    }  # fmt: skip
    if len(probabilities) > 1:
        numbers = sorted({1, min(5, len(probabilities)), len(probabilities)})
        result["by draws"] = {str(num): few_labels.score(probabilities[-num:].mean(axis=0), labels) for num in numbers}
    if level.method in ("bayes", "bayes_10") and not config.num_cycles:
        chosen = slice(config.num_diagnosed)
        picked = probabilities[:, :, np.arange(len(labels))[chosen], labels[chosen]]
        kinetic = trace.info.players["discriminator"].kinetic_temperature.mean()
        result["diagnostics"] = diagnose(np.log(np.maximum(picked, 1e-30)))
        if config.temperature > 0:
            result["diagnostics"]["kinetic temperature / T"] = float(kinetic / config.temperature)
    return result


# ---- the experiment


def level_rows(scores: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray] | None, **keys: Any) -> list[dict]:
    """Result rows of the scores of a level, and of their differences from the base unless it is None."""
    rows = [row(measure, evaluation.mean_estimate(scores[name]), **keys) for measure, name in SCORES.items()]
    if base is not None and len(scores["errors"]) > 1:
        for measure, name in SCORES.items():
            difference = evaluation.mean_estimate(scores[name] - base[name])
            rows.append(row(f"{measure} minus that of the base", difference, **keys))
    return rows


def draw_figure(run: Run, rows: list[dict], num_labelled: int) -> None:
    """Draws the scores of all levels with one number of labels."""
    panels: dict[str, dict[str, dict[str, float]]] = {measure: {} for measure in SCORES}
    for each in rows:
        if each["labels"] == num_labelled and each["measure"] in panels:
            name = f"{each['factor']}: {each['level']}"
            panels[each["measure"]][name] = {"value": each["value"], "stderr": each.get("stderr", 0.0)}
    plots.estimates(run.figure(f"levels-{num_labelled}.png"), panels)


def main(config: Config) -> None:
    """Trains at every level of every factor; writes the table, the figures and the results."""
    with Run("bayesian_gan_sampling", config) as run:
        splits, rows, base = few_labels.load(config), [], scaled(config)
        for num in config.num_labelled:
            results: dict[Level, dict[str, Any]] = {}  # a level that several factors share is trained once

            def result(level: Level, name: str, num: int = num, results: dict = results) -> dict[str, Any]:
                if level not in results:
                    compute = functools.partial(play, run, splits, level, num, f"{num}-{name}")
                    results[level] = run.part(f"{num}-{name}", compute)
                return results[level]

            reference = result(base, BASE)["scores"]
            for factor in config.factors:
                for name, level in levels(config, factor).items():
                    each, keys = result(level, f"{factor}-{name}".replace(" ", "_")), {"labels": num, "factor": factor}
                    if factor == "draws":
                        for count, scores in each["by draws"].items():
                            compared = None if int(count) == each["draws"] else reference
                            rows += level_rows(scores, compared, **keys, level=count)
                        continue
                    rows += level_rows(each["scores"], None if level == base else reference, **keys, level=name)
                    extra = each["diagnostics"] | {"draws": each["draws"], "ms per step": each["ms per step"]}
                    rows += [row(measure, value, **keys, level=name) for measure, value in extra.items()]
            draw_figure(run, rows, num)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
