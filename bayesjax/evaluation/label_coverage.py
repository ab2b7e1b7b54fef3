"""Coverage of the combinations of labels: how many modes a generator reaches, and how unequally.

    KL(q || uniform) = sum_m q_m log(M q_m)

q_m is the fraction of generated samples in mode m = 1 .. M. A mode is a combination of labels, such as the three digits
of an image of stacked MNIST with M = 1000 (`data/stacked.py`). A classifier predicts the labels:

    labels = np.stack([judge.classes(images[..., [channel]]) for channel in range(3)], axis=1)

Both measures depend on the number of samples. For n samples of the uniform distribution, the expected divergence is
about (M - 1) / (2 n) nats, so 0.019 for 26 000 samples of 1000 modes. Source: Metz, Poole, Pfau & Sohl-Dickstein,
"Unrolled generative adversarial networks", ICLR 2017, with 25 600 samples. `fidelity.mode_coverage` is the measure for
mixtures of Gaussians. Read `data/stacked.py` next for the images.
"""

import math
from typing import NamedTuple

import numpy as np

from bayesjax import checks
from bayesjax.evaluation import inputs
from bayesjax.types import ArrayLike


class LabelCoverage(NamedTuple):
    """Combinations of labels that generated samples cover.

    Attributes:
      num_covered: number of modes with at least one sample.
      num_modes: number of all modes.
      divergence: KL(q || uniform) in nats, where q is the distribution of the samples over the modes.
      num_fake: number of generated samples.
    """

    num_covered: int
    num_modes: int
    divergence: float
    num_fake: int


def label_coverage(labels: ArrayLike, num_classes: int) -> LabelCoverage:
    """Counts the combinations of labels among generated samples, and their divergence from the uniform distribution.

    Args:
      labels: predicted labels `[num, num_labels]`, integers in 0 .. num_classes - 1; or `[num]` for single labels.
      num_classes: number of classes of each label. The number of modes is num_classes^num_labels.

    Returns:
      The number of covered modes, the number of all modes, the divergence in nats and the number of samples.

    Raises:
      ValueError: if the labels have another shape, there are none, one is not a class, or `num_classes` is below 1.
    """
    checks.count(num_classes=num_classes)
    classes = inputs.label_map(labels, "labels", num_classes)
    if classes.ndim not in (1, 2) or not classes.size:
        raise ValueError(f"labels must be [num, num_labels] or [num] and not empty; got shape {classes.shape}")
    rows = classes.reshape(len(classes), -1)
    _, counts = np.unique(rows, axis=0, return_counts=True)
    num_labels, shares = rows.shape[1], counts / len(rows)
    divergence = num_labels * math.log(num_classes) + float(np.sum(shares * np.log(shares)))
    return LabelCoverage(len(counts), num_classes**num_labels, divergence, len(rows))
