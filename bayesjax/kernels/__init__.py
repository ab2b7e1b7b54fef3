"""Ways to move a position: one algorithm a file, all with one contract (`types.Kernel`)."""

from bayesjax.kernels.alternate import Alternate, AlternateInfo, AlternateState, alternate, repeat
from bayesjax.kernels.carrying import CarryingState, carrying
from bayesjax.kernels.hmc import HMCInfo, HMCState, hmc
from bayesjax.kernels.leapfrog import trajectory
from bayesjax.kernels.optimize import OptimizeInfo, OptimizeState, clip_weights, optimize
from bayesjax.kernels.particles import Particles, particles
from bayesjax.kernels.sghmc import SGHMCInfo, SGHMCState, sghmc
from bayesjax.kernels.sgld import SGLDInfo, SGLDState, sgld
from bayesjax.types import Kernel

__all__ = [
    "Alternate",
    "AlternateInfo",
    "AlternateState",
    "CarryingState",
    "HMCInfo",
    "HMCState",
    "Kernel",
    "OptimizeInfo",
    "OptimizeState",
    "Particles",
    "SGHMCInfo",
    "SGHMCState",
    "SGLDInfo",
    "SGLDState",
    "alternate",
    "carrying",
    "clip_weights",
    "hmc",
    "optimize",
    "particles",
    "repeat",
    "sghmc",
    "sgld",
    "trajectory",
]
