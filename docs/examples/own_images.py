"""Your own images as an .npz file and as a folder of PNG files: RGB, not square, each read by `data.load`.

The same classifier is trained on both. The folder's own test split is a tenth of every class.
"""

import os
import tempfile
from pathlib import Path

import jax
import numpy as np
import optax
from PIL import Image

from bayesjax import data, evaluation, kernels, models, objectives, training

CLASSES = ("horizontal", "vertical")
random, folder = np.random.default_rng(0), Path(tempfile.mkdtemp())
os.environ["BAYESJAX_CACHE_DIR"] = ""  # decode the images at every call, and keep nothing in ~/.cache/bayesjax


def draw_bar(label):
    """An image [24, 16, 3] of a bar of random colour and place on noise."""
    image = random.integers(0, 100, (24, 16, 3), dtype=np.uint8)
    rows, columns = ((3, 12), (12, 3))[label]
    top, left = random.integers(0, 24 - rows), random.integers(0, 16 - columns + 1)
    image[top : top + rows, left : left + columns] = random.integers(120, 256, 3)
    return image


labels = np.arange(400) % 2
images = np.stack([draw_bar(label) for label in labels])
np.savez(folder / "bars.npz", x_train=images[:320], y_train=labels[:320], x_test=images[320:], y_test=labels[320:])
for i, (image, label) in enumerate(zip(images, labels, strict=True)):
    (folder / "bars" / CLASSES[label]).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / "bars" / CLASSES[label] / f"{i}.png")

network = models.MLP((64, 2), activation=jax.nn.relu)


def negative_log_likelihood(params, rng_key, example):
    return -jax.nn.log_softmax(network.apply({"params": params}, example["x"].reshape(-1)))[example["y"]]


for path in (folder / "bars.npz", folder / "bars"):
    dataset = data.load(path)
    assert dataset.input_shape == (24, 16, 3) and dataset.num_classes == 2
    arrays = {"x": dataset.train.inputs, "y": dataset.train.labels}
    kernel = kernels.optimize(objectives.batch_mean(negative_log_likelihood), optax.adam(3e-4))
    params = network.init(jax.random.key(0), dataset.train.inputs[0].reshape(-1))["params"]
    batches = data.Minibatches(jax.random.key(1), arrays, batch_size=32)
    state, _ = training.run(jax.random.key(2), kernel, kernel.init(params, jax.random.key(3)), batches, num_steps=300)
    logits = network.apply({"params": state.position}, dataset.test.inputs.reshape(len(dataset.test), -1))
    error = evaluation.error_rate(jax.nn.softmax(logits), dataset.test.labels)
    print(path.name, dataset.class_names, f"test error: {error.value:.3f}")
    assert error.value < 0.2
