"""Conversion of draws and diagnostics to ArviZ's InferenceData, for ArviZ's plots, summaries and files.

    data = to_inference_data(chains_first(trace.draws), chains_first(trace.info))
    data.to_netcdf("posterior.nc")

A leaf is named by its path with dots, such as "Dense_0.kernel", because netCDF does not allow slashes in names. Read
`diagnostics.py` for the same diagnostics without ArviZ.
"""

from typing import Any

import numpy as np

from bayesjax import tree
from bayesjax.types import PyTree

ARVIZ_NAMES = {
    "acceptance_probability": "acceptance_rate",
    "is_divergent": "diverging",
    "logdensity": "lp",
    "num_integration_steps": "n_steps",
    "num_doublings": "tree_depth",
}
"""ArviZ's names for fields of a kernel's info, where they differ from ours."""


def to_inference_data(draws: PyTree, info: Any = None) -> Any:
    """Converts draws and diagnostics to ArviZ's `InferenceData`, with the groups `posterior` and `sample_stats`.

    Args:
      draws: leaves `[num_chains, num_draws, ...]`, such as from `chains_first`. A leaf is named by its path, such as
        "Dense_0.kernel"; a single array is named "x". Types that netCDF lacks, such as bfloat16, become float32.
      info: the info of a kernel, or of `kernels.adapt` around it, at the same draws, leaves `[num_chains, num_draws]`.
        Fields with an ArviZ equivalent get its names (`is_divergent` becomes "diverging"); the others keep theirs.
        Fields that are not one number for each draw are dropped.

    Returns:
      An `arviz.InferenceData`.

    Raises:
      ImportError: if ArviZ is not installed (`pip install 'bayesjax[arviz]'`).
      ValueError: if leaves differ in their numbers of chains or draws, no leaf of `info` is `[num_chains, num_draws]`,
        or two names are equal or reserved ("chain", "draw").
    """
    import arviz

    named = _by_name(draws, "draws")
    shapes = {leaf.shape[:2] for leaf in named.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"draws must have leaves [num_chains, num_draws, ...]; got leading axes {sorted(shapes)}")
    fields, stats = _by_name(info, "info"), {}
    for name, leaf in fields.items():
        if leaf.shape in shapes:
            name = name.removeprefix("inner.")
            arviz_name = ARVIZ_NAMES.get(name, name)
            stats[arviz_name] = leaf > 0 if arviz_name == "diverging" else leaf
    if fields and not stats:
        raise ValueError(
            f"info must have leaves [num_chains, num_draws] as the draws, {next(iter(shapes))}; "
            f"got {', '.join(f'{name} {leaf.shape}' for name, leaf in fields.items())}"
        )
    return arviz.from_dict(posterior=named, sample_stats=stats or None)


def _by_name(leaves: PyTree, argument: str) -> dict[str, np.ndarray]:
    """The leaves by their names in netCDF."""
    named = {}
    for path, leaf in tree.leaves_by_path(leaves).items():
        name = path.replace("/", ".") or "x"
        if name in named or name in ("chain", "draw"):
            raise ValueError(f"{argument} must have leaves of distinct names other than chain and draw; got {name}")
        array = np.asarray(leaf)
        named[name] = array if array.dtype.kind in "biuf" else array.astype(np.float32)
    return named
