"""A Bayesian LSTM language model: Bayes by Backprop through truncated time, beside dropout and neither.

Paper: Fortunato, Blundell & Vinyals, "Bayesian recurrent neural networks", 2017, table 1; Zaremba, Sutskever & Vinyals,
"Recurrent neural network regularization", 2014, for the network and its dropout.

    python -m experiments.bayesian_rnn                          quick: a Markov chain of known entropy, under a minute
    python -m experiments.bayesian_rnn --preset paper           PTB, 200 units, seven hours on one core
    python -m experiments.bayesian_rnn --preset bbb             one of its methods (lstm, dropout, bbb, bbb_sharpened)
    python -m experiments.bayesian_rnn --preset bbb_half        one with another setting (dropout_light, bbb_quarter)
    python -m experiments.bayesian_rnn --preset medium          PTB, 650 units as in the paper: for a GPU
    python -m experiments.bayesian_rnn --preset medium_bbb      one of its methods (medium_lstm, medium_dropout, ...)

Text is read as --num-streams parallel streams, in windows of --length words; the LSTM's state goes on from window to
window, gradients do not. One draw of all weights serves a window. The loss is a mean per word, so that the divergence
from the scale-mixture prior is weighted by one over the number of training words, which is the paper's 1 / (B C) for
sums over a window. Weights and means descend the gradient, as in the papers. The posterior's rho, which a rate that
suits means would hardly move, has Adam. The paper's narrow component of the prior, 0.0025, is not used: mixed for each
weight its gradient is as large as the data's, and clipped with it. After each epoch the perplexity of the validation
text, at the posterior's mean, joins the curve; what is reported of each method is the epoch at which it is least. Both
texts are read as --num-streams streams that begin with a state of zeros, and what does not fill a window is left out.

Expected (650 units, validation and test perplexity): LSTM 120.7 and 114.5, dropout 86.2 and 82.1, Bayesian RNN 78.8 and
75.5, sharpened at most 77.8 and 74.8 (a bound, at theta; here all are judged at the mean of phi).
"""

import dataclasses
from dataclasses import dataclass

from experiments import common

METHODS = ("lstm", "dropout", "bbb", "bbb_sharpened")


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.bayesian_rnn."""

    dataset: str = "synthetic/chain"
    """synthetic/chain, ptb (in ptb/ of --data-dir, or of BAYESJAX_DATA_DIR), or a .txt file, read by characters."""
    methods: tuple[str, ...] = METHODS
    """lstm (no regularisation), dropout, bbb (Bayes by Backprop), bbb_sharpened (by the gradient of each window)."""
    features: int = 32
    """Width of the embedding and of the layers."""
    num_layers: int = 1
    """Layers of LSTM."""
    num_streams: int = 20
    """Parts of the text that are read side by side."""
    length: int = 20
    """Words of a window."""
    unroll: int = 1
    """Words of a window in one turn of the loop over time; as many as there are on a GPU."""
    num_epochs: int = 10
    """Epochs of each method."""
    learning_rate: float = 1.0
    """Of gradient descent, for the loss summed over a window's words; it falls to 0 along a cosine."""
    deviation_learning_rate: float = 1e-3
    """Adam's, for the posterior's rho and the step sizes of sharpening; it falls likewise."""
    clip: float = 5.0
    """Largest norm of a gradient, of the loss summed over a window's words."""
    weight_range: float = 0.1
    """Weights begin uniform between minus this and this."""
    dropout_rate: float = 0.2
    """Of connections that do not recur."""
    initial_scale: float = 0.05
    """Of the posterior's standard deviations."""
    kl_weight: float = 1.0
    """Factor of the divergences."""
    mixture_weight: float = 0.25
    """Of the prior's first component: pi."""
    mixture_scales: tuple[float, float] = (1.0, 0.3)
    """Of the prior's components: sigma_1 and sigma_2."""
    sharpening_scale: float = 0.02
    """Standard deviation of sharpened weights about their centre."""
    sharpening_step: float = 0.002
    """Of the gradient of a window's loss summed over its words, where the step sizes begin."""
    num_draws: int = 10
    """Draws of the weights whose predictions are averaged at the end."""


QUICK = Config()
PAPER = dataclasses.replace(
    QUICK, preset="paper", dataset="ptb", features=200, num_layers=2, length=35, num_epochs=20, dropout_rate=0.3
)
MEDIUM = dataclasses.replace(
    PAPER, preset="medium", features=650, num_epochs=39, unroll=35, weight_range=0.05, dropout_rate=0.5
)
METHOD_BY_METHOD = [dataclasses.replace(PAPER, preset=name, methods=(name,)) for name in METHODS]
METHOD_BY_METHOD += [dataclasses.replace(MEDIUM, preset=f"medium_{name}", methods=(name,)) for name in METHODS[1:]]
# Without regularisation 650 units are at their best after a few epochs: the papers' schedule for such a network.
METHOD_BY_METHOD += [dataclasses.replace(MEDIUM, preset="medium_lstm", methods=("lstm",), num_epochs=13)]
TRIED = [
    dataclasses.replace(PAPER, preset="dropout_light", methods=("dropout",), dropout_rate=0.2),
    dataclasses.replace(PAPER, preset="bbb_half", methods=("bbb",), kl_weight=0.5),
    dataclasses.replace(PAPER, preset="bbb_quarter", methods=("bbb",), kl_weight=0.25),
    dataclasses.replace(MEDIUM, preset="medium_bbb_half", methods=("bbb",), kl_weight=0.5),
    dataclasses.replace(MEDIUM, preset="medium_bbb_quarter", methods=("bbb",), kl_weight=0.25),
]
PRESETS = {preset.preset: preset for preset in (QUICK, PAPER, MEDIUM, *METHOD_BY_METHOD, *TRIED)}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, kernels, models, objectives, plots, posteriors, training
from bayesjax.data.text import TextDataset, chain_entropy_rate
from bayesjax.types import Carried
from experiments import tables

PUBLISHED = {"lstm": (120.7, 114.5), "dropout": (86.2, 82.1), "bbb": (78.8, 75.5), "bbb_sharpened": (77.8, 74.8)}


def window(windows: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Windows in order, over and over: `words [length + 1, num_streams]`, and whether an epoch begins."""
    place = step % len(windows)
    return windows[place], place == 0


class Method(NamedTuple):
    """What one row of the table trains.

    Attributes:
      init: `params -> position`.
      loss: `(position, rng_key, Carried) -> (nats a word, aux)`.
      mean: `position -> params`, to be judged by.
      draw: `(position, rng_key) -> params`; None of a point.
    """

    init: Callable
    loss: Callable
    mean: Callable
    draw: Callable | None


def log_likelihood(model: Any, params: Any, rng_key: jax.Array | None, carried: Carried) -> tuple[jax.Array, dict]:
    """Mean log probability of a window's words, and where the LSTM stands after it."""
    words, is_first = carried.batch
    carry = jax.tree.map(lambda leaf: jnp.where(is_first, 0, leaf), carried.carry)
    rngs = {} if rng_key is None else {"dropout": rng_key}
    logits, carry = model.apply({"params": params}, words[:-1], carry, deterministic=rng_key is None, rngs=rngs)
    return log_probs(logits, words).mean(), {"carry": carry}


def log_probs(logits: jax.Array, words: jax.Array) -> jax.Array:
    """Of every word but the first of each stream, `[length, num_streams]`."""
    picked = jnp.take_along_axis(logits, words[1:, :, None], axis=-1)[..., 0]
    return picked - jax.nn.logsumexp(logits, axis=-1)


def method(config: Config, model: Any, name: str, num_words: int) -> Method:
    """The four of them."""
    if name in ("lstm", "dropout"):

        def loss(params: Any, rng_key: jax.Array, carried: Carried) -> tuple[jax.Array, dict]:
            value, aux = log_likelihood(model, params, rng_key if name == "dropout" else None, carried)
            return -value, aux

        return Method(lambda params: params, loss, lambda params: params, None)
    family = posteriors.mean_field(config.initial_scale)
    kl = posteriors.kl_sampled(posteriors.scale_mixture(config.mixture_weight, config.mixture_scales))

    def of_one(params: Any, rng_key: jax.Array, carried: Carried) -> tuple[jax.Array, dict]:
        return log_likelihood(model, params, None, carried)

    def of_windows(loss: Callable) -> Callable:
        """Of a batch with one window for its one example."""

        def of_window(position: Any, rng_key: jax.Array, carried: Carried) -> tuple[jax.Array, dict]:
            return loss(position, rng_key, jax.tree.map(lambda leaf: leaf[None], carried))

        return of_window

    if name == "bbb":
        bound = objectives.bayes_by_backprop(of_one, family.sample, kl, num_data=num_words, kl_weight=config.kl_weight)
        return Method(family.init, of_windows(bound), lambda variational: variational.mean, family.sample)
    num_in_window = config.length * config.num_streams
    bound = objectives.posterior_sharpening(
        of_one, family.sample, kl, num_data=num_words, num_in_batch=num_in_window, scale=config.sharpening_scale,
        kl_weight=config.kl_weight,
    )  # fmt: skip
    step = config.sharpening_step * num_in_window

    def init(params: Any) -> objectives.SharpenedPosterior:
        return objectives.SharpenedPosterior(
            family.init(params), jax.tree.map(lambda leaf: jnp.full_like(leaf, step), params)
        )

    return Method(
        init,
        of_windows(bound),
        lambda position: position.variational.mean,
        lambda position, rng_key: family.sample(position.variational, rng_key),
    )


def optimizer(config: Config, num_steps: int) -> optax.GradientTransformation:
    """Clipped gradient descent for weights and their means; Adam for what has another unit: rho and step sizes."""
    rate = optax.cosine_decay_schedule(config.learning_rate * config.length, num_steps)  # the loss is a mean per word
    adam = optax.adam(optax.cosine_decay_schedule(config.deviation_learning_rate, num_steps))

    def label(path: tuple, leaf: jax.Array) -> str:
        is_weight = not {"rho", "step_sizes"} & {getattr(key, "name", None) for key in path}
        return "weights" if is_weight else "deviations"

    return optax.multi_transform(
        {
            "weights": optax.chain(optax.clip_by_global_norm(config.clip / config.length), optax.sgd(rate)),
            "deviations": adam,
        },
        functools.partial(jax.tree_util.tree_map_with_path, label),
    )


def perplexity(model: Any, draws: list[Any], windows: np.ndarray) -> float:
    """The exponential of the mean negative log probability a word; of several draws' averaged predictions."""

    @jax.jit
    def of_window(params: Any, words: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        logits, carry = model.apply({"params": params}, words[:-1], carry)
        return log_probs(logits, words), carry

    carries, total = [model.initial_carry((windows.shape[-1],)) for _ in draws], 0.0
    for words in windows:
        found = [of_window(params, words, carry) for params, carry in zip(draws, carries, strict=True)]
        carries = [carry for _, carry in found]
        total += float(
            np.mean(np.logaddexp.reduce([np.asarray(value, float) for value, _ in found]) - math.log(len(draws)))
        )
    return math.exp(-total / len(windows))


def train(run: common.Experiment, text: TextDataset, name: str) -> dict[str, Any]:
    """Trains a method; perplexities of both texts at the best validation epoch and at the end."""
    config = run.config
    streams = min(
        config.num_streams, len(text.validation) // (config.length + 1), len(text.test) // (config.length + 1)
    )
    parts = {
        part: data.text_windows(words, config.num_streams if part == "train" else streams, config.length)
        for part, words in (("train", text.train), ("validation", text.validation), ("test", text.test))
    }
    model = models.LanguageModel(
        len(text.words), config.features, config.num_layers, config.dropout_rate if name == "dropout" else 0.0,
        config.weight_range, config.unroll,
    )  # fmt: skip
    how, steps = method(config, model, name, len(text.train)), len(parts["train"])
    init_key, start_key, run_key, draws_key = jax.random.split(jax.random.key(config.seed), 4)
    carry = model.initial_carry((config.num_streams,))
    params = jax.jit(model.init)(init_key, parts["train"][0, :-1], carry)["params"]
    kernel = kernels.carrying(kernels.optimize(how.loss, optimizer(config, steps * config.num_epochs)), carry)
    start = jax.jit(lambda params: kernel.init(how.init(params), start_key))(params)
    seen = {part: jnp.asarray(parts[part]) for part in ("validation", "test")}

    def observe(state: Any) -> dict[str, jax.Array]:
        """Log perplexities of both texts at the mean."""
        mean = how.mean(state.position)

        def one(carry: Any, words: jax.Array) -> tuple[Any, jax.Array]:
            value, aux = log_likelihood(model, mean, None, Carried((words, jnp.bool_(False)), carry))
            return aux["carry"], value

        return {
            part: -jax.lax.scan(one, model.initial_carry((streams,)), words)[1].mean() for part, words in seen.items()
        }

    windows = jax.tree_util.Partial(window, jnp.asarray(parts["train"]))
    state, trace = training.run(
        run_key, kernel, start, windows, num_steps=steps * config.num_epochs, thinning=steps, keep=observe,
        **run.stage(name),
    )  # fmt: skip
    by_epoch = {part: np.exp(np.asarray(values, float)).tolist() for part, values in trace.draws.items()}
    best = int(np.argmin(by_epoch["validation"]))
    found: dict[str, Any] = {"validation by epoch": by_epoch["validation"], "best epoch": best + 1}
    for part, values in by_epoch.items():
        found |= {part: values[best], f"{part} at the end": values[-1]}
        if how.draw is not None:
            draws = [how.draw(state.position, key) for key in jax.random.split(draws_key, config.num_draws)]
            found[f"{part} at the end, draws averaged"] = perplexity(model, draws, parts[part])
    found["seconds per epoch"] = steps * (trace.seconds - trace.compile_seconds) / trace.steps if trace.steps else None
    return found


def main(config: Config) -> None:
    """Trains every method; writes table, figure and results."""
    with common.Experiment("bayesian_rnn", config) as run:
        common.require_names(config, "methods", METHODS)
        common.require_at_least(
            config, 1, "features", "num_layers", "num_streams", "length", "unroll", "num_epochs", "num_draws"
        )
        common.require_positive(
            config, "learning_rate", "deviation_learning_rate", "clip", "weight_range", "initial_scale", "kl_weight",
            "sharpening_scale", "sharpening_step",
        )  # fmt: skip
        common.require_all_positive(config, "mixture_scales")
        common.require(
            0 < config.mixture_weight < 1, f"--mixture-weight must lie in (0, 1); got {config.mixture_weight}"
        )
        common.require(0 <= config.dropout_rate < 1, f"--dropout-rate must lie in [0, 1); got {config.dropout_rate}")
        text = data.load_text(config.dataset, data_dir=config.data_dir or None)
        found = {name: run.cached(name, functools.partial(train, run, text, name)) for name in config.methods}
        metrics, series = {}, {}
        for name, result in found.items():
            by_epoch = result.pop("validation by epoch")
            series[name] = np.arange(1, len(by_epoch) + 1), np.array(by_epoch)
            metrics |= {f"{name} {measure}": {"value": value} for measure, value in result.items()}
            metrics[f"{name} validation"]["by epoch"] = by_epoch
            if config.dataset == "ptb" and config.features == 650:
                for part, published in zip(("validation", "test"), PUBLISHED[name], strict=True):
                    bound = ", at most" if name == "bbb_sharpened" else ""
                    metrics[f"{name} {part}"] |= {
                        "paper": published,
                        "source": f"Fortunato et al. (2017), 2 x 650 units{bound}",
                    }
        if config.dataset == "synthetic/chain":
            metrics["known perplexity"] = {"value": math.exp(chain_entropy_rate())}
        plots.curves(run.out / "figures" / "perplexity.png", series, xlabel="epoch", ylabel="validation perplexity")
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
