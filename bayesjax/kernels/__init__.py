"""Optimisers and samplers. Each file holds one algorithm, and all algorithms return a `types.Kernel`."""

from bayesjax.kernels.adaptation import AdaptInfo, AdaptState, adapt
from bayesjax.kernels.alternate import AlternateInfo, AlternateState, alternate, repeat
from bayesjax.kernels.averaging import AveragingState, averaging
from bayesjax.kernels.block_gibbs import BlockGibbsInfo, BlockGibbsState, block_gibbs
from bayesjax.kernels.by_path import ByPathInfo, ByPathState, by_path
from bayesjax.kernels.carrying import CarryingState, carrying
from bayesjax.kernels.game_descent import GameDescentInfo, GameDescentState, game_descent
from bayesjax.kernels.hmc import HMCInfo, HMCState, hmc
from bayesjax.kernels.leapfrog import trajectory
from bayesjax.kernels.nuts import NUTSInfo, nuts
from bayesjax.kernels.optimize import OptimizeInfo, OptimizeState, adjust, clip_weights, optimize
from bayesjax.kernels.parallel_tempering import (
    ParallelTemperingInfo,
    ParallelTemperingState,
    parallel_tempering,
    rejection_rates,
    round_trips,
    swap_probabilities,
)
from bayesjax.kernels.particles import particles
from bayesjax.kernels.preconditioning import Preconditioner, RMSPropState, fixed_preconditioner, rmsprop_preconditioner
from bayesjax.kernels.schedules import Cyclical, cyclical, jittered, polynomial
from bayesjax.kernels.sghmc import SGHMCInfo, SGHMCState, sghmc
from bayesjax.kernels.sgld import SGLDInfo, SGLDState, sgld
from bayesjax.kernels.sgnht import SGNHTInfo, SGNHTState, sgnht
from bayesjax.types import Kernel

__all__ = [
    "AdaptInfo",
    "AdaptState",
    "AlternateInfo",
    "AlternateState",
    "AveragingState",
    "BlockGibbsInfo",
    "BlockGibbsState",
    "ByPathInfo",
    "ByPathState",
    "CarryingState",
    "Cyclical",
    "GameDescentInfo",
    "GameDescentState",
    "HMCInfo",
    "HMCState",
    "Kernel",
    "NUTSInfo",
    "OptimizeInfo",
    "OptimizeState",
    "ParallelTemperingInfo",
    "ParallelTemperingState",
    "Preconditioner",
    "RMSPropState",
    "SGHMCInfo",
    "SGHMCState",
    "SGLDInfo",
    "SGLDState",
    "SGNHTInfo",
    "SGNHTState",
    "adapt",
    "adjust",
    "alternate",
    "averaging",
    "block_gibbs",
    "by_path",
    "carrying",
    "clip_weights",
    "cyclical",
    "fixed_preconditioner",
    "game_descent",
    "hmc",
    "jittered",
    "nuts",
    "optimize",
    "parallel_tempering",
    "particles",
    "polynomial",
    "rejection_rates",
    "repeat",
    "rmsprop_preconditioner",
    "round_trips",
    "sghmc",
    "sgld",
    "sgnht",
    "swap_probabilities",
    "trajectory",
]
