"""Deep Boltzmann machine: pre-training, joint training, the variational bound, and networks that start from it.

Papers: Salakhutdinov & Hinton, "Deep Boltzmann machines", AISTATS 2009; Salakhutdinov & Hinton, "An efficient learning
procedure for deep Boltzmann machines", Neural Computation 2012.

    python -m experiments.dbm                              quick: digits, 64-32: under a minute
    python -m experiments.dbm --preset paper               MNIST, 500-1000: bound, errors from 100 to 60000 labels

In the pre-training, the lower RBM has two tied copies of the data, and the upper RBM of the top layer. The joint
training has a mean-field positive phase and persistent chains. The deep machine is an RBM between (v, h2) and h1, so
its chains are block Gibbs and its log Z is estimated by forward and reverse annealed importance sampling. Training
images are binarised at every step, and test images once. The bound is on log p(x) of the test images.

Classifiers with two hidden layers of logistic units are trained from few labels and from all of them: from a random
start, from the RBMs of the pre-training, and from the deep machine, whose mean-field h2 is a further input. All have
the same optimiser, and for each number of labels the same number of steps. The learning rate of each is chosen on
held-out labelled images, except in the quick preset. The networks of all draws of the labels are trained side by side.

Expected (paper): the bound is -84.62 (Salakhutdinov & Hinton) and -86.37 in a reproduction (yell/boltzmann-machines,
784-512-1024), whose errors of networks from DBM, RBM and random starts are 16.21, 18.30 and 24.0 % at 100 labels and
6.46, 6.35 and 11.3 % at 1000.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, objectives, training
from bayesjax.evaluation import partition_function
from bayesjax.models import boltzmann, deep_boltzmann
from bayesjax.objectives import boltzmann as boltzmann_objectives
from bayesjax.objectives.heteroscedastic import categorical_log_likelihood
from bayesjax.types import Array, Params
from experiments.harness import Column, Count, Natural, NonEmpty, Positive, Run, Table, cli, require, row
from experiments.shared import boltzmann as shared
from experiments.shared.binarisation import binarise
from experiments.shared.boltzmann import FORWARD, REVERSE


@dataclass(frozen=True)
class Config(shared.MachineConfig):
    """Flags of experiments.dbm."""

    hidden: tuple[Count, Count] = (64, 32)
    """Numbers of units of the two hidden layers."""
    num_pretraining_epochs: Count = 30
    """Number of epochs of training of each RBM."""
    pretraining_rate: Positive = 0.1
    """Learning rate of the RBMs."""
    num_epochs: Count = 30
    """Number of epochs of joint training."""
    num_mean_field_updates: Count = 10
    """Number of mean-field updates of all hidden layers per image and step."""
    num_labelled: tuple[Count, ...] = (100,)
    """Numbers of labelled images of the classifiers; an empty list trains no classifier."""
    num_label_draws: Count = 5
    """Number of independent draws of the labelled images."""
    classifier_rates: Annotated[tuple[Positive, ...], NonEmpty] = (0.03, 0.1, 0.3)
    """Learning rates of the classifiers. Each initialisation uses the best of them on held-out images."""
    num_classifier_steps: Count = 500
    """Minimum number of training steps of each classifier."""
    num_classifier_epochs: Natural = 10
    """Minimum number of epochs of training of each classifier, in addition to the minimum number of steps."""


QUICK = Config(learning_rate=0.02, num_temperatures=300, num_classifier_steps=200, classifier_rates=(0.1,))
PAPER = replace(
    QUICK, dataset="mnist", hidden=(500, 1000), num_pretraining_epochs=30, num_epochs=60, num_temperatures=20_000,
    learning_rate=0.02, final_rate=0.05, num_labelled=(100, 1000, 10_000, 60_000), num_classifier_steps=2000,
    classifier_rates=Config.classifier_rates,
)  # fmt: skip
PRESETS = {"quick": QUICK, "paper": PAPER}
ERROR = "error %"
STARTS = ("random", "rbm", "dbm")
PUBLISHED = {(100, "random"): 24.0, (100, "rbm"): 18.3, (100, "dbm"): 16.21, (1000, "random"): 11.3,
             (1000, "rbm"): 6.35, (1000, "dbm"): 6.46, (10_000, "random"): 5.3, (10_000, "rbm"): 2.73,
             (10_000, "dbm"): 2.89, (60_000, "random"): 1.8, (60_000, "rbm"): 1.27, (60_000, "dbm"): 1.32}  # fmt: skip
TABLES = [
    Table(
        {"method": "model"},
        [
            Column(FORWARD, "bound, forward AIS"), Column(REVERSE, "bound, reverse AIS"),
            Column("AIS gap (nats)", "gap"), Column(FORWARD, "published", field="paper"),
            Column("effective chains, forward AIS", "effective chains", 0), Column("seconds per epoch", "s per epoch"),
        ],
        where={"labels": None},
        note="Variational bound on log p(x) in nats per test image.",
    ),
    Table(
        {"labels": "labels", "method": "start"},
        [Column(ERROR, "test error %"), Column(ERROR, "published", field="paper"), Column("learning rate", digits=2)],
        where={"method": STARTS},
        note="For each number of labels, networks have the same hidden layers, optimiser and number of steps; those "
        "that start from the deep machine have further inputs. Standard errors are over networks, each with its own "
        "draw of the labels. With all labels only the order and the random weights differ.",
    ),
]  # fmt: skip
HEADLINE = "dbm-paper-mnist", {"measure": FORWARD, "labels": None}


# ---- the machine


def pretrain(run: Run, images: shared.Images, batches: Callable) -> list[Params]:
    """Trains the RBMs of both layers: the lower has tied copies of the data, the upper of its hidden units."""
    config = run.config
    steps_per_epoch = max(1, len(images.train) // config.batch_size)
    start_key, chain_key, hidden_key = jax.random.split(jax.random.key(config.seed + 1), 3)

    def train_rbm(index: int, side: Literal["visible", "hidden"], batches: Callable, mean: np.ndarray) -> tuple:
        model = boltzmann.RBM(len(mean), config.hidden[index])
        params = shared.start(model, jax.random.fold_in(start_key, index), mean)
        tie = functools.partial(deep_boltzmann.tied_rbm, doubled=side)
        tied = boltzmann.machine(boltzmann.RBM(*jax.eval_shape(tie, params)["kernel"].shape))
        base = shared.base_machine(tie(params), np.tile(mean, 2 if side == "visible" else 1))
        first = partition_function.base_draws(tied, base, chain_key, config.num_chains)
        machine = boltzmann.reparameterise(tied, tie)
        trained = shared.train(
            run, f"rbm{index + 1}", machine, params, batches, first, num_epochs=config.num_pretraining_epochs,
            steps_per_epoch=steps_per_epoch, learning_rate=config.pretraining_rate,
        )  # fmt: skip
        return machine, jax.tree.map(jnp.asarray, trained.params)

    copies = functools.partial(copy_units, batches)
    machine, lower = train_rbm(0, "visible", copies, images.train.mean(axis=0))
    hidden = functools.partial(shared.hidden_batch, machine, lower, copies, jax.random.fold_in(hidden_key, 0))
    means = jnp.stack([hidden(jnp.int32(step)).mean(axis=0) for step in range(10)])
    _, upper = train_rbm(1, "hidden", hidden, np.asarray(means.mean(axis=0)))
    return [lower, upper]


def copy_units(batches: Callable, step: Array) -> Array:
    """The batch of a step with two copies of its units."""
    return jnp.tile(batches(step), (1, 2))


class DeepMachine(NamedTuple):
    """A deep machine: its functions as an RBM between (v, h2) and h1, its bound, and its mean field."""

    machine: boltzmann.Machine
    free_energy_bound: Callable
    mean_field: Callable


def deep_machine(config: Config, num_visible: int) -> DeepMachine:
    """Returns the functions of the deep machine, which take the parameters of a `DBM`."""
    model = deep_boltzmann.DBM((num_visible, *config.hidden))
    rbm = boltzmann.machine(deep_boltzmann.rbm_between_layers(model))

    def energy(params: Params, v: Array, hidden: list[Array]) -> Any:
        return model.apply({"params": params}, v, hidden, method="energy")

    def mean_field(params: Params, v: Array) -> Any:
        return model.apply({"params": params}, v, config.num_mean_field_updates, method="mean_field")

    bound = boltzmann_objectives.variational_free_energy(energy, mean_field)
    return DeepMachine(boltzmann.reparameterise(rbm, deep_boltzmann.as_rbm), bound, mean_field)


def train_jointly(run: Run, deep: DeepMachine, params: Params, images: shared.Images, batches: Callable) -> tuple:
    """Trains the deep machine. Returns it as `Trained`, and the means of (v, h2) under the data."""
    config = run.config
    means = jax.jit(jax.vmap(lambda v: deep.mean_field(params, v)[1]))(jnp.asarray(images.train[:1000]))
    mean = np.concatenate([images.train.mean(axis=0), np.asarray(means.mean(axis=0))])
    rbm = boltzmann.machine(boltzmann.RBM(len(mean), config.hidden[0]))
    base = shared.base_machine(deep_boltzmann.as_rbm(params), mean)
    first = partition_function.base_draws(rbm, base, jax.random.key(config.seed + 2), config.num_chains)
    trained = shared.train(
        run, "dbm", deep.machine, params, batches, first, num_epochs=config.num_epochs,
        steps_per_epoch=max(1, len(images.train) // config.batch_size), positive=deep.free_energy_bound,
    )  # fmt: skip
    return trained, mean


def bound_rows(
    run: Run, deep: DeepMachine, trained: shared.Trained, samples: np.ndarray, mean: np.ndarray, test: np.ndarray
) -> list[dict]:
    """Rows of the variational bound on log p(x) of test images."""
    config, params = run.config, trained.params
    rbm = boltzmann.machine(boltzmann.RBM(len(mean), config.hidden[0]))
    sides = shared.log_partition_functions(run, "dbm", rbm, deep_boltzmann.as_rbm(params), samples, mean)
    bound = jax.jit(jax.vmap(lambda v: -deep.free_energy_bound(params, jax.random.key(0), v)))
    method = "-".join(map(str, config.hidden))
    rows = shared.likelihood_rows(bound(test), sides, method=method)
    if config.preset == "paper":
        rows = [{**each, "paper": -84.62, "source": "Salakhutdinov & Hinton"} if each["measure"] == FORWARD else each
                for each in rows]  # fmt: skip
    return [*rows, row("seconds per epoch", trained.seconds_per_epoch, method=method)]


def draw(run: Run, deep: DeepMachine, params: Params, x: np.ndarray, test: np.ndarray, shape: tuple) -> None:
    """Draws samples of the chains and the filters of the first layer."""
    num_visible = test.shape[1]

    def mean_image(x: Array) -> Array:
        return deep.machine.visible(params, deep.machine.hidden(params, x).sample(seed=jax.random.key(0))).mean()

    samples = np.asarray(jax.jit(jax.vmap(mean_image))(x))[:, :num_visible]
    shared.draw_samples(run, test.reshape(-1, *shape), samples.reshape(-1, *shape))
    shared.draw_filters(run, "first_layer", params["kernel_0"], shape)


# ---- classifiers from few labels


def initial_weights(stack: list[Params], deep_params: Params) -> dict[str, dict]:
    """Initial weights of the classifier's hidden layers, by initialisation; other layers are initialised at random."""
    (w1, b1), (w2, b2) = ((each["kernel"], each["hidden_bias"]) for each in stack)
    deep_w1, deep_w2 = deep_params["kernel_0"], deep_params["kernel_1"]
    return {
        "random": {},
        "rbm": {"layers_0": {"kernel": 2 * w1, "bias": b1}, "layers_1": {"kernel": w2, "bias": b2}},
        "dbm": {
            "layers_0": {"kernel": jnp.concatenate([deep_w1, deep_w2.T]), "bias": deep_params["bias_1"]},
            "layers_1": {"kernel": deep_w2, "bias": deep_params["bias_2"]},
        },
    }


def choose(labels: np.ndarray, num: int, num_classes: int, seed: int) -> np.ndarray:
    """Indices `[num]` of a random class-balanced subset of the images with these labels, or of all images, shuffled."""
    if num == len(labels):
        return np.random.default_rng(seed).permutation(num)
    return data.labelled_subset(data.Split(np.arange(len(labels)), labels), num, num_classes, seed).inputs


def classify(
    run: Run, name: str, weights: dict, train_set: data.Split, test_set: data.Split, num_classes: int
) -> list[dict]:
    """Rows of the test error of networks with the initial `weights`, by number of labels.

    If there are two or more learning rates, a third of the labelled images of every draw is held out to choose one. The
    networks are then trained on all labelled images.
    """
    config, rates, rows = run.config, np.array(run.config.classifier_rates), []
    for num_labelled in config.num_labelled:
        draws = [choose(train_set.labels, num_labelled, num_classes, seed) for seed in range(config.num_label_draws)]

        def best_rate(num_labelled: int = num_labelled, draws: list = draws) -> float:
            pairs = [(each, rate) for each in draws for rate in rates]
            held_out, parts = np.split(np.stack([each for each, _ in pairs]), [num_labelled // 3], axis=1)
            stage, pair_rates = f"{name}-{num_labelled}-choice", np.array([rate for _, rate in pairs])
            predict = fit(run, stage, weights, train_set, parts, pair_rates, num_classes)
            errors = np.mean(predict(train_set.inputs, held_out) != train_set.labels[held_out], axis=1)
            return rates[np.argmin(errors.reshape(len(draws), len(rates)).mean(axis=0))]

        def result(num_labelled: int = num_labelled, draws: list = draws, best_rate: Callable = best_rate) -> dict:
            best = best_rate() if len(rates) > 1 else rates[0]
            draw_rates = np.full(len(draws), best)
            predict = fit(run, f"{name}-{num_labelled}", weights, train_set, np.stack(draws), draw_rates, num_classes)
            indices = np.tile(np.arange(len(test_set)), (len(draws), 1))
            return {"errors": 100 * np.mean(predict(test_set.inputs, indices) != test_set.labels, axis=1), "rate": best}

        outcome = run.part(f"{name}-{num_labelled}-errors", result)
        estimate = evaluation.mean_estimate(outcome["errors"])
        published = PUBLISHED.get((num_labelled, name)) if config.preset == "paper" else None
        rows += [
            row(ERROR, estimate, method=name, labels=num_labelled, n=len(draws), paper=published,
                source="yell/boltzmann-machines" if published else None, values=outcome["errors"]),
            row("learning rate", float(outcome["rate"]), method=name, labels=num_labelled),
        ]  # fmt: skip
    return rows


def batch_of(arrays: tuple[Array, Array], indices: Callable, step: Array) -> tuple[Array, Array]:
    """The batch of a step, whose indices are `indices(step)`."""
    chosen = indices(step)
    return arrays[0][chosen], arrays[1][chosen]


def fit(
    run: Run, stage: str, weights: dict, images: data.Split, sets: np.ndarray, rates: np.ndarray, num_classes: int
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Trains one network on each of `sets`, indices `[num_sets, num]` of `images`, with its own learning rate.

    Returns:
      A function `(inputs, indices [num_sets, num]) -> classes [num_sets, num]`, the predictions of the networks.
    """
    config, (num_sets, num) = run.config, sets.shape
    network = models.MLP((*config.hidden, num_classes), activation=jax.nn.sigmoid)
    x, y = jnp.asarray(images.inputs), jnp.asarray(images.labels)

    def apply(params: Params, x: Array) -> Any:
        return network.apply({"params": params}, x)

    def loss(params: Params, rng_key: Array, example: tuple[Array, Array]) -> Array:
        return -categorical_log_likelihood(apply(params, example[0]), example[1])

    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9)
    set_kernel = kernels.optimize(objectives.batch_mean(loss), optimizer)
    kernel, options = run.stage(stage, kernels.particles(set_kernel, num_sets, batch_axis=0))
    init_key, batch_key, run_key = jax.random.split(jax.random.key(config.seed + 3), 3)
    position = jax.vmap(lambda key: network.init(key, x[0])["params"])(jax.random.split(init_key, num_sets))
    given = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_sets, *leaf.shape)), weights)
    state = kernel.init({**position, **given}, init_key)
    hyperparams = {**state.optimizer_state.hyperparams, "learning_rate": jnp.asarray(rates, jnp.float32)}
    state = state._replace(optimizer_state=state.optimizer_state._replace(hyperparams=hyperparams))

    batch_size = min(config.batch_size, num)
    indices = data.stacked_minibatches(jax.random.split(batch_key, num_sets), sets, batch_size)
    batches = jax.tree_util.Partial(batch_of, (x, y), indices)
    num_steps = max(config.num_classifier_steps, config.num_classifier_epochs * num // batch_size)
    state, _ = training.run(run_key, kernel, state, batches, num_steps=num_steps, keep=lambda state: (), **options)

    def predict(inputs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        classes = jax.jit(lambda x, pairs: jax.lax.map(lambda one: apply(one[0], x[one[1]]).argmax(axis=-1), pairs))
        return np.asarray(classes(inputs, (state.position, indices)))

    return predict


def main(config: Config) -> None:
    """Trains the machine, evaluates its bound, and trains the classifiers."""
    with Run("dbm", config, one_device=True) as run:
        images = shared.load(config)
        num_classes, num_train = images.num_classes, len(images.train)
        for num in config.num_labelled:
            require(num_classes > 1, f"--dataset {config.dataset} must have labels, or --num-labelled must be empty")
            limits = f"{num_classes} (one image of each class) and {num_train}"
            require(num_classes <= num <= num_train, f"--num-labelled must lie between {limits}; got {num}")
        test = binarise(images.test, seed=2)
        order_key, pixel_key = jax.random.split(jax.random.key(config.seed))
        batches = data.Binarised(pixel_key, data.Minibatches(order_key, images.train, config.batch_size))
        stack = pretrain(run, images, batches)
        deep = deep_machine(config, images.train.shape[1])
        trained, mean = train_jointly(run, deep, deep_boltzmann.from_rbms(stack), images, batches)
        samples, _ = shared.equilibrate(run, "dbm", deep.machine, trained.params, trained.chains)
        rows = bound_rows(run, deep, trained, samples, mean, test)
        draw(run, deep, trained.params, samples[:60], test, images.shape)
        if config.num_labelled:
            h2 = jax.jit(lambda x: jax.lax.map(lambda v: deep.mean_field(trained.params, v)[1], x, batch_size=1000))
            pixels, labels = (images.train, images.test), (images.train_labels, images.test_labels)
            augmented = [np.concatenate([each, np.asarray(h2(each))], axis=1) for each in pixels]
            for name, weights in initial_weights(stack, trained.params).items():
                train_set, test_set = map(data.Split, augmented if name == "dbm" else pixels, labels)
                rows += classify(run, name, weights, train_set, test_set, num_classes)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
