"""Deep belief network: RBMs that are trained one on top of the other, and the variational bound of the whole.

Papers: Hinton, Osindero & Teh, "A fast learning algorithm for deep belief nets", Neural Computation 2006; Salakhutdinov
& Murray, "On the quantitative analysis of deep belief networks", ICML 2008.

    python -m experiments.dbn                              quick: digits, 64-64: under a minute
    python -m experiments.dbn --preset paper               MNIST, 500-2000

The lowest RBM is trained on images that are binarised at every step, each further one on fresh draws of the hidden
units below it. The network has the sigmoid layers p(h_i | h_{i+1}) of the lower machines and the RBM on top as its
prior. Its bound on log p(x) uses the conditionals q(h_{i+1} | h_i) of the RBMs, and log Z of the top machine by
forward and reverse annealed importance sampling. The mean of the log weights of --num-draws draws of h is the bound,
and the logarithm of their mean weight is a tighter bound. Test images are binarised once.

Expected (paper): Salakhutdinov & Murray have a bound of about -86.2 for 500-2000, and -86.34 for the lowest RBM.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation
from bayesjax.evaluation import partition_function
from bayesjax.models import boltzmann
from bayesjax.objectives import boltzmann as objectives
from bayesjax.types import Params
from experiments.harness import Column, Count, NonEmpty, Run, Table, cli, row
from experiments.shared import boltzmann as shared
from experiments.shared.binarisation import binarise
from experiments.shared.boltzmann import FORWARD, REVERSE


@dataclass(frozen=True)
class Config(shared.MachineConfig):
    """Flags of experiments.dbn."""

    hidden: Annotated[tuple[Count, ...], NonEmpty] = (64, 64)
    """Numbers of hidden units of the machines, the lowest first."""
    num_epochs: Count = 60
    """Number of epochs of training of each machine."""
    num_draws: Count = 50
    """Number of draws of the hidden units for each test image, from which the bounds are estimated."""


QUICK = Config(learning_rate=0.2, num_temperatures=500)
PRESETS = {
    "quick": QUICK,
    "paper": replace(
        QUICK, dataset="mnist", hidden=(500, 2000), num_epochs=90, learning_rate=0.1, final_rate=0.05,
        num_temperatures=20_000,
    ),
}  # fmt: skip
TIGHTER = "log p(x), importance-weighted (nats)"
TABLES = [
    Table(
        {"method": "model"},
        [
            Column(FORWARD, "forward AIS"), Column(REVERSE, "reverse AIS"), Column("AIS gap (nats)", "gap"),
            Column(TIGHTER, "importance-weighted, forward AIS"), Column(FORWARD, "published", field="paper"),
            Column("seconds per epoch", "s per epoch"),
        ],
        note="The table has log p(x) of the lowest RBM, and the variational bound of the deep belief network, in nats "
        "per test image. AIS is annealed importance sampling of log Z of the RBM on top, from both sides.",
    )
]  # fmt: skip
PUBLISHED = {1: -86.34, 2: -86.2}
HEADLINE = "dbn-paper-mnist", {"measure": FORWARD, "method": "500-2000"}


class Layer(NamedTuple):
    """A trained machine."""

    machine: boltzmann.Machine
    params: Params


def log_weights(config: Config, layers: list[Layer], test: np.ndarray, rng_key: jax.Array) -> np.ndarray:
    """Log weights log [p(v, h) / q(h | v)] + log Z of the draws of h for each test image, `[num, num_draws]`."""
    lower, top = layers[:-1], layers[-1]
    log_weight = objectives.deep_belief_log_weight(
        [each.machine.hidden for each in lower], [each.machine.visible for each in lower], top.machine.free_energy
    )
    params = [each.params for each in layers]

    def of_image(key_and_image: tuple) -> jax.Array:
        key, v = key_and_image
        return jax.vmap(lambda key: log_weight(params, key, v))(jax.random.split(key, config.num_draws))

    keys = jax.random.split(rng_key, len(test))
    return np.asarray(jax.jit(lambda x: jax.lax.map(of_image, x, batch_size=10))((keys, test)), float)


def main(config: Config) -> None:
    """Trains the machines from the bottom to the top, evaluates the bound after each, and draws samples."""
    with Run("dbn", config, one_device=True) as run:
        images = shared.load(config)
        test = binarise(images.test, seed=2)
        order_key, pixel_key, evaluation_key = jax.random.split(jax.random.key(config.seed), 3)
        batches: Callable = data.Binarised(pixel_key, data.Minibatches(order_key, images.train, config.batch_size))
        inputs, layers, rows = jnp.asarray(binarise(images.train, seed=1)), [], []
        for index, num_hidden in enumerate(config.hidden):
            name = f"layer{index + 1}"
            start_key, chain_key, hidden_key = jax.random.split(jax.random.key(config.seed + 10 + index), 3)
            mean = np.asarray(inputs.mean(axis=0))
            model = boltzmann.RBM(len(mean), num_hidden, is_centred=True)
            machine, params = boltzmann.machine(model), shared.start(model, start_key, mean)
            first = partition_function.base_draws(
                machine, shared.base_machine(params, mean), chain_key, config.num_chains
            )
            trained = shared.train(
                run, name, machine, params, batches, first, num_epochs=config.num_epochs,
                steps_per_epoch=max(1, len(inputs) // config.batch_size),
            )  # fmt: skip
            layer = Layer(machine, jax.tree.map(jnp.asarray, trained.params))
            layers.append(layer)
            samples, _ = shared.equilibrate(run, name, machine, layer.params, trained.chains)
            sides = shared.log_partition_functions(run, name, machine, layer.params, samples, mean)
            weights = run.part(f"{name}-weights", lambda: log_weights(config, layers, test, evaluation_key))
            method = "-".join(map(str, config.hidden[: index + 1]))
            published = PUBLISHED[index + 1] if config.preset == "paper" and index < 2 else None
            for each in shared.likelihood_rows(weights.mean(axis=1), sides, method=method):
                source = {"paper": published, "source": "Salakhutdinov & Murray"} if each["measure"] == FORWARD else {}
                rows.append(each | (source if published else {}))
            tighter = jax.nn.logsumexp(weights, axis=1) - np.log(weights.shape[1])
            estimate = evaluation.mean_estimate(tighter)
            log_z = float(sides["forward"]["log_partition_function"])
            rows.append(row(TIGHTER, estimate.value - log_z, estimate.stderr, method=method))
            rows.append(row("seconds per epoch", trained.seconds_per_epoch, method=method))

            # The data of the next machine: a fresh draw of the hidden units at every step.
            batches = functools.partial(shared.hidden_batch, *layer, batches, hidden_key)
            inputs = jnp.concatenate([
                shared.draw_hidden(*layer, jax.random.fold_in(hidden_key, i), jnp.asarray(part))
                for i, part in enumerate(np.array_split(np.asarray(inputs), max(1, len(inputs) // 10_000)))
            ])  # fmt: skip
        shared.draw_samples(
            run, test.reshape(-1, *images.shape), pass_down(layers, samples[:60]).reshape(-1, *images.shape)
        )
        run.finish(rows, TABLES)


def pass_down(layers: list[Layer], h: np.ndarray) -> np.ndarray:
    """Means of the visible units, for samples h of the RBM on top that are passed down through the sigmoid layers."""
    for layer in layers[-2::-1]:
        visible: Any = jax.vmap(lambda h, layer=layer: layer.machine.visible(layer.params, h).mean())
        h = np.asarray(visible(h))
    return h


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
