"""Ways to move a position: one algorithm a file, all with one contract (`types.Kernel`)."""

from bayesjax.kernels.alternate import AlternateInfo, AlternateState, alternate, repeat
from bayesjax.kernels.optimize import OptimizeInfo, OptimizeState, clip_weights, optimize
from bayesjax.kernels.particles import particles
from bayesjax.kernels.sghmc import SGHMCInfo, SGHMCState, sghmc
from bayesjax.kernels.sgld import SGLDInfo, SGLDState, sgld
from bayesjax.types import Kernel

__all__ = [
    "AlternateInfo",
    "AlternateState",
    "Kernel",
    "OptimizeInfo",
    "OptimizeState",
    "SGHMCInfo",
    "SGHMCState",
    "SGLDInfo",
    "SGLDState",
    "alternate",
    "clip_weights",
    "optimize",
    "particles",
    "repeat",
    "sghmc",
    "sgld",
]
