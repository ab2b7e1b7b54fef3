"""The training loop, its checkpoints, its progress display, and kernels spread over devices and processes."""

from bayesjax.training.checkpoint import Checkpointer, CheckpointError, CheckpointMismatch
from bayesjax.training.diagnosis import SamplerWarning, sampler_warnings
from bayesjax.training.parallel import data_parallel, particle_parallel, spread
from bayesjax.training.processes import fetch, initialize
from bayesjax.training.progress import MetricsFile
from bayesjax.training.run import NonFinite, Trace, run
from bayesjax.training.saved import SavedRun, load

__all__ = [
    "CheckpointError",
    "CheckpointMismatch",
    "Checkpointer",
    "MetricsFile",
    "NonFinite",
    "SamplerWarning",
    "SavedRun",
    "Trace",
    "data_parallel",
    "fetch",
    "initialize",
    "load",
    "particle_parallel",
    "run",
    "sampler_warnings",
    "spread",
]
