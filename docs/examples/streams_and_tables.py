"""Data from a generator, from a loader in the manner of PyTorch, and from a .csv file, for the same regression."""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, kernels, objectives, training

NUM_DATA, NUM_STEPS, BATCH_SIZE = 1000, 300, 50
random = np.random.default_rng(0)
inputs = random.normal(size=(NUM_DATA, 2)).astype(np.float32)
labels = (inputs @ [2.0, -1.0] > 0).astype(np.int32)
path = Path(tempfile.mkdtemp()) / "table.csv"
rows = np.column_stack([inputs, np.array(["no", "yes"])[labels]])
np.savetxt(path, rows, fmt="%s", delimiter=",", header="a,b,answer", comments="")


def generator():
    for _ in range(NUM_STEPS):
        index = random.integers(0, NUM_DATA, BATCH_SIZE)
        yield {"x": inputs[index], "y": labels[index]}


class Loader:
    """One epoch of shuffled batches of equal size, like a DataLoader with `shuffle=True` and `drop_last=True`."""

    def __iter__(self):
        for index in random.permutation(NUM_DATA).reshape(-1, BATCH_SIZE):
            yield {"x": inputs[index], "y": labels[index]}


def epochs(loader):
    while True:
        yield from loader


def logistic_loss(params, rng_key, example):
    return optax.losses.sigmoid_binary_cross_entropy(example["x"] @ params, example["y"])


table = data.load(path, target="answer")
assert table.class_names == ("no", "yes") and len(table.train) + len(table.test) == NUM_DATA
columns = {"x": table.train.inputs, "y": table.train.labels}
sources = {
    "generator": data.stream(generator()),
    "loader": data.stream(epochs(Loader())),
    "csv": data.Minibatches(jax.random.key(0), columns, BATCH_SIZE),
}
for name, batches in sources.items():
    kernel = kernels.optimize(objectives.batch_mean(logistic_loss), optax.adam(0.05))
    state = kernel.init(jnp.zeros(2), jax.random.key(1))
    state, _ = training.run(jax.random.key(2), kernel, state, batches, num_steps=NUM_STEPS)
    accuracy = np.mean((table.test.inputs @ state.position > 0) == table.test.labels)
    print(f"{name}: weights {state.position}, test accuracy {accuracy:.2f}")
    assert accuracy > 0.95
