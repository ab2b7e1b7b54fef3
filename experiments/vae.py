"""Variational auto-encoders: bounds, likelihoods and what the latent space holds.

Papers: Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014 (figures 2, 4 and 5); Burda, Grosse &
Salakhutdinov, "Importance weighted autoencoders", ICLR 2016 (table 1); Wu et al., "On the quantitative analysis of
decoder-based generative models", ICLR 2017 (annealed importance sampling).

    python -m experiments.vae                             quick: digits, 2 and 10 latent dimensions: under a minute
    python -m experiments.vae --preset paper              MNIST, 784-500-20, ReLU, resampled binarisation, 20 epochs
    python -m experiments.vae --preset likelihood         fixed binarised MNIST, 784-300-300-50: the ELBO and IWAE-50
    python -m experiments.vae --preset annealed           10 latents: importance sampling beside annealing
    python -m experiments.vae --preset faces --dataset frey_faces.npy

There is a model for each of --latent-dims and --bounds. After each epoch its negative ELBO on the test set, one draw an
image, joins the curve; at the end come log p(x) by importance sampling (--likelihood-samples draws for each of the
first --num-likelihood test images), by annealing (--num-annealed) and the active units. --estimators trains the first
model's networks again by each gradient of the ELBO (closed-form divergence, SGVB B; sampled divergence, SGVB A; score
function), for the curve of the bound against training samples, and compares the estimators' variances where training
left off. Settings are chosen with --num-validation: training images that stand in for the test set.

Expected (paper preset): test -ELBO 119.74, 112.05, 109.34, 106.06 after epochs 1, 2, 3 and 5, 103.60 after 10 and
101.83 after 20. That is Flax's VAE example: the same networks and optimiser, but Larochelle's fixed binarisation of
50000 images, 390 steps an epoch, where this has all 60000 drawn anew, 468 steps. (likelihood preset): NLL of pythae's
reproductions 89.78 (ELBO) and 86.82 (IWAE-50), on Larochelle's binarisation and with longer training; "fixed" here is a
draw of our own.
"""

from experiments import common
from experiments.vae_flags import PRESETS

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from bayesjax import data, evaluation, kernels, noise, objectives, training, tree
from bayesjax.evaluation import likelihood
from bayesjax.models import vae
from bayesjax.objectives import elbo
from experiments import tables, vae_figures, vae_flags
from experiments.parts import in_parts, load, save
from experiments.vae_flags import Config

NUM_VARIANCE = 200  # draws for an estimator's variance
NUM_SAMPLED, NUM_ANNEALED = 1000, 100  # images whose likelihoods are estimated at a time
FLAX_EXAMPLE = {1: 119.74, 2: 112.05, 3: 109.34, 5: 106.06, 10: 103.60, 20: 101.83}  # test -ELBO by epoch
SHOWN_EPOCHS = (1, 2, 3, 5, 10, 15, 20, 50, 100, 1000)


# ---- data: grey or binary, as the configuration names it


def splits(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training images, those to judge by, and the latter's labels (none if there are none)."""
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    train, test, held = dataset.train, dataset.test, config.num_validation
    common.require(len(test) > 1 or held > 0, f"--dataset {config.dataset} must have at least 2 test examples")
    common.require(
        train.inputs.ndim == 4 and train.inputs.shape[-1] in (1, 3, 4),
        f"--dataset {config.dataset} must be of images [num, height, width, 1, 3 or 4]; got {train.inputs.shape}",
    )
    common.require(held < len(train), f"--num-validation must be less than the {len(train)} training images")
    train_set, test_set, labels = train.inputs, test.inputs, test.labels
    if held:
        train_set, test_set, labels = train_set[:-held], train_set[-held:], train.labels[-held:]
    if config.binarise == "fixed":
        train_set = binarised_once(train_set, seed=1)
    if config.binarise != "none":
        test_set = binarised_once(test_set, seed=2)
    return train_set, test_set, labels


def binarised_once(images: np.ndarray, seed: int) -> np.ndarray:
    """One draw of every pixel."""
    return np.asarray(jax.jit(noise.bernoulli)(jax.random.key(seed), jnp.asarray(images)))


def batches(config: Config, rng_key: jax.Array, images: np.ndarray) -> Callable:
    """Training batches by the step."""
    order_key, draw_key = jax.random.split(rng_key)
    source = data.Minibatches(order_key, images, config.batch_size)
    return data.Binarised(draw_key, source) if config.binarise == "resampled" else source


# ---- a model and its training


def networks(config: Config, shape: tuple[int, ...], latent_dim: int) -> tuple[Any, Callable, Callable]:
    """The Flax module, and its two conditionals as functions of the parameters."""
    model = vae.VAE(
        latent_dim, shape, hidden=config.hidden, likelihood=config.likelihood, architecture=config.architecture,
        activation={"tanh": jnp.tanh, "relu": jax.nn.relu}[config.activation], mean_activation=jax.nn.sigmoid,
    )  # fmt: skip
    return model, *vae.conditionals(model)


def loss_of(config: Config, shape: tuple[int, ...], latent_dim: int, bound: str) -> Callable:
    """The loss of a batch: one of --bounds, or the ELBO by one of --estimators."""
    model, encode, decode = networks(config, shape, latent_dim)
    parts, (kind, _, num) = (encode, decode, model.prior()), bound.partition("-")
    if kind == "iwae":
        return objectives.batch_mean(elbo.negative_iwae_bound(*parts, num_samples=int(num)))
    how: dict[str, Any] = {"gradient": bound} if bound == "score_function" else {}
    if bound in elbo.KL:
        how = {"kl": bound}
    return objectives.batch_mean(elbo.negative_elbo(*parts, num_samples=int(num or 1), **how))


def train(
    run: common.Experiment, train_set: np.ndarray, test_set: np.ndarray, latent_dim: int, bound: str
) -> dict[str, Any]:
    """Trains a model; leaves its parameters in `parts/`. ELBOs on the test set, epoch by epoch, and seconds."""
    config, shape = run.config, train_set.shape[1:]
    num_epochs, epochs_before, before = length(config, bound)
    steps = max(1, len(train_set) // config.batch_size)
    rate = config.learning_rate
    optimizer = optax.adam(
        rate if config.schedule == "constant" else optax.cosine_decay_schedule(rate, steps * num_epochs)
    )
    data_key, init_key, start_key, run_key, test_key = jax.random.split(jax.random.key(config.seed), 5)
    kernel = run.spread(kernels.optimize(loss_of(config, shape, latent_dim, bound), optimizer))
    judge, seen = loss_of(config, shape, latent_dim, "closed_form"), train_set[: len(test_set)]
    if config.binarise == "resampled":
        seen = binarised_once(seen, seed=3)
    train_images, test_images = jnp.asarray(seen), jnp.asarray(test_set)

    def observe(state: Any) -> dict:
        """Negative ELBO of the test set, and of as many training images."""
        loss, aux = judge(state.position, test_key, test_images)
        return {"test": loss, "kl": aux["kl"], "train": judge(state.position, test_key, train_images)[0]}

    model, _, _ = networks(config, shape, latent_dim)
    if before:
        params = load(run, part(latent_dim, before))
    else:
        params = jax.jit(model.init)(init_key, train_set[:1])["params"]
        if config.centred:
            mean = jnp.clip(train_set.mean(axis=0), 0.01, 0.99)
            params = vae.set_output_bias(model, params, jax.scipy.special.logit(mean))
    state = jax.jit(kernel.init)(params, start_key)
    state, trace = training.run(
        run_key, kernel, state, batches(config, data_key, train_set),
        num_steps=steps * num_epochs, thinning=steps, keep=observe, **run.stage(part(latent_dim, bound)),
    )  # fmt: skip
    save(run, part(latent_dim, bound), training.fetch(state.position))
    return {
        **{name: np.asarray(values, float).tolist() for name, values in trace.draws.items()},
        "seconds_per_epoch": steps * (trace.seconds - trace.compile_seconds) / trace.steps if trace.steps else None,
        "images_per_epoch": steps * config.batch_size,
        "epochs_before": epochs_before,
    }


def length(config: Config, bound: str) -> tuple[int, int, str | None]:
    """Epochs, those before them, and the bound whose parameters are the first ones; None for fresh ones."""
    if bound in vae_flags.ESTIMATORS:
        return config.estimator_epochs, 0, None
    place = config.bounds.index(bound)
    if place and config.warm_epochs:
        return config.warm_epochs, config.num_epochs + (place - 1) * config.warm_epochs, config.bounds[place - 1]
    return config.num_epochs, 0, None


def part(latent_dim: int, bound: str) -> str:
    """What a model's files are called."""
    return f"latent{latent_dim}-{bound}"


# ---- how good a model is


def likelihoods(run: common.Experiment, test_set: np.ndarray, latent_dim: int, bound: str) -> dict[str, Any]:
    """Negative log-likelihood by importance sampling and by annealing, what lies between the two, and active units."""
    config, file = run.config, part(latent_dim, bound)
    model, encode, decode = networks(config, test_set.shape[1:], latent_dim)
    params, prior = load(run, file), model.prior()
    sampling_key, annealing_key = jax.random.split(jax.random.key(config.seed + 3))
    sample = jax.jit(
        functools.partial(likelihood.importance_sampling, encode, decode, prior, num_samples=config.likelihood_samples)
    )
    anneal = jax.jit(
        functools.partial(
            likelihood.annealed_importance_sampling, decode, prior, num_temperatures=config.num_temperatures,
            num_chains=8, num_integration_steps=5,
        )
    )  # fmt: skip

    def sampled(start: int, stop: int) -> dict[str, jax.Array]:
        return {"log_p": sample(params, jax.random.fold_in(sampling_key, start), test_set[start:stop])}

    def annealed(start: int, stop: int) -> dict[str, jax.Array]:
        found = anneal(params, jax.random.fold_in(annealing_key, start), test_set[start:stop])
        return {"log_p": found.log_likelihood, "acceptance": found.acceptance_probability}

    num_sampled = min(config.num_likelihood, len(test_set))
    by_sampling = in_parts(run, f"{file}-sampled", sampled, num_sampled, NUM_SAMPLED)["log_p"]
    found = {
        "NLL": evaluation.mean_estimate(-by_sampling)._asdict(),
        "images of NLL": {"value": num_sampled},
        "active units": {"value": int(likelihood.active_units(encode, params, test_set).sum())},
    }
    if config.num_annealed:
        num = min(config.num_annealed, num_sampled)
        by_annealing = in_parts(run, f"{file}-annealed", annealed, num, NUM_ANNEALED)
        gap = by_annealing["log_p"] - by_sampling[:num]
        found["annealed NLL"] = evaluation.mean_estimate(-by_annealing["log_p"])._asdict()
        found["annealed - sampled log p"] = evaluation.mean_estimate(gap)._asdict()
        found["annealed within 0.5 of sampled %"] = {"value": 100 * float(np.mean(np.abs(gap) < 0.5))}
        found["images of annealed NLL"] = {"value": num}
        found["annealed acceptance"] = {"value": float(by_annealing["acceptance"].mean())}
    return found


def variances(run: common.Experiment, train_set: np.ndarray) -> dict:
    """Total variance of each estimator's gradient in the first model's encoder, on one batch, where training ended."""
    config, latent_dim = run.config, run.config.latent_dims[0]
    params = load(run, part(latent_dim, config.bounds[0]))
    batch = batches(config, jax.random.key(config.seed + 1), train_set)(0)
    keys = jax.random.split(jax.random.key(config.seed + 2), NUM_VARIANCE)

    def total_variance(loss: Callable) -> jax.Array:
        def add(sums: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
            gradient = jax.grad(lambda params: loss(params, key, batch)[0])(params)["encoder"]
            flat, _ = ravel_pytree(gradient)
            return (sums[0] + flat, sums[1] + flat**2), None

        zeros = jnp.zeros(tree.num_elements(params["encoder"]))
        (total, squares), _ = jax.lax.scan(add, (zeros, zeros), keys)
        return jnp.sum(squares / NUM_VARIANCE - (total / NUM_VARIANCE) ** 2)

    losses = {name: loss_of(config, train_set.shape[1:], latent_dim, name) for name in config.estimators}
    return {name: float(jax.jit(functools.partial(total_variance, loss))()) for name, loss in losses.items()}


# ---- the run


def models(config: Config) -> Iterator[tuple[str, int, str]]:
    """Name, latent dimension and bound of each."""
    for latent_dim in config.latent_dims:
        for bound in config.bounds:
            yield f"latent={latent_dim} {bound}", latent_dim, bound


def to_draw(run: common.Experiment, shape: tuple[int, ...]) -> Iterator[vae_figures.Model]:
    """The trained models as the figures need them."""
    for _, latent_dim, bound in models(run.config):
        _, encode, decode = networks(run.config, shape, latent_dim)
        params = load(run, part(latent_dim, bound))
        suffix = f", {bound}" if len(run.config.bounds) > 1 else ""
        yield vae_figures.Model(
            f"{latent_dim} latents{suffix}",
            suffix.replace(", ", "-"),
            latent_dim,
            jax.jit(lambda z, decode=decode, params=params: decode(params, z).mean()),
            jax.jit(lambda x, encode=encode, params=params: encode(params, x).mean()),
        )


def main(config: Config) -> None:
    """Trains every model, estimates likelihoods, compares estimators; writes table, figures and results."""
    with common.Experiment("vae", config) as run:
        vae_flags.check(config)
        train_set, test_set, labels = splits(config)
        found, judged = {}, {}
        for name, latent_dim, bound in models(config):
            file = part(latent_dim, bound)
            found[name] = run.cached(file, functools.partial(train, run, train_set, test_set, latent_dim, bound))
            judge = functools.partial(likelihoods, run, test_set, latent_dim, bound)
            judged[name] = run.cached(f"{file}-likelihood", judge)
        first = config.latent_dims[0]
        compared = {
            name: run.cached(name, functools.partial(train, run, train_set, test_set, first, name))
            for name in config.estimators
        }
        spread = run.cached("variances", functools.partial(variances, run, train_set))
        folder = run.out / "figures"
        vae_figures.draw_models(folder, list(to_draw(run, test_set.shape[1:])), test_set, labels, config.seed)
        vae_figures.draw_curves(folder, found, compared)
        path = run.finish(summarise(config, found, judged, compared, spread))
        print(tables.render(path))
        print(f"results in {path}, figures in {folder}")


def summarise(config: Config, found: dict, judged: dict, compared: dict, spread: dict) -> dict[str, dict]:
    """What goes into the results file."""
    metrics = {}
    for name, result in found.items():
        num_epochs, before = len(result["test"]), result["epochs_before"]
        published = FLAX_EXAMPLE if (config.preset, name) == ("paper", "latent=20 elbo") else {}
        shown = () if before else (epoch for epoch in SHOWN_EPOCHS if epoch < num_epochs)
        for epoch in (*shown, num_epochs):
            suffix = f" epoch {epoch}" if epoch < num_epochs else ""
            entry = metrics[f"{name} test -ELBO{suffix}"] = {"value": result["test"][epoch - 1]}
            if epoch in published:
                entry |= {"paper": published[epoch], "source": "Flax's VAE example, fixed binarisation"}
        metrics[f"{name} test KL"] = {"value": result["kl"][-1]}
        metrics[f"{name} train -ELBO"] = {"value": result["train"][-1]}
        metrics |= {f"{name} {what}": entry for what, entry in judged[name].items()}
        metrics[f"{name} seconds per epoch"] = {"value": result["seconds_per_epoch"]}
        metrics[f"{name} epochs"] = {"value": num_epochs}
        metrics[f"{name} epochs before"] = {"value": before}
    for name, result in compared.items():
        metrics[f"{name} train -ELBO"] = {"value": result["train"][-1]}
        metrics[f"{name} gradient variance"] = {"value": spread[name]}
    return metrics


if __name__ == "__main__":
    main(CONFIG)
