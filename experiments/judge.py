"""The classifier whose features judge generated images, and what it says of them: no experiment, a helper of several.

    judge = load_judge("mnist")
    judged(judge, real, fake)       {"FCD": {"value": ..., "num_real": ..., "num_fake": ...}, "KCD": ..., ...}

Distances between images mean little pixel by pixel, so they are taken between features: here the last hidden layer of a
small classifier trained on the data set in question. The Fréchet distance of them is the Fréchet *classifier* distance,
FCD, the kernel distance KCD: they are no FID and no KID, whose features are those of Inception, and compare with
nothing but other numbers of the same judge. So a judge has a name with the hash of its weights in it. For the sets of
`SHA256` the weights are committed in `experiments/judges`; for any other with labels they are trained on the spot, from
a fixed seed. `judge_images.py` makes the former, and the table of what each number says of images that are known: what
it says of test images is the least to expect of fakes, for a judge has seen the training images before.

The measures are those of `evaluation.generation_report`.
"""

import dataclasses
import functools
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, objectives, training, tree
from bayesjax.data import files
from bayesjax.models.classifier import Classifier
from bayesjax.types import ArrayLike, Kernel
from experiments import common

JUDGES = common.ROOT / "experiments" / "judges"
SHA256 = {
    "cifar10": "da7f0c1f5ff77bf17c6f45e0d162d8be5dec4bb329e6750fe2343083fbbd9cb2",
    "digits": "2744ac7de90ee136b40ab11f139ce834feeefcd55a88279b965dd5b3218fab37",
    "fashion_mnist": "b27951cbcca2344a030ca649f37a1a4c2fc4a941a9b941c6acada63da538a890",
    "mnist": "ac5f99cb53fe680241544860877f87f6f7366fce83454751e55837b6f60996da",
}
"""Of the committed files of weights, by data set."""
AT_A_TIME = 500  # images in a pass through the network
LEVELS = 255  # images are read as they would be saved


@dataclass(frozen=True)
class Recipe:
    """A judge's network and how it is trained.

    Attributes:
      channels, num_features, is_strided, is_residual: of `models.classifier.Classifier`.
      num_steps: of AdamW, whose rate rises over a fifth of them and falls to 0 along a cosine.
      batch_size, learning_rate, weight_decay: of it.
      shift: pixels by which a training image may be moved along each axis.
      flips: whether a training image may be mirrored.
    """

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
        """The module."""
        return Classifier(num_classes, self.channels, self.num_features, self.is_strided, self.is_residual)


GREY = Recipe((16, 32, 64), 96, is_strided=True, num_steps=3500, shift=2)
RECIPES = {
    "mnist": GREY,
    "fashion_mnist": dataclasses.replace(GREY, num_steps=2500, shift=1),
    "cifar10": Recipe(
        (24, 48, 96), 96, is_strided=True, is_residual=True, num_steps=2500, weight_decay=0.05, shift=3, flips=True
    ),
}
"""By data set; any other takes `Recipe()`."""


class Reading(NamedTuple):
    """What a judge sees in images.

    Attributes:
      features: float32 `[num, num_features]`.
      probabilities: float32 `[num, num_classes]`.
    """

    features: np.ndarray
    probabilities: np.ndarray


@functools.partial(jax.jit, static_argnums=0)
def _read(network: Classifier, params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    features, logits = cast(Any, network.apply({"params": params}, jnp.round(LEVELS * x) / LEVELS))
    return features, jax.nn.softmax(logits)


@dataclass(frozen=True)
class Judge:
    """A trained classifier.

    Attributes:
      name: its data set and the first digits of the hash.
      sha256: of its file of weights.
      input_shape: (height, width, channels) of an image.
      network: the module.
      params: its weights.
    """

    name: str
    sha256: str
    input_shape: tuple[int, ...]
    network: Classifier
    params: Any = dataclasses.field(repr=False)

    def read(self, images: ArrayLike) -> Reading:
        """Features and probabilities of images, which are rounded to 256 levels as if they had been saved.

        Args:
          images: `[num, height, width, channels]` in [0, 1].

        Raises:
          ValueError: if there are none, their shape is another, or they leave [0, 1].
        """
        x = np.asarray(images, np.float32)
        if x.shape[1:] != self.input_shape or not len(x):
            raise ValueError(f"images for the judge {self.name} must be [num, {self.input_shape}]; got {x.shape}")
        if not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):
            raise ValueError(f"images must lie in [0, 1]; got {x.min()} .. {x.max()}")
        num = len(x)
        size = min(AT_A_TIME, num)
        x = np.concatenate([x, x[: -num % size]])  # whole passes: one shape to compile
        parts = [_read(self.network, self.params, x[start : start + size]) for start in range(0, len(x), size)]
        features, probabilities = (np.concatenate(each)[:num] for each in zip(*parts, strict=True))
        return Reading(features, probabilities)

    def features(self, images: ArrayLike) -> np.ndarray:
        """Features `[num, num_features]`, as `read`."""
        return self.read(images).features

    def probabilities(self, images: ArrayLike) -> np.ndarray:
        """Probabilities `[num, num_classes]`, as `read`."""
        return self.read(images).probabilities


def train(
    images: data.Split,
    num_classes: int,
    recipe: Recipe,
    *,
    seed: int = 0,
    spread: Callable[[Kernel], Kernel] = lambda kernel: kernel,
    stage: dict | Callable[[], dict] = dict,
) -> Any:
    """Trains a judge's network on labelled images.

    Args:
      images: the training split.
      num_classes: number of labels.
      recipe: of the network and its training.
      seed: of weights, batches, shifts and flips.
      spread: puts the kernel on devices.
      stage: further arguments of `training.run`, or what makes them once the kernel is spread.
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
    kernel = spread(kernels.optimize(objectives.batch_mean(loss), optax.adamw(rate, weight_decay=recipe.weight_decay)))
    batches = data.Minibatches(data_key, {"x": images.inputs, "y": images.labels}, recipe.batch_size)
    params = jax.jit(network.init)(init_key, images.inputs[:1])["params"]
    state, more = jax.jit(kernel.init)(params, start_key), stage() if callable(stage) else stage
    state, _ = training.run(run_key, kernel, state, batches, num_steps=recipe.num_steps, keep=lambda state: (), **more)
    return _rescaled(network, training.fetch(state.position), images.inputs[:10_000])


def _rescaled(network: Classifier, params: Any, images: np.ndarray) -> Any:
    """The same classifier with features whose variance is 1 on average: ReLU lets what one layer is divided by multiply
    the next. A distance is then in units of that variance, and the cubic kernel neither flat nor all cube."""
    features = np.concatenate([_read(network, params, x)[0] for x in np.array_split(images, 1 + len(images) // 1000)])
    scale = float(np.sqrt(features.var(axis=0).mean()))
    inner, outer = params["Dense_0"], params["Dense_1"]
    inner = {name: leaf / scale for name, leaf in inner.items()}
    return {**params, "Dense_0": inner, "Dense_1": {**outer, "kernel": outer["kernel"] * scale}}


def pack(params: Any) -> bytes:
    """The file of a judge's weights, in float16: an .npz whose bytes depend on nothing else."""
    arrays: Any = {path: np.asarray(leaf, np.float16) for path, leaf in tree.leaves_by_path(params).items()}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def unpack(packed: bytes, name: str, input_shape: tuple[int, ...], recipe: Recipe) -> Judge:
    """The judge of such a file: what stands in it is all that it knows, to the last digit.

    Args:
      packed: the file's bytes.
      name: of the data set.
      input_shape: (height, width, channels) of an image.
      recipe: whose network it is.
    """
    params: dict = {}
    for path, leaf in files.read_npz(f"the judge of {name}", packed).items():
        layer, last = path.split("/")
        params.setdefault(layer, {})[last] = jnp.asarray(leaf, jnp.float32)
    digest = hashlib.sha256(packed).hexdigest()
    network = recipe.network(len(params["Dense_1"]["bias"]))
    return Judge(f"{common.slug(name)}-{digest[:8]}", digest, input_shape, network, params)


INPUT_SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


def load_judge(dataset_name: str, *, data_dir: str | None = None, folder: Path = JUDGES) -> Judge:
    """The judge of a data set: from its committed weights, or else trained on the spot, in seconds for small images.

    Args:
      dataset_name: as in `data.load`.
      data_dir: as in `data.load`, where it has to be trained.
      folder: of the committed weights.

    Raises:
      ValueError: if the weights are not those of `SHA256`, or the set has no labelled images to train a judge on.
      FileNotFoundError: if the weights are not there.
    """
    recipe = RECIPES.get(dataset_name, Recipe())
    if dataset_name in SHA256:
        packed = (folder / f"{dataset_name}.npz").read_bytes()
        digest, expected = hashlib.sha256(packed).hexdigest(), SHA256[dataset_name]
        if digest != expected:
            raise ValueError(
                f"the weights of the judge {dataset_name!r} must have the sha256 {expected[:16]}...; those in {folder} "
                f"have {digest[:16]}..., and would judge by other features"
            )
        return unpack(packed, dataset_name, INPUT_SHAPES[dataset_name], recipe)
    dataset = data.load(dataset_name, data_dir=data_dir)
    require_labelled_images(dataset)
    return unpack(pack(train(dataset.train, dataset.num_classes, recipe)), dataset_name, dataset.input_shape, recipe)


def require_labelled_images(dataset: data.Dataset) -> None:
    """Raises ValueError if no judge can be trained on the set."""
    common.require(
        dataset.num_classes > 1 and len(dataset.input_shape) == 3,
        f"there is no judge for {dataset.name!r}: one is trained on images with labels of two classes or more",
    )


def judged(
    judge: Judge, real: ArrayLike | Reading, fake: ArrayLike | Reading, *, num_reach: int = 5000, seed: int = 0
) -> dict[str, dict[str, float]]:
    """How near fakes are to real images, in the judge's features; higher is better but for the distances.

    Args:
      judge: reads what is not read yet.
      real: images `[num, height, width, channels]` in [0, 1], or what the judge has read in them.
      fake: likewise.
      num_reach: images of each, from the first on, that precision, recall, density and coverage are of: their cost is
        the product of both numbers.
      seed: of the halves of the extrapolation and the subsets of the kernel distance.

    Returns:
      For each of FCD, FCD extrapolated, KCD, IS, precision, recall, density and coverage an entry of a results file:
      its value, a standard error (KCD) or standard deviation (IS) where it has one, and the numbers of images.

    Raises:
      ValueError: if images are no images for this judge, or there are fewer than twelve.
    """
    real, fake = (each if isinstance(each, Reading) else judge.read(each) for each in (real, fake))
    report = evaluation.generation_report(
        real.features, fake.features, fake.probabilities, max_precision_recall=num_reach, seed=seed
    )
    counts = {"num_real": len(real.features), "num_fake": len(fake.features)}
    score, within = report.inception_score, report.precision_recall._asdict()
    used = {name: within.pop(name) for name in counts}
    return {
        "FCD": report.frechet_distance._asdict(),
        "FCD extrapolated": {"value": report.extrapolated.value, "half": report.extrapolated.half, **counts},
        "KCD": {"value": report.kernel_distance.value, "stderr": report.kernel_distance.stderr, **counts},
        "IS": {"value": score.value, "sd": score.stddev, "num_fake": score.num_fake},
        **{name: {"value": value, **used} for name, value in within.items()},
    }


def accuracy(judge: Judge, images: data.Split) -> dict[str, float]:
    """The judge's accuracy on labelled images in %, and its standard error."""
    error = evaluation.error_rate(judge.probabilities(images.inputs), images.labels)
    return {"value": 100 * (1 - float(error.value)), "stderr": 100 * float(error.stderr)}


if __name__ == "__main__":
    common.not_a_command()
