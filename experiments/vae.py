"""Variational auto-encoders: bounds, likelihoods and what the latent space holds.

Papers: Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014 (figures 2, 4 and 5); Burda, Grosse &
Salakhutdinov, "Importance weighted autoencoders", ICLR 2016 (table 1).

    python -m experiments.vae                             quick: digits, 2 and 10 latent dimensions: under a minute
    python -m experiments.vae --preset paper              MNIST, 784-500-20, resampled binarisation, 20 epochs
    python -m experiments.vae --preset paper --bound iwae --num-samples 50 --binarise fixed
    python -m experiments.vae --preset paper --dataset frey_faces.npy --likelihood gaussian --binarise none

Every latent dimension of --latent-dims is a model of its own. After each epoch its negative bound on the test set, one
draw an image, joins the curve; at the end come log p(x) by importance sampling (--likelihood-samples draws for each of
the first --num-likelihood test images) and the active units. --estimators trains the first model's networks again by
each gradient of the bound (closed-form divergence, SGVB B; sampled divergence, SGVB A; score function), for the curve
of the bound against training samples, and compares the estimators' variances where training left off.

Expected (paper preset): test -ELBO 119.74, 112.05, 109.34, 106.06 after epochs 1, 2, 3 and 5, 103.60 after 10 and
101.83 after 20 (Flax's VAE example; its data are binarised, too). Nothing is chosen on the test set.
"""

from dataclasses import dataclass, replace

from experiments import common

BINARISE = ("resampled", "fixed", "none")
BOUNDS = ("elbo", "iwae")
ESTIMATORS = ("closed_form", "sampled", "score_function")


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.vae."""

    dataset: str = "digits"
    """digits, a set of TensorFlow Datasets, an .npz file (x_train, y_train, x_test, y_test) or an .npy of images."""
    binarise: str = "resampled"
    """resampled: grey values become 0 or 1 anew at every step (test images once); fixed: once; none: they stay grey."""
    likelihood: str = "bernoulli"
    """bernoulli, gaussian (a variance for every pixel) or gaussian_shared (one for all)."""
    architecture: str = "mlp"
    """mlp or convolutional."""
    hidden: tuple[int, ...] = (200,)
    """Widths of the encoder's hidden layers, or channels of its convolutions; the decoder's are the same backwards."""
    latent_dims: tuple[int, ...] = (2, 10)
    """Latent dimensions, a model each; 2 among them is drawn as a manifold."""
    bound: str = "elbo"
    """elbo, or iwae with --num-samples draws."""
    num_samples: int = 1
    """Draws of z an image and step."""
    learning_rate: float = 1e-3
    """Adam's."""
    batch_size: int = 128
    """Images a step."""
    num_epochs: int = 60
    """Epochs, of N // batch size steps."""
    estimators: tuple[str, ...] = ESTIMATORS
    """Gradients to compare, of closed_form, sampled, score_function."""
    estimator_epochs: int = 20
    """Epochs for each of them."""
    num_likelihood: int = 100
    """Test images whose likelihood is estimated."""
    likelihood_samples: int = 1000
    """Draws for each."""


QUICK = Config()
PAPER = replace(
    QUICK, preset="paper", dataset="mnist", hidden=(500,), latent_dims=(20, 2, 5, 10), num_epochs=20,
    estimator_epochs=3, num_likelihood=10_000, likelihood_samples=5000,
)  # fmt: skip
PRESETS = {"quick": QUICK, "paper": PAPER}


if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from jax.flatten_util import ravel_pytree

from bayesjax import data, evaluation, kernels, noise, objectives, plots, training, tree
from bayesjax.evaluation import likelihood
from bayesjax.models import vae
from bayesjax.objectives import elbo
from experiments import tables

NUM_VARIANCE = 200  # draws for an estimator's variance


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    common.require_choice(config, "binarise", BINARISE)
    common.require_choice(config, "likelihood", vae.LIKELIHOODS)
    common.require_choice(config, "architecture", vae.ARCHITECTURES)
    common.require_choice(config, "bound", BOUNDS)
    for name in config.estimators:
        common.require(name in ESTIMATORS, f"--estimators must be among {', '.join(ESTIMATORS)}; got {name!r}")
    common.require_all_positive(config, "hidden", "latent_dims")
    common.require_positive(config, "learning_rate")
    common.require_at_least_one(
        config, "num_samples", "batch_size", "num_epochs", "estimator_epochs", "num_likelihood", "likelihood_samples"
    )


# ---- data: grey or binary, as the configuration names it


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
        latent_dim, shape, hidden=config.hidden, likelihood=config.likelihood, architecture=config.architecture
    )

    def conditional(name: str) -> Callable:
        return lambda params, x: model.apply({"params": params}, x, method=name)

    return model, conditional("encode"), conditional("decode")


def loss_of(config: Config, shape: tuple[int, ...], latent_dim: int, estimator: str | None = None) -> Callable:
    """The loss of a batch: the configuration's bound, or the ELBO by one of the estimators."""
    model, encode, decode = networks(config, shape, latent_dim)
    bound = functools.partial(elbo.negative_elbo, encode, decode, model.prior(), num_samples=config.num_samples)
    if estimator == "score_function":
        return objectives.batch_mean(bound(gradient="score_function"))
    if estimator or config.bound == "elbo":
        return objectives.batch_mean(bound(kl=estimator or "closed_form"))
    return objectives.batch_mean(
        elbo.negative_iwae_bound(encode, decode, model.prior(), num_samples=config.num_samples)
    )


def train(
    run: common.Experiment, train_set: np.ndarray, test_set: np.ndarray, latent_dim: int, estimator: str | None = None
) -> dict:
    """Trains a model; leaves its parameters in `parts/`. Bounds on the test set, epoch by epoch, and likelihoods."""
    config, shape = run.config, train_set.shape[1:]
    name = f"latent{latent_dim}" + (f"-{estimator}" if estimator else "")
    num_epochs = config.estimator_epochs if estimator else config.num_epochs
    steps = max(1, len(train_set) // config.batch_size)
    data_key, init_key, run_key, test_key = jax.random.split(jax.random.key(config.seed), 4)
    model, encode, decode = networks(config, shape, latent_dim)
    kernel = run.spread(
        kernels.optimize(loss_of(config, shape, latent_dim, estimator), optax.adam(config.learning_rate))
    )
    bound, seen = loss_of(config, shape, latent_dim, "closed_form"), train_set[: len(test_set)]
    if config.binarise == "resampled":
        seen = binarised_once(seen, seed=3)
    train_images, test_images = jnp.asarray(seen), jnp.asarray(test_set)

    def observe(state: Any) -> dict:
        """Negative ELBO of the test set, and of as many training images."""
        loss, aux = bound(state.position, test_key, test_images)
        return {"test": loss, "kl": aux["kl"], "train": bound(state.position, test_key, train_images)[0]}

    params = jax.jit(model.init)(init_key, train_set[:1])["params"]
    state = jax.jit(kernel.init)(params, init_key)
    state, trace = training.run(
        run_key, kernel, state, batches(config, data_key, train_set),
        num_steps=steps * num_epochs, thinning=steps, keep=observe, **run.stage(name),
    )  # fmt: skip
    params = training.fetch(state.position)
    save(run, name, params)
    found = {
        **{name: np.asarray(values, float).tolist() for name, values in trace.draws.items()},
        "seconds": trace.seconds,
    }
    if estimator:
        return found
    logs = likelihood.importance_sampled(
        encode, decode, model.prior(), params, test_key, test_set[: config.num_likelihood],
        num_samples=config.likelihood_samples,
    )  # fmt: skip
    estimate = evaluation.mean_estimate(-np.asarray(logs, float))
    return {**found, "nll": estimate._asdict(), "active": int(likelihood.active_units(encode, params, test_set).sum())}


def variances(run: common.Experiment, train_set: np.ndarray, latent_dim: int) -> dict:
    """Total variance of each estimator's gradient in the encoder, on one batch, where training ended."""
    config = run.config
    params, batch = load(run, f"latent{latent_dim}"), batches(config, jax.random.key(config.seed + 1), train_set)(0)
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


def save(run: common.Experiment, name: str, params: Any) -> None:
    """A model's parameters, for the figures of a resumed run."""
    flat: Any = {
        "/".join(part.key for part in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    np.savez(run.out / "parts" / f"{name}.npz", **flat)


def load(run: common.Experiment, name: str) -> Any:
    """Undoes `save`."""
    params: dict = {}
    with np.load(run.out / "parts" / f"{name}.npz") as arrays:
        for path, leaf in arrays.items():
            *parents, last = path.split("/")
            functools.reduce(lambda node, key: node.setdefault(key, {}), parents, params)[last] = leaf
    return params


# ---- figures


def draw_models(run: common.Experiment, test_set: np.ndarray, labels: np.ndarray) -> None:
    """Reconstructions, samples and interpolations of every model; the manifold and the latent plane if one has two."""
    config, shape, folder = run.config, test_set.shape[1:], run.out / "figures"
    rows, samples, names = [test_set[:12]], [], [f"{dim} latents" for dim in config.latent_dims]
    for latent_dim in config.latent_dims:
        model, encode, decode = networks(config, shape, latent_dim)
        params = load(run, f"latent{latent_dim}")
        decode_mean = jax.jit(lambda z, decode=decode, params=params: decode(params, z).mean())
        means = np.asarray(jax.jit(lambda x, encode=encode, params=params: encode(params, x).mean())(test_set))
        rows.append(np.asarray(decode_mean(means[:12])))
        samples.append(
            np.asarray(decode_mean(model.prior().sample(seed=jax.random.key(config.seed), sample_shape=(12,))))
        )
        if latent_dim == 2:
            quantiles = scipy.stats.norm.ppf(np.linspace(0.03, 0.97, 15)).astype(np.float32)
            plane = np.stack(np.meshgrid(quantiles, quantiles[::-1], indexing="xy"), axis=-1)
            plots.image_grid(
                folder / "manifold.png", np.asarray(decode_mean(plane)).reshape(15, 15, *shape),
                title="decoder's mean over the quantiles of the prior in two dimensions",
            )  # fmt: skip
            if len(labels):
                plots.scatter_by_label(folder / "latent.png", means, labels, title="means of q(z | x), test set")
        if latent_dim == max(config.latent_dims):
            way = np.linspace(0, 1, 12, dtype=np.float32)[None, :, None]
            ends = means[: 2 * (len(means) // 2)][:10].reshape(-1, 2, 1, latent_dim)
            between = np.asarray(decode_mean((1 - way) * ends[:, 0] + way * ends[:, 1]))
            plots.image_grid(
                folder / "interpolation.png", between, title=f"between two test images, {latent_dim} latents"
            )
    plots.image_grid(folder / "reconstructions.png", np.stack(rows), row_names=["test data", *names])
    plots.image_grid(
        folder / "samples.png", np.stack(samples), row_names=names, title="decoder's mean at draws of the prior"
    )


def draw_curves(run: common.Experiment, found: dict[str, dict], compared: dict[str, dict], num_train: int) -> None:
    """Negative bounds in nats against the training images seen, on a logarithmic axis as in the paper."""
    folder, label = run.out / "figures", "training images seen"

    def curve(values: list[float]) -> tuple[np.ndarray, np.ndarray]:
        return num_train * np.arange(1, len(values) + 1), np.array(values)

    series = {f"{name} test": curve(result["test"]) for name, result in found.items()}
    plots.curves(folder / "bound.png", series, xlabel=label, ylabel="negative ELBO (nats)", log_x=True)
    if compared:
        series = {name.replace("_", " "): curve(result["train"]) for name, result in compared.items()}
        plots.curves(folder / "estimators.png", series, xlabel=label, ylabel="negative ELBO (nats)", log_x=True)


# ---- the run


def main(config: Config) -> None:
    """Trains every model, estimates likelihoods, compares estimators; writes table, figures and results."""
    with common.Experiment("vae", config) as run:
        check(config)
        dataset = data.load(config.dataset, data_dir=config.data_dir or None)
        train_set, test_set = dataset.train.inputs, dataset.test.inputs
        common.require(len(test_set) > 1, f"--dataset {config.dataset} must have at least 2 test examples")
        common.require(
            train_set.ndim == 4, f"--dataset {config.dataset} must be of images; got shape {train_set.shape}"
        )
        if config.binarise == "fixed":
            train_set = binarised_once(train_set, seed=1)
        if config.binarise != "none":
            test_set = binarised_once(test_set, seed=2)
        first = config.latent_dims[0]
        found = {
            f"latent={dim}": run.cached(f"latent{dim}", functools.partial(train, run, train_set, test_set, dim))
            for dim in config.latent_dims
        }
        compared = {
            name: run.cached(name, functools.partial(train, run, train_set, test_set, first, name))
            for name in config.estimators
        }
        spread = run.cached("variances", functools.partial(variances, run, train_set, first))
        draw_models(run, test_set, dataset.test.labels)
        draw_curves(run, found, compared, len(train_set))
        path = run.finish(summarise(config, found, compared, spread))
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


def summarise(config: Config, found: dict, compared: dict, spread: dict) -> dict[str, dict]:
    """What goes into the results file."""
    metrics = {}
    for name, result in found.items():
        for epoch in (1, 2, 3, 5, 10, 15, 20, config.num_epochs):
            if epoch <= config.num_epochs:
                metrics[f"{name} test -ELBO epoch {epoch}"] = {"value": result["test"][epoch - 1]}
        metrics[f"{name} test KL"] = {"value": result["kl"][-1]}
        metrics[f"{name} test NLL"] = result["nll"]
        metrics[f"{name} active units"] = {"value": result["active"]}
        metrics[f"{name} seconds per epoch"] = {"value": result["seconds"] / config.num_epochs}
    for name, result in compared.items():
        metrics[f"{name} train -ELBO"] = {"value": result["train"][-1]}
        metrics[f"{name} gradient variance"] = {"value": spread[name]}
    return metrics


if __name__ == "__main__":
    main(CONFIG)
