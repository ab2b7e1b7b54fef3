"""The classifiers whose features measure how close generated images are to real ones.

    judge = judge.load("mnist")
    judge.report(judge.read(real), judge.read(fake))     {"FCD": {"value": ..., "num_real": ...}, "KCD": ..., ...}

The features are the last hidden layer of a small classifier that is trained on the data set in question. Their Fréchet
distance is called the Fréchet classifier distance (FCD), their kernel distance KCD. FID and KID differ: they use the
Inception network. Only numbers of one judge can be compared; a judge's name contains the hash of its weights.

The judges of `COMMITTED` are made by `judge_images.py`, and their weights are in `experiments/judges`. For other
labelled images a judge is trained when it is loaded, from a fixed seed. The measures and their sources are in
`bayesjax/evaluation/generation.py`.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from bayesjax import data, evaluation, kernels, objectives, training
from bayesjax.evaluation.judge import Judge, Reading, normalise_features, pack, unpack
from bayesjax.models.classifier import Classifier
from bayesjax.types import Kernel
from experiments.harness import require

FOLDER = Path(__file__).resolve().parents[1] / "judges"


@dataclass(frozen=True)
class Recipe:
    """A judge's network (`models.classifier.Classifier`) and its training by AdamW. Images are shifted by up to `shift`
    pixels along each axis and, with `flips`, mirrored, both at random."""

    channels: tuple[int, ...] = (16, 32)
    num_features: int = 32
    is_strided: bool = False
    is_residual: bool = False
    num_steps: int = 600
    batch_size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    shift: int = 1
    flips: bool = False

    def network(self, num_classes: int) -> Classifier:
        """The Flax module."""
        return Classifier(num_classes, self.channels, self.num_features, self.is_strided, self.is_residual)


class Committed(NamedTuple):
    """A judge whose weights are in the repository: its recipe, the shape of its images and the hash of its file."""

    recipe: Recipe
    input_shape: tuple[int, ...]
    sha256: str


GREY = Recipe((16, 32, 64), 96, is_strided=True, num_steps=3500, shift=2)
FASHION = dataclasses.replace(GREY, num_steps=2500, shift=1)
COLOUR = Recipe((24, 48, 96), 96, True, True, num_steps=2500, weight_decay=0.05, shift=3, flips=True)
COMMITTED = {
    "digits": Committed(Recipe(), (8, 8, 1), "2744ac7de90ee136b40ab11f139ce834feeefcd55a88279b965dd5b3218fab37"),
    "mnist": Committed(GREY, (28, 28, 1), "ac5f99cb53fe680241544860877f87f6f7366fce83454751e55837b6f60996da"),
    "fashion_mnist": Committed(
        FASHION, (28, 28, 1), "b27951cbcca2344a030ca649f37a1a4c2fc4a941a9b941c6acada63da538a890"
    ),
    "cifar10": Committed(COLOUR, (32, 32, 3), "da7f0c1f5ff77bf17c6f45e0d162d8be5dec4bb329e6750fe2343083fbbd9cb2"),
}


def report(real: Reading, fake: Reading, *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Compares generated and real images by `evaluation.generation_report`; returns `{measure: entries of a row}`."""
    fcd, extrapolated, kcd, score, fractions = evaluation.generation_report(
        real.features, fake.features, fake.probabilities, seed=seed
    )
    used = {"num_real": fractions.num_real, "num_fake": fractions.num_fake}
    return {
        "FCD": fcd._asdict(),
        "FCD extrapolated": {name: value for name, value in extrapolated._asdict().items() if name != "full"},
        "KCD": {name: value for name, value in kcd._asdict().items() if name != "subset_size"},
        "IS": {"value": score.value, "sd": score.stddev, "num_fake": score.num_fake},
        **{name: {"value": value, **used} for name, value in fractions._asdict().items() if name not in used},
    }


# ---- training and files


def train(
    images: data.Split, num_classes: int, recipe: Recipe, *, seed: int = 0,
    stage: Callable[[Kernel], tuple[Kernel, dict]] = lambda kernel: (kernel, {}),
) -> Any:  # fmt: skip
    """Trains a judge's network on labelled images; returns its parameters.

    `stage(kernel)` returns the kernel on the devices of a run and the options of `training.run`, as `Run.stage` does.
    """
    network, (height, width, _) = recipe.network(num_classes), images.inputs.shape[1:]
    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(seed), 4)

    def loss(params: Any, rng_key: jax.Array, example: dict) -> jax.Array:
        shift_key, flip_key = jax.random.split(rng_key)
        corner = jax.random.randint(shift_key, (2,), 0, 2 * recipe.shift + 1)
        x = jnp.pad(example["x"], [(recipe.shift, recipe.shift)] * 2 + [(0, 0)])
        x = jax.lax.dynamic_slice(x, (*corner, 0), (height, width, x.shape[-1]))
        if recipe.flips:
            x = jnp.where(jax.random.bernoulli(flip_key), x[:, ::-1], x)
        _, logits = cast(Any, network.apply({"params": params}, x))
        return -jax.nn.log_softmax(logits)[example["y"]]

    rate = optax.warmup_cosine_decay_schedule(0, recipe.learning_rate, recipe.num_steps // 5, recipe.num_steps)
    optimizer = optax.adamw(rate, weight_decay=recipe.weight_decay)
    kernel, options = stage(kernels.optimize(objectives.batch_mean(loss), optimizer))
    batches = data.Minibatches(data_key, {"x": images.inputs, "y": images.labels}, recipe.batch_size)
    state = jax.jit(kernel.init)(jax.jit(network.init)(init_key, images.inputs[:1])["params"], start_key)
    state, _ = training.run(
        run_key, kernel, state, batches, num_steps=recipe.num_steps, keep=lambda state: (), **options
    )
    return normalise_features(network, training.fetch(state.position), images.inputs[:10_000])


def load(dataset_name: str, *, data_dir: str | None = None, folder: Path = FOLDER) -> Judge:
    """Loads the judge of a data set from `folder` if it is committed, or trains one, in seconds for small images.

    Raises:
      ValueError: if the hash of a committed file does not match, or no judge can be trained on the data set.
    """
    if committed := COMMITTED.get(dataset_name):
        packed = (folder / f"{dataset_name}.npz").read_bytes()
        digest = hashlib.sha256(packed).hexdigest()
        require(
            digest == committed.sha256,
            f"the weights of the judge {dataset_name!r} must have the sha256 {committed.sha256[:16]}...; those in "
            f"{folder} have {digest[:16]}..., so that distances would not be comparable",
        )
        return unpack(packed, dataset_name, committed.input_shape, committed.recipe.network)
    dataset, recipe = data.load(dataset_name, data_dir=data_dir), Recipe()
    require_labelled_images(dataset)
    packed = pack(train(dataset.train, dataset.num_classes, recipe))
    return unpack(packed, dataset_name, dataset.input_shape, recipe.network)


def require_labelled_images(dataset: data.Dataset) -> None:
    """Raises ValueError unless a judge can be trained on the data set."""
    require(
        dataset.num_classes > 1 and len(dataset.input_shape) == 3,
        f"there is no judge for {dataset.name!r}: one is trained on images with labels of two classes or more",
    )
