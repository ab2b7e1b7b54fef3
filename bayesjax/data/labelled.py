"""Few labels: a class-balanced labelled subset, all other labels withheld."""

import numpy as np

from bayesjax.data.dataset import Split


def labelled_subset(split: Split, num_labelled: int, num_classes: int, seed: int) -> Split:
    """Draws `num_labelled` examples, as many of each class as of any other (to within one).

    Args:
      split: the training split, with labels.
      num_labelled: N_s.
      num_classes: K.
      seed: fixes the draw.

    Raises:
      ValueError: if the split has no labels, or fewer examples than asked for, in total or of a class.
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
        of_class = np.flatnonzero(split.labels == label)
        if len(of_class) < count:
            raise ValueError(
                f"num_labelled {num_labelled} needs {count} examples of class {label}; there are {len(of_class)}"
            )
        chosen.append(rng.choice(of_class, count, replace=False))
    index = rng.permutation(np.concatenate(chosen))
    return Split(split.inputs[index], split.labels[index])
