"""One network, one prior, one data set, and everything that claims to know its posterior.

Papers: Izmailov, Vikram, Hoffman & Wilson, "What are Bayesian neural network posteriors really like?", ICML 2021 (HMC
as the reference; agreement and total variation, section 7); Zhang et al., "Cyclical stochastic gradient MCMC for
Bayesian deep learning", ICLR 2020.

    python -m experiments.bnn_posterior                    quick: 400 digits, 20 units, under a minute
    python -m experiments.bnn_posterior --preset paper     1000 digits, two layers of 50 units

HMC runs --num-chains chains with the whole data set; the predictive of one half of the chains is the reference, and
the row `hmc` is the other half. All others have the same network, prior and images: SGHMC, cyclical SGHMC, SGLD with
and without RMSprop's preconditioner, SGNHT; Bayes by Backprop; MC dropout (whose prior is its weight decay); an
ensemble of modes, one mode, and the Gaussian of its last layer. Effective sample sizes and R-hat are of the log odds
that test images' labels get: weights have no identity, since units may be exchanged.

Expected (the paper's ResNet-20 on CIFAR-10, table 6, as recalled): HMC agrees with itself best, then SGHMC and cyclical
SGHMC and ensembles; mean-field VI and dropout are further.
"""

from experiments import common
from experiments.bnn_posterior_flags import PRESETS

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special

from bayesjax import data, evaluation, kernels, models, objectives, posteriors, training
from bayesjax.evaluation import agreement, calibration
from bayesjax.objectives.heteroscedastic import categorical_log_likelihood
from bayesjax.types import Density, Kernel
from experiments import bnn_posterior_flags, tables
from experiments.bnn_posterior_flags import Config
from experiments.classification import Images, log_likelihood, splits


class Problem(NamedTuple):
    """What all methods share.

    Attributes:
      train, test: images.
      model: the network.
      init: `rng_key -> params`.
      apply: `(params, x [num, pixels]) -> logits [num, num_classes]`.
      density: the log posterior of a batch.
      prior_variances: a tree like the parameters.
    """

    train: Images
    test: Images
    model: models.MLP
    init: Callable
    apply: Callable
    density: Density
    prior_variances: Any


class Found(NamedTuple):
    """What a method says of the test images.

    Attributes:
      logits: of its draws, `[num_chains, num_draws, num_test, num_classes]`.
      gradients: spent, in passes over the training set; of all chains.
      is_chain: whether draws of a chain are in the order of a Markov chain.
    """

    logits: np.ndarray
    gradients: float
    is_chain: bool


def problem(config: Config) -> Problem:
    """The network, its prior and the images."""
    train, test, num_classes = splits(config, flat=True)
    for name, part in (("num_train", train), ("num_test", test)):
        wanted = getattr(config, name)
        flag = name.replace("_", "-")
        common.require(wanted <= len(part.x), f"--{flag} must be at most {len(part.x)}; got {wanted}")
    train, test = Images(*(a[: config.num_train] for a in train)), Images(*(a[: config.num_test] for a in test))
    model = models.MLP((*config.hidden, num_classes), activation=jnp.tanh)

    def apply(params: Any, x: Any) -> Any:
        return model.apply({"params": params}, x)

    def init(rng_key: jax.Array) -> Any:
        return model.init(rng_key, train.x[:1])["params"]

    fit = log_likelihood(lambda params, rng_key, x: apply(params, x))
    density = posteriors.log_posterior(fit, posteriors.fan_in_gaussian(config.prior_scale), len(train.x))
    scales = posteriors.fan_in_scales(jax.eval_shape(init, jax.random.key(0)), config.prior_scale)
    return Problem(train, test, model, init, apply, density, jax.tree.map(lambda sd: sd**2, scales))


def predicted(found: Problem, draws: Any) -> np.ndarray:
    """Logits `[num_chains, num_draws, num_test, num_classes]` of draws with leaves `[num_draws, num_chains, ...]`."""
    num_draws, num_chains = jax.tree.leaves(draws)[0].shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws)
    logits = np.asarray(evaluation.predict(found.apply, flat, found.test.x))
    return logits.reshape(num_draws, num_chains, *logits.shape[1:]).swapaxes(0, 1)


def steps_of(config: Config, num_epochs: int) -> int:
    """Steps of so many epochs."""
    return num_epochs * max(1, config.num_train // config.batch_size)


# ---- samplers


def hmc(run: common.Experiment, found: Problem) -> Found:
    """Chains from the network's initial weights, with the prior's variances for a mass, all data at once."""
    config = run.config
    make = functools.partial(
        kernels.hmc, found.density, num_integration_steps=config.num_integration_steps, full_batch=True
    )
    one = kernels.adapt(
        make, num_steps=config.num_warmup, step_size=0.05, mass="fixed", inverse_mass_matrix=found.prior_variances
    )
    images = jax.tree.map(jnp.asarray, found.train)
    num_steps = config.num_warmup + config.num_hmc_draws
    draws = chains(run, found, "hmc", one, images, num_steps=num_steps, num_burnin=config.num_warmup, thinning=1)
    return Found(predicted(found, draws), config.num_chains * num_steps * config.num_integration_steps, True)


def of_minibatches(run: common.Experiment, found: Problem, name: str) -> Found:
    """A sampler with minibatches and a constant (or cyclical) step size."""
    config, num_data = run.config, len(found.train.x)
    num_steps = steps_of(config, config.num_epochs)
    thinning = max(1, num_steps // 2 // config.num_draws)
    num_steps = 2 * config.num_draws * thinning
    rate, cycle = config.learning_rate / num_data, None
    if name == "csghmc":
        cycle = kernels.cyclical(4 * rate, num_steps=num_steps, num_cycles=config.num_cycles, exploration=0.7)
        kernel = kernels.sghmc(
            found.density, step_size=cycle.step_size, temperature=cycle.temperature, friction=config.friction
        )
    elif name == "sgld":
        kernel = kernels.sgld(found.density, step_size=config.sgld_learning_rate / num_data)
    elif name == "psgld":
        rms = kernels.rmsprop(num_data, epsilon=1e-3, num_adaptation=num_steps // 2)
        kernel = kernels.sgld(found.density, step_size=config.psgld_learning_rate / num_data, preconditioner=rms)
    else:
        method = kernels.sghmc if name == "sghmc" else kernels.sgnht
        kernel = method(found.density, step_size=rate, friction=config.friction)
    batches = data.Minibatches(jax.random.key(config.seed + 2), found.train, config.batch_size)
    num_burnin = 0 if cycle else num_steps // 2
    draws = chains(run, found, name, kernel, batches, num_steps=num_steps, num_burnin=num_burnin, thinning=thinning)
    if cycle is not None:
        steps = np.arange(thinning, num_steps + 1, thinning) - 1  # of the last step before each draw
        sampled = np.asarray(cycle.is_sampling(steps))
        draws = jax.tree.map(lambda leaf: leaf[sampled], draws)
    passes = config.num_chains * num_steps * config.batch_size / num_data
    return Found(predicted(found, draws), passes, cycle is None)


def chains(
    run: common.Experiment, found: Problem, label: str, kernel: Kernel, batches: Any, *,
    num_steps: int, num_burnin: int, thinning: int,
) -> Any:  # fmt: skip
    """Draws of `num_chains` copies of a kernel, leaves `[num_draws, num_chains, ...]`."""
    num_chains = run.config.num_chains
    own_key = jax.random.fold_in(jax.random.key(run.config.seed + 1), zlib.crc32(label.encode()))
    start_key, init_key, run_key = jax.random.split(own_key, 3)
    copies = run.spread(kernels.particles(kernel, num_chains))
    position = jax.jit(jax.vmap(found.init))(jax.random.split(start_key, num_chains))
    state = jax.jit(copies.init)(position, init_key)
    _, trace = training.run(
        run_key, copies, state, batches, num_steps=num_steps, num_burnin=num_burnin, thinning=thinning,
        **run.stage(label),
    )  # fmt: skip
    return trace.draws


# ---- optimisers


def minimised(
    run: common.Experiment, found: Problem, label: str, loss: Any, init: Callable, num: int, num_epochs: int = 0
) -> Any:
    """Positions of `num` trainings with Adam, leaves `[num, ...]`; of --num-optimizer-epochs if not of others."""
    config = run.config
    num_steps = steps_of(config, num_epochs or config.num_optimizer_epochs)
    adam = optax.adam(optax.cosine_decay_schedule(config.optimizer_learning_rate, num_steps))
    kernel = run.spread(kernels.particles(kernels.optimize(loss, adam), num))
    init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed + 3), 3)
    batches = data.Minibatches(jax.random.key(config.seed + 2), found.train, config.batch_size)
    position = jax.jit(jax.vmap(init))(jax.random.split(init_key, num))
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, start_key), batches, num_steps=num_steps,
        keep=lambda state: (), **run.stage(label),
    )  # fmt: skip
    return training.fetch(state.position)


def modes(run: common.Experiment, found: Problem, label: str, num: int) -> Any:
    """Maxima of the posterior, from different starts, leaves `[num, ...]`."""

    def loss(params: Any, rng_key: jax.Array, batch: Any) -> Any:
        value, _ = found.density(params, rng_key, batch)
        return -value / len(found.train.x)

    return minimised(run, found, label, loss, found.init, num)


def optimised(run: common.Experiment, found: Problem, name: str) -> Found:
    """The methods that train by gradient descent."""
    config, num_data = run.config, len(found.train.x)
    keys = jax.random.split(jax.random.key(config.seed + 4), config.num_draws)
    if name in ("map", "ensemble"):
        num = 1 if name == "map" else config.num_members
        draws = modes(run, found, name, num)
        return independent(predicted(found, with_chain(draws)), num * config.num_optimizer_epochs)
    if name == "laplace":
        mode = jax.tree.map(lambda leaf: leaf[0], modes(run, found, "map", 1))  # that of `map`, not trained twice
        *_, last = mode

        def features(x: Any) -> Any:
            return found.model.apply({"params": mode}, x, method="embed")

        seen, variances = jax.jit(features)(found.train.x), found.prior_variances[last]
        posterior = posteriors.last_layer_laplace(
            categorical_log_likelihood, mode[last]["kernel"], mode[last]["bias"], seen, jnp.asarray(found.train.y),
            (1 / variances["kernel"], 1 / variances["bias"]),
        )  # fmt: skip
        kernels_of, biases = jax.vmap(posteriors.sample_last_layer, in_axes=(None, 0))(posterior, keys)
        logits = features(found.test.x) @ kernels_of + biases[:, None]
        return independent(np.asarray(logits)[None], config.num_optimizer_epochs)
    if name == "bbb":
        family = posteriors.mean_field(0.05)
        kl = posteriors.kl_to_fan_in_gaussian(config.prior_scale)
        fit = log_likelihood(models.flipout(found.model))
        loss = objectives.bayes_by_backprop(fit, family.perturb, kl, num_data=num_data)
        start = lambda key: family.init(found.init(key))  # noqa: E731
        trained = minimised(run, found, name, loss, start, 1, num_epochs=config.num_bbb_epochs)
        variational = jax.tree.map(lambda leaf: leaf[0], trained)
        draws = jax.vmap(family.sample, in_axes=(None, 0))(variational, keys)
        return independent(predicted(found, with_chain(draws)), config.num_bbb_epochs)
    return dropped(run, found, keys)


def dropped(run: common.Experiment, found: Problem, keys: jax.Array) -> Found:
    """MC dropout: masks are the draws; the weights' penalty is the prior's."""
    config = run.config
    model = found.model.clone(dropout_rate=config.dropout_rate)

    def apply(params: Any, rng_key: jax.Array, x: Any) -> Any:
        return model.apply({"params": params}, x, deterministic=False, rngs={"dropout": rng_key})

    prior = posteriors.fan_in_gaussian(config.prior_scale)
    density = posteriors.log_posterior(log_likelihood(apply), prior, len(found.train.x))

    def loss(params: Any, rng_key: jax.Array, batch: Any) -> Any:
        return -density(params, rng_key, batch)[0] / len(found.train.x)  # pyright: ignore[reportOptionalSubscript]

    params = jax.tree.map(lambda leaf: leaf[0], minimised(run, found, "mc_dropout", loss, found.init, 1))
    of_mask = jax.jit(jax.vmap(lambda key: apply(params, key, found.test.x)))
    return independent(np.asarray(of_mask(keys))[None], config.num_optimizer_epochs)


def with_chain(draws: Any) -> Any:
    """Leaves `[num_draws, ...]` as those of one chain."""
    return jax.tree.map(lambda leaf: leaf[:, None], draws)


def independent(logits: np.ndarray, num_epochs: int) -> Found:
    """What so many epochs of Adam say."""
    return Found(logits, num_epochs, False)


# ---- the run


def mean_of_draws(logits: np.ndarray) -> np.ndarray:
    """The predictive `[num_test, num_classes]` of draws `[num_chains, num_draws, num_test, num_classes]`."""
    return special.softmax(logits.astype(float), axis=-1).mean(axis=(0, 1))


def judged(found: Found, reference: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """A method's measures; `{value, stderr}` where there is an error."""
    predictive = mean_of_draws(found.logits)
    error = evaluation.error_rate(predictive, labels)
    measures: dict[str, Any] = {
        "error %": {"value": 100 * error.value, "stderr": 100 * error.stderr},
        "nll": evaluation.negative_log_likelihood(predictive, labels)._asdict(),
        "ece": {"value": calibration.expected_calibration_error(predictive, labels)},
        "agreement %": {
            key: 100 * value for key, value in agreement.agreement(predictive, reference)._asdict().items()
        },
        "total variation": agreement.total_variation(predictive, reference)._asdict(),
        "passes": {"value": found.gradients},
    }
    if found.is_chain:
        is_label = np.arange(found.logits.shape[-1]) == labels[:, None]
        of_label = found.logits[..., is_label]
        scores = of_label - special.logsumexp(np.where(is_label, -np.inf, found.logits), axis=-1)  # log odds
        ess = np.asarray(evaluation.effective_sample_size(scores, "bulk"), float)
        measures["r hat"] = {"value": float(np.max(evaluation.r_hat(scores)))}
        measures["bulk ess"] = {"value": float(ess.min())}
        measures["bulk ess a 1000 passes"] = {"value": float(1000 * ess.min() / found.gradients)}
    return measures


def main(config: Config) -> None:
    """Runs every method, judges it against HMC, writes table and results."""
    with common.Experiment("bnn_posterior", config) as run:
        bnn_posterior_flags.check(config)
        task = problem(config)
        metrics: dict[str, dict] = {}
        for name in config.methods:
            if name == "hmc":
                everything = hmc(run, task)
                half = config.num_chains // 2
                reference = mean_of_draws(everything.logits[:half])
                agreement.save_reference(run.out / "parts" / "reference.csv", reference)
                other = everything.logits[half:]
                whole = judged(everything, reference, task.test.y)
                measures = judged(Found(other, everything.gradients / 2, False), reference, task.test.y) | {
                    key: whole[key] for key in ("r hat", "bulk ess", "bulk ess a 1000 passes")
                }
            elif name in ("bbb", "mc_dropout", "ensemble", "laplace", "map"):
                measures = judged(optimised(run, task, name), reference, task.test.y)
            else:
                measures = judged(of_minibatches(run, task, name), reference, task.test.y)
            metrics |= {f"{name} {measure}": entry for measure, entry in measures.items()}
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}")


if __name__ == "__main__":
    main(CONFIG)
