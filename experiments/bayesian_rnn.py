"""A Bayesian LSTM language model: Bayes by Backprop through truncated time, beside dropout and no regularisation.

Paper: Fortunato, Blundell & Vinyals, "Bayesian recurrent neural networks", 2017, table 1; Zaremba, Sutskever & Vinyals,
"Recurrent neural network regularization", 2014, for the network and its dropout.

    python -m experiments.bayesian_rnn                          quick: a Markov chain of known entropy, under a minute
    python -m experiments.bayesian_rnn --preset paper           PTB, 200 units, seven hours on one core
    python -m experiments.bayesian_rnn --preset bbb             one method of paper (lstm, dropout, bbb, bbb_sharpened)
    python -m experiments.bayesian_rnn --preset bbb_half        one method, other settings (dropout_light, bbb_quarter)
    python -m experiments.bayesian_rnn --preset medium          PTB, 650 units as in the paper: for a GPU
    python -m experiments.bayesian_rnn --preset medium_bbb      one method of medium (medium_lstm, medium_dropout, ...)

The text is read as --num-streams parallel streams, in windows of --length words. The LSTM's state is carried from one
window to the next, and gradients are truncated between windows. One draw of all weights is used for a window. The loss
is a mean per word, so the KL divergence from the scale-mixture prior has the weight 1 / (number of training words). For
a loss summed over a window, this is the paper's 1 / (B C). Weights and posterior means are trained by gradient descent,
as in the papers. The scale parameters rho of the posterior are trained by Adam, since a learning rate that suits the
means would hardly change them. The paper's narrow prior component of standard deviation 0.0025 is not used. If each
weight has its own mixture, the gradient of this component is as large as the data's, and both are clipped together.
After each epoch the perplexity of the validation text is computed at the posterior mean, and each method is reported at
its best epoch. Validation and test text are read as --num-streams streams that start from a zero state. Words that do
not fill a window are dropped.

Expected (650 units, validation and test perplexity): LSTM 120.7 and 114.5, dropout 86.2 and 82.1, Bayesian RNN 78.8 and
75.5, sharpened at most 77.8 and 74.8. The last two are bounds at the sharpened weights. Here all methods are evaluated
at the posterior mean, without sharpening.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, kernels, models, objectives, plots, posteriors, training
from bayesjax.data.text import TextDataset, chain_entropy_rate
from bayesjax.types import Carried
from experiments.harness import Column, Run, Table, cli, row
from experiments.harness.cli import Count, Positive, Range, RunConfig


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.bayesian_rnn."""

    dataset: str = "synthetic/chain"
    """Text: `synthetic/chain`, `ptb` (ptb/ in --data-dir or BAYESJAX_DATA_DIR), or a .txt file, read by characters."""
    methods: tuple[Literal["lstm", "dropout", "bbb", "bbb_sharpened"], ...] = (
        "lstm", "dropout", "bbb", "bbb_sharpened",
    )  # fmt: skip
    """Methods to compare: lstm (no regularisation), dropout, bbb (Bayes by Backprop), and bbb_sharpened (Bayes by
    Backprop with a posterior sharpened by the gradient of each window)."""
    features: Count = 32
    """Number of units in the embedding and in each LSTM layer."""
    num_layers: Count = 1
    """Number of LSTM layers."""
    num_streams: Count = 20
    """Number of parallel streams into which the text is divided."""
    length: Count = 20
    """Number of words in a window; gradients are truncated between windows."""
    unroll: Count = 1
    """Number of words in one iteration of the compiled loop over a window; on a GPU, a whole window is fastest."""
    num_epochs: Count = 10
    """Number of training epochs of each method."""
    learning_rate: Positive = 1.0
    """Initial learning rate of gradient descent, for the loss summed over a window's words; it decays to 0 along a
    cosine."""
    deviation_learning_rate: Positive = 1e-3
    """Initial learning rate of Adam for the posterior's scale parameters rho and the step sizes of sharpening; it
    decays to 0 along a cosine."""
    clip: Positive = 5.0
    """Norm to which larger gradients of the loss summed over a window's words are clipped."""
    weight_range: Positive = 0.1
    """Bound r of the initial weights, which are uniform between -r and r."""
    dropout_rate: Annotated[float, Range(least=0, below=1)] = 0.2
    """Dropout rate of the non-recurrent connections, in [0, 1), for the method dropout."""
    initial_scale: Positive = 0.05
    """Initial standard deviation of each weight in the variational posterior."""
    kl_weight: Positive = 1.0
    """Weight, above 0, of the KL divergence in the loss; 1 gives the ELBO, and lower values temper the posterior."""
    mixture_weight: Annotated[float, Range(above=0, below=1)] = 0.25
    """Weight pi of the first component of the scale-mixture prior, in (0, 1)."""
    mixture_scales: tuple[Positive, Positive] = (1.0, 0.3)
    """Standard deviations sigma_1 and sigma_2 of the components of the scale-mixture prior."""
    sharpening_scale: Positive = 0.02
    """Standard deviation of sharpened weights around their mean."""
    sharpening_step: Positive = 0.002
    """Initial step size of sharpening, for the gradient of a window's loss summed over its words."""
    num_draws: Count = 10
    """Number of posterior draws of the weights whose predictions are averaged after training."""


PAPER = Config(dataset="ptb", features=200, num_layers=2, length=35, num_epochs=20, dropout_rate=0.3)
MEDIUM = replace(PAPER, features=650, num_epochs=39, unroll=35, weight_range=0.05, dropout_rate=0.5)
PRESETS = {
    "quick": Config(),
    "paper": PAPER,
    "lstm": replace(PAPER, methods=("lstm",)),
    "dropout": replace(PAPER, methods=("dropout",)),
    "dropout_light": replace(PAPER, methods=("dropout",), dropout_rate=0.2),
    "bbb": replace(PAPER, methods=("bbb",)),
    "bbb_half": replace(PAPER, methods=("bbb",), kl_weight=0.5),
    "bbb_quarter": replace(PAPER, methods=("bbb",), kl_weight=0.25),
    "bbb_sharpened": replace(PAPER, methods=("bbb_sharpened",)),
    "medium": MEDIUM,
    # Networks of 650 units without regularisation are best after a few epochs, hence the papers' schedule for them.
    "medium_lstm": replace(MEDIUM, methods=("lstm",), num_epochs=13),
    "medium_dropout": replace(MEDIUM, methods=("dropout",)),
    "medium_bbb": replace(MEDIUM, methods=("bbb",)),
    "medium_bbb_half": replace(MEDIUM, methods=("bbb",), kl_weight=0.5),
    "medium_bbb_quarter": replace(MEDIUM, methods=("bbb",), kl_weight=0.25),
    "medium_bbb_sharpened": replace(MEDIUM, methods=("bbb_sharpened",)),
}
BEST: dict[str, Any] = {"epoch": "best"}
LAST: dict[str, Any] = {"epoch": "last", "weights": "mean"}
AVERAGED: dict[str, Any] = {"epoch": "last", "weights": "draws"}
TABLES = [
    Table(
        {"method": "method", "dropout": "dropout rate", "kl_factor": "KL weight", "num_epochs": "epochs"},
        [
            Column("validation perplexity", "validation", 1, where=BEST),
            Column("validation perplexity", "published validation", field="paper", where=BEST),
            Column("test perplexity", "test", 1, where=BEST),
            Column("test perplexity", "published test", field="paper", where=BEST),
            Column("best epoch", digits=0),
            Column("test perplexity", "test, last epoch", 1, where=LAST),
            Column("test perplexity", "test, last epoch, averaged draws", 1, where=AVERAGED),
            Column("seconds per epoch", digits=1),
        ],
        where={"method": ("lstm", "dropout", "bbb", "bbb_sharpened")},
        note="Perplexities are per word. The best epoch is that of the lowest validation perplexity.",
    ),
    Table({}, [Column("lowest possible perplexity")]),
]
HEADLINE = "bayesian_rnn-medium_bbb_half-ptb", {"measure": "test perplexity", "method": "bbb", **BEST}
PUBLISHED = {  # validation and test perplexity with 650 units
    "lstm": (120.7, 114.5), "dropout": (86.2, 82.1), "bbb": (78.8, 75.5), "bbb_sharpened": (77.8, 74.8),
}  # fmt: skip

# ---- the likelihood of a window, and the losses


def log_probs(logits: jax.Array, words: jax.Array) -> jax.Array:
    """Log probabilities `[length, num_streams]` of the words after the first of `words [length + 1, num_streams]`."""
    picked = jnp.take_along_axis(logits, words[1:, :, None], axis=-1)[..., 0]
    return picked - jax.nn.logsumexp(logits, axis=-1)


def log_likelihood(model: Any, params: Any, rng_key: jax.Array | None, carried: Carried) -> tuple[jax.Array, dict]:
    """Mean log probability of a window's words, and its last LSTM state as "carry"; a key of None turns dropout off."""
    words, is_first = carried.batch
    carry = jax.tree.map(lambda leaf: jnp.where(is_first, 0, leaf), carried.carry)
    rngs = {} if rng_key is None else {"dropout": rng_key}
    logits, carry = model.apply({"params": params}, words[:-1], carry, deterministic=rng_key is None, rngs=rngs)
    return log_probs(logits, words).mean(), {"carry": carry}


class Method(NamedTuple):
    """The functions that initialise a method, train it and predict with it.

    Attributes:
      init: `params -> position`.
      loss: `(position, rng_key, Carried) -> (nats per word, aux)`.
      mean: `position -> params`, the weights at which perplexity is computed.
      draw: `(position, rng_key) -> params`, a posterior draw; None for a point estimate.
    """

    init: Callable
    loss: Callable
    mean: Callable
    draw: Callable | None


def build(config: Config, model: Any, method: str, num_words: int) -> Method:
    """Returns the functions of a method for a training text of `num_words` words."""
    if method in ("lstm", "dropout"):

        def loss(params: Any, rng_key: jax.Array, carried: Carried) -> tuple[jax.Array, dict]:
            value, aux = log_likelihood(model, params, rng_key if method == "dropout" else None, carried)
            return -value, aux

        return Method(lambda params: params, loss, lambda params: params, None)

    family = posteriors.mean_field(config.initial_scale)
    kl = posteriors.kl_sampled(posteriors.scale_mixture(config.mixture_weight, config.mixture_scales))

    def window_likelihood(params: Any, rng_key: jax.Array, carried: Carried) -> tuple[jax.Array, dict]:
        return log_likelihood(model, params, None, carried)

    def on_window(batch_loss: Callable) -> Callable:
        """Converts a loss of batches to a loss of one window, the only example of its batch."""
        return lambda position, rng_key, carried: batch_loss(
            position, rng_key, jax.tree.map(lambda leaf: leaf[None], carried)
        )

    if method == "bbb":
        bound = objectives.bayes_by_backprop(
            window_likelihood, family.sample, kl, num_data=num_words, kl_weight=config.kl_weight
        )
        return Method(family.init, on_window(bound), lambda variational: variational.mean, family.sample)

    num_in_window = config.length * config.num_streams
    bound = objectives.posterior_sharpening(
        window_likelihood, family.sample, kl, num_data=num_words, num_in_batch=num_in_window,
        scale=config.sharpening_scale, kl_weight=config.kl_weight,
    )  # fmt: skip
    step = config.sharpening_step * num_in_window

    def init(params: Any) -> objectives.SharpenedPosterior:
        return objectives.SharpenedPosterior(
            family.init(params), jax.tree.map(lambda leaf: jnp.full_like(leaf, step), params)
        )

    return Method(
        init,
        on_window(bound),
        lambda position: position.variational.mean,
        lambda position, rng_key: family.sample(position.variational, rng_key),
    )


def optimizer(config: Config, num_steps: int) -> optax.GradientTransformation:
    """Gradient descent with clipping for weights and their means; Adam for rho and step sizes, whose units differ."""
    rate = optax.cosine_decay_schedule(config.learning_rate * config.length, num_steps)  # the loss is a mean per word
    adam = optax.adam(optax.cosine_decay_schedule(config.deviation_learning_rate, num_steps))

    def label(path: tuple, leaf: jax.Array) -> str:
        is_weight = not {"rho", "step_sizes"} & {getattr(key, "name", None) for key in path}
        return "weights" if is_weight else "deviations"

    descent = optax.chain(optax.clip_by_global_norm(config.clip / config.length), optax.sgd(rate))
    labels = functools.partial(jax.tree_util.tree_map_with_path, label)
    return optax.multi_transform({"weights": descent, "deviations": adam}, labels)


# ---- training and perplexity


def perplexity(model: Any, draws: list[Any], windows: np.ndarray) -> float:
    """Perplexity per word of `windows [num, length + 1, num_streams]`, with predictions averaged over draws."""

    @jax.jit
    def predict(params: Any, words: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        logits, carry = model.apply({"params": params}, words[:-1], carry)
        return log_probs(logits, words), carry

    carries, total = [model.initial_carry((windows.shape[-1],)) for _ in draws], 0.0
    for words in windows:
        predictions = [predict(params, words, carry) for params, carry in zip(draws, carries, strict=True)]
        carries = [carry for _, carry in predictions]
        values = [np.asarray(value, float) for value, _ in predictions]
        total += float(np.mean(np.logaddexp.reduce(values) - math.log(len(draws))))
    return math.exp(-total / len(windows))


def take_window(windows: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The window of a step, `words [length + 1, num_streams]`, and whether it begins an epoch."""
    place = step % len(windows)
    return windows[place], place == 0


def train(run: Run, text: TextDataset, method: str) -> dict[str, Any]:
    """Trains a method.

    Returns:
      `by_epoch`, perplexities of validation and test text at the mean weights after each epoch; `averaged`, those of
      predictions averaged over draws after the last epoch; and `seconds` per epoch.
    """
    config = run.config
    num_streams = min(config.num_streams, min(len(text.validation), len(text.test)) // (config.length + 1))
    windows = data.text_windows(text.train, config.num_streams, config.length)
    held_out = {
        "validation": data.text_windows(text.validation, num_streams, config.length),
        "test": data.text_windows(text.test, num_streams, config.length),
    }
    model = models.LanguageModel(
        len(text.words), config.features, config.num_layers, config.dropout_rate if method == "dropout" else 0.0,
        config.weight_range, config.unroll,
    )  # fmt: skip
    setup, steps = build(config, model, method, len(text.train)), len(windows)
    init_key, start_key, run_key, draws_key = jax.random.split(jax.random.key(config.seed), 4)
    carry = model.initial_carry((config.num_streams,))
    params = jax.jit(model.init)(init_key, windows[0, :-1], carry)["params"]
    kernel = kernels.carrying(kernels.optimize(setup.loss, optimizer(config, steps * config.num_epochs)), carry)
    kernel, options = run.stage(method, kernel)
    state = jax.jit(lambda params: kernel.init(setup.init(params), start_key))(params)
    on_device = {name: jnp.asarray(array) for name, array in held_out.items()}

    def observe(state: Any) -> dict[str, jax.Array]:
        """Log perplexities of validation and test text at the mean weights."""
        mean = setup.mean(state.position)

        def scan_window(carry: Any, words: jax.Array) -> tuple[Any, jax.Array]:
            value, aux = log_likelihood(model, mean, None, Carried((words, jnp.bool_(False)), carry))
            return aux["carry"], value

        start = model.initial_carry((num_streams,))
        return {name: -jax.lax.scan(scan_window, start, words)[1].mean() for name, words in on_device.items()}

    state, trace = training.run(
        run_key, kernel, state, jax.tree_util.Partial(take_window, jnp.asarray(windows)),
        num_steps=steps * config.num_epochs, thinning=steps, keep=observe, **options,
    )  # fmt: skip
    averaged = {}
    if setup.draw is not None:
        draws = [setup.draw(state.position, key) for key in jax.random.split(draws_key, config.num_draws)]
        averaged = {name: perplexity(model, draws, array) for name, array in held_out.items()}
    by_epoch = {name: np.exp(np.asarray(values, float)) for name, values in trace.draws.items()}
    seconds = steps * (trace.seconds - trace.compile_seconds) / trace.steps if trace.steps else None
    return {"by_epoch": by_epoch, "averaged": averaged, "seconds": seconds}


def make_rows(config: Config, method: str, result: dict[str, Any]) -> list[dict]:
    """Result rows of a method, with the published perplexities where they apply."""
    keys: dict[str, Any] = {"method": method}
    if method != "lstm":
        keys |= {"dropout": config.dropout_rate} if method == "dropout" else {"kl_factor": config.kl_weight}
    best = int(np.argmin(result["by_epoch"]["validation"]))
    rows = [row("best epoch", best + 1, **keys), row("seconds per epoch", result["seconds"], **keys)]
    for i, (text, values) in enumerate(result["by_epoch"].items()):
        measure, published = f"{text} perplexity", {}
        if config.dataset == "ptb" and config.features == 650:
            bound = ", at most" if method == "bbb_sharpened" else ""
            published = {"paper": PUBLISHED[method][i], "source": f"Fortunato et al. (2017), 2 x 650 units{bound}"}
        by_epoch = {"values": values} if text == "validation" else {}
        rows.append(row(measure, values[best], **keys, **BEST, **published, **by_epoch))
        rows.append(row(measure, values[-1], **keys, **LAST))
        if result["averaged"]:
            rows.append(row(measure, result["averaged"][text], **keys, **AVERAGED))
    return rows


def main(config: Config) -> None:
    """Trains every method; writes the figure and the results."""
    with Run("bayesian_rnn", config, one_device=True) as run:
        text = data.load_text(config.dataset, data_dir=config.data_dir or None)
        rows, curves = [], {}
        for method in config.methods:
            result = run.part(method, functools.partial(train, run, text, method))
            values = result["by_epoch"]["validation"]
            curves[method] = np.arange(1, len(values) + 1), values
            rows += make_rows(config, method, result)
        if config.dataset == "synthetic/chain":
            rows.append(row("lowest possible perplexity", math.exp(chain_entropy_rate())))
        plots.curves(run.figure("perplexity.png"), curves, xlabel="epoch", ylabel="validation perplexity")
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
