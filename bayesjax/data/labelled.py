"""Class-balanced labelled subsets for semi-supervised learning.

Read `objectives/semi_supervised.py` next for the losses.
"""

import numpy as np

from bayesjax.data.dataset import Split


def labelled_subset(split: Split, num_labelled: int, num_classes: int, seed: int) -> Split:
    """Chooses a random class-balanced subset of a split, in which the class counts differ by at most one.

    Args:
      split: the training split, with labels.
      num_labelled: number of examples to choose.
      num_classes: number of classes.
      seed: random seed of the choice.

    Returns:
      The chosen examples with their labels, in random order.

    Raises:
      ValueError: if the split has no labels, or too few examples in total or of one class, or `num_labelled` is less
        than `num_classes`.
    """
    if len(split.labels) != len(split):
        raise ValueError("split has no labels to draw from")
    if not num_classes <= num_labelled <= len(split):
        raise ValueError(
            f"num_labelled must lie between the {num_classes} classes and the {len(split)} training examples; "
            f"got {num_labelled}"
        )
    rng = np.random.default_rng(seed)
    counts = np.full(num_classes, num_labelled // num_classes)
    counts[rng.permutation(num_classes)[: num_labelled % num_classes]] += 1
    chosen = []
    for label, count in enumerate(counts):
        members = np.flatnonzero(split.labels == label)
        if len(members) < count:
            raise ValueError(
                f"num_labelled {num_labelled} needs {count} examples of class {label}; there are {len(members)}"
            )
        chosen.append(rng.choice(members, count, replace=False))
    index = rng.permutation(np.concatenate(chosen))
    return Split(split.inputs[index], split.labels[index])
