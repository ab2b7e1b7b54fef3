"""Variational auto-encoders: bounds, likelihoods, gradient estimators and latent spaces.

Papers: Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014 (figures 2, 4 and 5); Burda, Grosse &
Salakhutdinov, "Importance weighted autoencoders", ICLR 2016 (table 1); Wu et al., "On the quantitative analysis of
decoder-based generative models", ICLR 2017 (annealed importance sampling).

    python -m experiments.vae                             quick: digits, 2 and 10 latent dimensions: under a minute
    python -m experiments.vae --preset paper              MNIST, 784-500-20, ReLU, resampled binarisation: 14 minutes
    python -m experiments.vae --preset likelihood         fixed binarised MNIST, 784-300-300-50, ELBO and IWAE-50
    python -m experiments.vae --preset annealed           10 latents: importance sampling and annealing compared
    python -m experiments.vae --preset faces --dataset frey_faces.npy

One model is trained for each of --latent-dims and --bounds. After each epoch its negative ELBO on the test set is
recorded, with one draw of z for each image. Afterwards log p(x) is estimated by importance sampling
(--likelihood-samples draws for each of the first --num-likelihood test images), and by annealed importance sampling
(--num-annealed images). The first model's networks are also trained by each of --estimators of the ELBO's gradient:
closed-form divergence (SGVB B), sampled divergence (SGVB A) and score function. The variances of the estimators are
compared at the final parameters of the first model. To choose settings, --num-validation training images replace the
test set.

Expected (paper preset): Flax's VAE example, with the same networks and optimiser, has a test -ELBO of 119.74, 112.05,
109.34, 106.06, 103.60 and 101.83 after epochs 1, 2, 3, 5, 10 and 20. It trains on Larochelle's fixed binarisation of
50000 images, in 390 steps per epoch; here 60000 images are binarised anew at every step, in 468 steps per epoch.
Expected (likelihood preset): pythae's reproductions have an NLL of 89.78 (ELBO) and 86.82 (IWAE-50), on Larochelle's
binarisation and with longer training; "fixed" here is a binarisation of our own.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy import special

from bayesjax import data, evaluation, kernels, objectives, plots, training, tree
from bayesjax.evaluation import likelihood
from bayesjax.models import vae
from bayesjax.objectives import elbo
from experiments.harness import Column, Count, Natural, NonEmpty, Positive, Run, RunConfig, Table, cli, require, row
from experiments.shared.binarisation import binarise

Estimator = Literal["closed_form", "sampled", "score_function"]


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.vae."""

    dataset: str = "digits"
    """Images: `digits`, the name of a TensorFlow Datasets image set, or the path of an .npz file (x_train, y_train,
    x_test, y_test) or of an .npy file."""
    binarise: Literal["resampled", "fixed", "none"] = "resampled"
    """Binarisation of pixels. `resampled` draws training pixels as 0 or 1 at every step, `fixed` draws them once. Both
    draw test pixels once. `none` keeps grey values."""
    likelihood: Literal["bernoulli", "gaussian", "gaussian_shared"] = "bernoulli"
    """Distribution of a pixel given z. gaussian has a variance for every pixel, gaussian_shared one for all pixels."""
    architecture: Literal["mlp", "convolutional"] = "mlp"
    """Networks of the encoder and decoder: multi-layer perceptrons or strided convolutions."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Activation of the perceptrons; tanh as in the paper of 2014."""
    centred: bool = False
    """Whether the output of the perceptron decoder starts at the mean of the training images."""
    hidden: Annotated[tuple[Count, ...], NonEmpty] = (200,)
    """Widths of the encoder's hidden layers, or channels of its convolutions; the decoder has them in reverse order."""
    latent_dims: Annotated[tuple[Count, ...], NonEmpty] = (2, 10)
    """Numbers of latent dimensions to compare; figures show the manifold of a model with two."""
    bounds: Annotated[tuple[str, ...], NonEmpty] = ("elbo",)
    """Objectives to compare: elbo with one draw of z, elbo-L with the mean over L draws, or iwae-K with K draws."""
    learning_rate: Positive = 1e-3
    """Initial learning rate of Adam."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Schedule of the learning rate; cosine decays to 0 at the last step."""
    batch_size: Count = 128
    """Number of images in a minibatch."""
    num_epochs: Count = 60
    """Number of epochs of training, each of (number of images // batch size) steps."""
    warm_epochs: Natural = 0
    """Number of epochs for every bound after the first, which starts from the model of the bound before it; 0 trains
    every bound from scratch."""
    estimators: Annotated[tuple[Estimator, ...], cli.MayBeEmpty] = get_args(Estimator)
    """Estimators of the ELBO's gradient to compare; an empty list skips the comparison."""
    estimator_epochs: Count = 20
    """Number of epochs of training with each estimator."""
    num_validation: Natural = 0
    """Number of training images that are held out and replace the test set, to choose settings; 0 or at least 2."""
    num_likelihood: Count = 100
    """Largest number of test images whose likelihood is estimated by importance sampling."""
    likelihood_samples: Count = 1000
    """Number of draws of z per image in importance sampling."""
    num_annealed: Natural = 0
    """Number of test images, at most --num-likelihood, whose likelihood is also estimated by annealed importance
    sampling; 0 skips it."""
    num_temperatures: Annotated[int, cli.Range(least=10)] = 500
    """Number of temperatures of annealed importance sampling, at least 10, with 8 chains per image and 5 leapfrog steps
    at each."""

    def __post_init__(self) -> None:
        """Checks the bounds' names, and which options exclude each other."""
        super().__post_init__()
        for name in self.bounds:
            bound, dash, num = name.partition("-")
            require(
                bound in ("elbo", "iwae") and (num.isdecimal() and int(num) > 0 if dash else bound == "elbo"),
                f"--bounds must be elbo, elbo-L or iwae-K with numbers of draws L and K; got {name!r}",
            )
        for name in ("latent_dims", "bounds"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"{cli.flag(name)} must not repeat a value; got {values}")
        require(not self.centred or self.architecture == "mlp", "--centred needs --architecture mlp")
        require(
            self.likelihood == "bernoulli" or self.binarise == "none",
            f"--likelihood {self.likelihood} needs grey values, --binarise none; got {self.binarise}",
        )
        require(self.num_validation != 1, "--num-validation must be 0 or at least 2; got 1")
        require(
            self.num_annealed <= self.num_likelihood,
            f"--num-annealed must be at most --num-likelihood, {self.num_likelihood}; got {self.num_annealed}",
        )


QUICK = Config()
PAPER = replace(
    QUICK, dataset="mnist", activation="relu", hidden=(500,), latent_dims=(20, 2, 5, 10), num_epochs=20,
    estimator_epochs=3, num_likelihood=1000, likelihood_samples=5000,
)  # fmt: skip
PRESETS = {
    "quick": replace(QUICK, num_epochs=40, estimator_epochs=10),
    "paper": PAPER,
    "likelihood": replace(
        PAPER, binarise="fixed", hidden=(300, 300), latent_dims=(50,), bounds=("elbo", "iwae-50"), schedule="cosine",
        num_epochs=120, warm_epochs=30, estimators=(), num_likelihood=10_000,
    ),
    "annealed": replace(PAPER, latent_dims=(10,), estimators=(), num_annealed=1000),
    "faces": replace(
        QUICK, dataset="frey_faces.npy", binarise="none", likelihood="gaussian_shared", centred=True,
        latent_dims=(2, 5, 10, 20), batch_size=100, num_epochs=1000, schedule="cosine", estimators=(),
        num_likelihood=196, likelihood_samples=5000,
    ),
}  # fmt: skip

FLAX_EXAMPLE = {1: 119.74, 2: 112.05, 3: 109.34, 5: 106.06, 10: 103.60, 20: 101.83}  # test -ELBO by epoch
SHOWN_EPOCHS = (1, 2, 3, 5, 10, 15, 20, 50, 100, 1000)
TEST, TRAIN, NLL, ANNEALED = "test -ELBO (nats)", "train -ELBO (nats)", "NLL (nats)", "annealed NLL (nats)"
MODELS = {"latents": "latents", "method": "trained by"}


def table_note(config: dict) -> str:
    """The note of a table, on the images, the likelihood estimates and the pixels."""
    held_out = config["num_validation"]
    note = f"Values are in nats per image of {f'{held_out} held-out training images' if held_out else 'the test set'}. "
    note += f"Likelihoods are estimated with {config['likelihood_samples']} draws for each image. Pixels "
    note += {"none": "are grey", "fixed": "were binarised once"}.get(config["binarise"], "are binarised at every step")
    if (config["binarise"], config["likelihood"]) == ("none", "bernoulli"):
        note += "; a Bernoulli likelihood of grey values is not a density"
    return f"{note}."


TABLES = [
    Table(
        MODELS,
        [
            Column(TEST, prefix + heading, field=field, where={"epoch": epoch})
            for field, prefix in (("value", ""), ("paper", "published, "))
            for epoch, heading in [*((epoch, f"epoch {epoch}") for epoch in SHOWN_EPOCHS), (None, "at the end")]
        ],
        where={"estimator": None},
        note="The table has the negative ELBO of the test images in nats, by epoch of training.",
    ),
    Table(
        MODELS,
        [
            Column("earlier epochs", digits=0), Column("epochs", digits=0), Column(TRAIN, "train -ELBO"),
            Column("test KL (nats)", "KL"), Column(NLL, "-log p(x)"), Column("NLL images", "images", 0),
            Column(ANNEALED, "-log p(x), annealed"), Column("annealed NLL images", "images annealed", 0),
            Column("annealed - sampled log p (nats)", "log p(x), annealed - sampled"),
            Column("annealed within 0.5 of sampled %", "% within 0.5 nats", 0),
            Column("annealing acceptance", "acceptance"), Column("active units", digits=0),
            Column("seconds per epoch", "s per epoch"),
        ],
        where={"estimator": None},
        note=table_note,
    ),
    Table(
        {"estimator": "gradient estimator"},
        [Column(TRAIN), Column("gradient variance", "variance of the encoder's gradient", ".3g")],
        where={"estimator": get_args(Estimator)},
        note=lambda config: f"Each estimator was used for {config['estimator_epochs']} epochs of training.",
    ),
]  # fmt: skip
HEADLINE = "vae-paper-mnist", {"measure": TEST, "method": "elbo", "latents": 20, "epoch": None}

NUM_GRADIENTS = 200  # number of gradients from which a variance is estimated
SAMPLED_CHUNK, ANNEALED_CHUNK = 1000, 100  # images whose likelihoods are estimated at once

# ---- data


def load_images(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loads training images, test images and the labels of the test images (empty if there are none).

    Raises:
      ValueError: if the data are not images, fewer than 2 are left to test, or --num-validation is too large.
    """
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    train, num_held_out = dataset.train, config.num_validation
    require(len(dataset.test) > 1 or num_held_out > 0, f"--dataset {config.dataset} must have at least 2 test examples")
    require(
        train.inputs.ndim == 4 and train.inputs.shape[-1] in (1, 3, 4),
        f"--dataset {config.dataset} must be of images [num, height, width, 1, 3 or 4]; got {train.inputs.shape}",
    )
    require(num_held_out < len(train), f"--num-validation must be less than the {len(train)} training images")
    dataset = dataset.hold_out(num_held_out)
    train_set, test_set, labels = dataset.train.inputs, dataset.test.inputs, dataset.test.labels
    if config.binarise == "fixed":
        train_set = binarise(train_set, seed=1)
    if config.binarise != "none":
        test_set = binarise(test_set, seed=2)
    return train_set, test_set, labels


def minibatches(config: Config, rng_key: jax.Array, images: np.ndarray) -> Callable:
    """Minibatches of training images as a function of the step, binarised anew if they are resampled."""
    order_key, draw_key = jax.random.split(rng_key)
    source = data.Minibatches(order_key, images, config.batch_size)
    return data.Binarised(draw_key, source) if config.binarise == "resampled" else source


# ---- networks and losses


def networks(config: Config, shape: tuple[int, ...], latent_dim: int) -> tuple[vae.VAE, Callable, Callable]:
    """The Flax module, and its conditionals `encode(params, x)` and `decode(params, z)`."""
    model = vae.VAE(
        latent_dim, shape, hidden=config.hidden, likelihood=config.likelihood, architecture=config.architecture,
        activation={"tanh": jnp.tanh, "relu": jax.nn.relu}[config.activation], mean_activation=jax.nn.sigmoid,
    )  # fmt: skip
    return model, *vae.conditionals(model)


def batch_loss(config: Config, shape: tuple[int, ...], latent_dim: int, objective: str) -> Callable:
    """The mean loss of a batch: one of --bounds, or the negative ELBO with one of --estimators."""
    model, encode, decode = networks(config, shape, latent_dim)
    parts, (kind, _, num) = (encode, decode, model.prior()), objective.partition("-")
    if kind == "iwae":
        return objectives.batch_mean(elbo.negative_iwae_bound(*parts, num_samples=int(num)))
    kl = objective if objective in elbo.KL else "closed_form"
    gradient = "score_function" if objective == "score_function" else "reparameterised"
    return objectives.batch_mean(elbo.negative_elbo(*parts, num_samples=int(num or 1), kl=kl, gradient=gradient))


# ---- training


def train(
    run: Run, name: str, objective: str, latent_dim: int, num_epochs: int, start: dict | None, images: tuple,
) -> dict[str, Any]:  # fmt: skip
    """Trains a model by one of --bounds or of --estimators, on `images`, the training and the test images.

    Training starts from the parameters of `start`, another result of this function, or from fresh ones if it is None.

    Returns:
      The parameters `params`; after each epoch, the negative ELBO (nats) of the test set (`test`) and of as many
      training images (`train`), and the divergence `kl`; `epochs_before`, `images_per_epoch` and `seconds_per_epoch`.
    """
    config, (train_set, test_set) = run.config, images
    shape, steps = train_set.shape[1:], max(1, len(train_set) // config.batch_size)
    rate = config.learning_rate
    if config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, steps * num_epochs)
    kernel = kernels.optimize(batch_loss(config, shape, latent_dim, objective), optax.adam(rate))
    kernel, options = run.stage(name, kernel)
    data_key, init_key, start_key, run_key, test_key = jax.random.split(jax.random.key(config.seed), 5)

    elbo_loss, train_part = batch_loss(config, shape, latent_dim, "elbo"), train_set[: len(test_set)]
    if config.binarise == "resampled":
        train_part = binarise(train_part, seed=3)
    train_images, test_images = jnp.asarray(train_part), jnp.asarray(test_set)

    def evaluate(state: Any) -> dict[str, jax.Array]:
        loss, aux = elbo_loss(state.position, test_key, test_images)
        return {"test": loss, "kl": aux["kl"], "train": elbo_loss(state.position, test_key, train_images)[0]}

    model, _, _ = networks(config, shape, latent_dim)
    if start:
        params = start["params"]
    else:
        params = jax.jit(model.init)(init_key, train_set[:1])["params"]
        if config.centred:
            mean = jnp.clip(train_set.mean(axis=0), 0.01, 0.99)
            params = vae.set_output_bias(model, params, jax.scipy.special.logit(mean))
    state, trace = training.run(
        run_key, kernel, jax.jit(kernel.init)(params, start_key), minibatches(config, data_key, train_set),
        num_steps=steps * num_epochs, thinning=steps, keep=evaluate, **options,
    )  # fmt: skip
    return {
        **{measure: np.asarray(values) for measure, values in trace.draws.items()},
        "params": training.fetch(state.position),
        "epochs_before": start["epochs_before"] + len(start["test"]) if start else 0,
        "images_per_epoch": steps * config.batch_size,
        "seconds_per_epoch": steps * (trace.seconds - trace.compile_seconds) / trace.steps if trace.steps else None,
    }


# ---- evaluation


def judge(run: Run, name: str, latent_dim: int, params: Any, test_set: np.ndarray) -> dict[str, Any]:
    """Measures of a model: likelihoods by importance sampling and by annealing, their difference, and active units."""
    config = run.config
    model, encode, decode = networks(config, test_set.shape[1:], latent_dim)
    sampling_key, annealing_key = jax.random.split(jax.random.key(config.seed + 3))
    sample = jax.jit(functools.partial(
        likelihood.importance_sampling, encode, decode, model.prior(), num_samples=config.likelihood_samples,
    ))  # fmt: skip
    anneal = jax.jit(functools.partial(
        likelihood.annealed_importance_sampling, decode, model.prior(), num_temperatures=config.num_temperatures,
        num_chains=8, num_integration_steps=5,
    ))  # fmt: skip

    def sample_chunk(start: int, stop: int) -> dict[str, np.ndarray]:
        log_p = sample(params, jax.random.fold_in(sampling_key, start), test_set[start:stop])
        return {"log_p": np.asarray(log_p, float)}

    def anneal_chunk(start: int, stop: int) -> dict[str, np.ndarray]:
        annealed = anneal(params, jax.random.fold_in(annealing_key, start), test_set[start:stop])
        values = {"log_p": annealed.log_likelihood, "acceptance": annealed.acceptance_probability}
        return {key: np.asarray(each, float) for key, each in values.items()}

    num_sampled = min(config.num_likelihood, len(test_set))
    sampled = run.part_in_chunks(f"{name}-sampled", sample_chunk, num_sampled, SAMPLED_CHUNK)["log_p"]
    measures = {
        NLL: evaluation.mean_estimate(-sampled),
        "NLL images": num_sampled,
        "active units": int(likelihood.active_units(encode, params, test_set).sum()),
    }
    if config.num_annealed:
        num_annealed = min(config.num_annealed, num_sampled)
        annealed = run.part_in_chunks(f"{name}-annealed", anneal_chunk, num_annealed, ANNEALED_CHUNK)
        gap = annealed["log_p"] - sampled[:num_annealed]
        measures |= {
            ANNEALED: evaluation.mean_estimate(-annealed["log_p"]),
            "annealed - sampled log p (nats)": evaluation.mean_estimate(gap),
            "annealed within 0.5 of sampled %": 100 * float(np.mean(np.abs(gap) < 0.5)),
            "annealed NLL images": num_annealed,
            "annealing acceptance": float(annealed["acceptance"].mean()),
        }
    return measures


def gradient_variances(config: Config, params: Any, train_set: np.ndarray) -> dict[str, float]:
    """Variance of each estimator's gradient on one batch, summed over the parameters of the first model's encoder."""
    batch = minibatches(config, jax.random.key(config.seed + 1), train_set)(0)
    keys = jax.random.split(jax.random.key(config.seed + 2), NUM_GRADIENTS)

    def total_variance(loss: Callable) -> jax.Array:
        def add(sums: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
            gradient = jax.grad(lambda params: loss(params, key, batch)[0])(params)["encoder"]
            flat, _ = ravel_pytree(gradient)
            return (sums[0] + flat, sums[1] + flat**2), None

        zeros = jnp.zeros(tree.num_elements(params["encoder"]))
        (total, squares), _ = jax.lax.scan(add, (zeros, zeros), keys)
        return jnp.sum(squares / NUM_GRADIENTS - (total / NUM_GRADIENTS) ** 2)

    losses = {name: batch_loss(config, train_set.shape[1:], config.latent_dims[0], name) for name in config.estimators}
    return {name: float(jax.jit(functools.partial(total_variance, loss))()) for name, loss in losses.items()}


# ---- figures


def draw_models(run: Run, models: dict[tuple[int, str], dict], test_set: np.ndarray, labels: np.ndarray) -> None:
    """Draws reconstructions, samples, interpolations and, for two latent dimensions, the manifold and latent plane."""
    config, shape = run.config, test_set.shape[1:]
    images, samples = {"test data": test_set[:12]}, {}
    for (latent_dim, bound), model in models.items():
        _, encode, decode = networks(config, shape, latent_dim)
        params = model["params"]
        reconstruct = jax.jit(lambda z, decode=decode, params=params: decode(params, z).mean())
        suffix = f"-{bound}" if len(config.bounds) > 1 else ""
        name = f"{latent_dim} latents{suffix.replace('-', ', ', 1)}"
        means = np.asarray(jax.jit(lambda x, encode=encode, params=params: encode(params, x).mean())(test_set))
        images[name] = np.asarray(reconstruct(means[:12]))
        samples[name] = np.asarray(reconstruct(jax.random.normal(jax.random.key(config.seed), (12, latent_dim))))
        if latent_dim == 2:
            quantiles = special.ndtri(np.linspace(0.03, 0.97, 15)).astype(np.float32)
            plane = np.stack(np.meshgrid(quantiles, quantiles[::-1], indexing="xy"), axis=-1)
            plots.image_grid(
                run.figure(f"manifold{suffix}.png"),
                np.asarray(reconstruct(plane.reshape(-1, 2))).reshape(15, 15, *shape),
                title=f"decoder's mean over the quantiles of the prior, {name}",
            )  # fmt: skip
            if len(labels):
                title = f"means of q(z | x), test set, {name}"
                plots.scatter_by_label(run.figure(f"latent{suffix}.png"), means, labels, title=title)
        if latent_dim == max(config.latent_dims):
            fractions = np.linspace(0, 1, 12, dtype=np.float32)[None, :, None]
            ends = means[: 2 * (len(means) // 2)][:10].reshape(-1, 2, 1, latent_dim)
            between = ((1 - fractions) * ends[:, 0] + fractions * ends[:, 1]).reshape(-1, latent_dim)
            plots.image_grid(
                run.figure(f"interpolation{suffix}.png"),
                np.asarray(reconstruct(between)).reshape(-1, 12, *shape),
                title=f"between two test images, {name}",
            )  # fmt: skip
    plots.image_grid(run.figure("reconstructions.png"), np.stack(list(images.values())), row_names=list(images))
    plots.image_grid(
        run.figure("samples.png"), np.stack(list(samples.values())), row_names=list(samples),
        title="decoder's mean at draws of the prior",
    )  # fmt: skip


def draw_curves(run: Run, name: str, models: dict[str, dict], measure: str) -> None:
    """Draws the negative ELBO in nats against the number of training images, on a logarithmic axis as in the paper."""
    curves = {}
    for label, model in models.items():
        epochs = model["epochs_before"] + 1 + np.arange(len(model[measure]))
        curves[label] = model["images_per_epoch"] * epochs, np.asarray(model[measure], float)
    plots.curves(
        run.figure(f"{name}.png"), curves, xlabel="training images seen", ylabel="negative ELBO (nats)", log_x=True
    )


# ---- the run


def model_rows(config: Config, latent_dim: int, bound: str, model: dict, measures: dict[str, Any]) -> list[dict]:
    """The result rows of one model."""
    num_epochs, is_first, rows = len(model["test"]), not model["epochs_before"], []
    published = FLAX_EXAMPLE if (config.preset, latent_dim, bound) == ("paper", 20, "elbo") else {}
    keys: dict[str, Any] = {"method": bound, "latents": latent_dim}
    for epoch in (*(epoch for epoch in SHOWN_EPOCHS if epoch < num_epochs and is_first), num_epochs):
        at = epoch if epoch < num_epochs else None
        source = "Flax's VAE example, fixed binarisation" if epoch in published else None
        rows.append(row(TEST, model["test"][epoch - 1], **keys, epoch=at, paper=published.get(epoch), source=source))
    measures = {
        **measures,
        "test KL (nats)": model["kl"][-1],
        TRAIN: model["train"][-1],
        "seconds per epoch": model["seconds_per_epoch"],
        "epochs": num_epochs,
        "earlier epochs": model["epochs_before"],
    }
    for measure, value in measures.items():
        rows.append(row(measure, **(value if isinstance(value, dict) else {"value": value}), **keys))
    return rows


def sample_run(config: Config, parts: dict[str, dict], rng_key: jax.Array, num: int) -> dict[str, np.ndarray]:
    """Means of p(x | z) for z from the prior, of each model of a finished run, for `experiments.sample`."""
    shape, made = load_images(config)[0].shape[1:], {}
    for latent_dim in config.latent_dims:
        model, _, decode = networks(config, shape, latent_dim)
        z = model.prior().sample(seed=rng_key, sample_shape=num)

        def mean(params: Any, z: jax.Array, decode: Callable = decode) -> jax.Array:
            return decode(params, z).mean()

        means = jax.jit(jax.vmap(mean, in_axes=(None, 0)))
        for name in (f"latent{latent_dim}-{bound}" for bound in config.bounds):
            made[name] = means(parts[name]["params"], z)
    return made


def main(config: Config) -> None:
    """Trains every model, estimates likelihoods, compares estimators; writes the figures and the results."""
    with Run("vae", config) as run:
        train_set, test_set, labels = load_images(config)
        images = train_set, test_set
        models, rows = {}, []
        for latent_dim in config.latent_dims:
            model = None
            for bound in config.bounds:
                name, start = f"latent{latent_dim}-{bound}", model if config.warm_epochs else None
                num_epochs = config.warm_epochs if start else config.num_epochs
                compute = functools.partial(train, run, name, bound, latent_dim, num_epochs, start, images)
                model = models[latent_dim, bound] = run.part(name, compute)
                compute = functools.partial(judge, run, name, latent_dim, model["params"], test_set)
                rows += model_rows(config, latent_dim, bound, model, run.part(f"{name}-likelihood", compute))
        compared, first = {}, config.latent_dims[0]
        for name in config.estimators:
            compute = functools.partial(train, run, name, name, first, config.estimator_epochs, None, images)
            compared[name] = run.part(name, compute)
        params = models[first, config.bounds[0]]["params"]
        variances = run.part("variances", functools.partial(gradient_variances, config, params, train_set))
        for name, model in compared.items():
            rows.append(row(TRAIN, model["train"][-1], estimator=name))
            rows.append(row("gradient variance", variances[name], estimator=name))

        draw_models(run, models, test_set, labels)
        curves = {f"latent={latent_dim} {bound} test": model for (latent_dim, bound), model in models.items()}
        draw_curves(run, "bound", curves, "test")
        if compared:
            draw_curves(run, "estimators", {name.replace("_", " "): each for name, each in compared.items()}, "train")
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
