"""The cheapest flags with which each experiment still executes all of its `main`, and flags that it must refuse.

`test_every_experiment.py` runs every experiment with them. An experiment without an entry fails that test.
"""

from typing import NamedTuple


class Tiny(NamedTuple):
    """Flags of one experiment.

    Attributes:
      flags: of a run of a few seconds.
      bad: flags to add to them, and words of the one line with which the experiment must refuse.
    """

    flags: tuple[str, ...]
    bad: tuple[tuple[tuple[str, ...], str], ...] = ()


TINY = {
    "adversarial_games": Tiny(
        ("--games", "bilinear", "--methods", "simultaneous", "optimistic", "--num-steps", "40"),
        bad=(
            (("--games", "chess"), "invalid choice 'chess' for argument '--games'"),
            (("--step-sizes", "-1"), "--step-sizes must be a list of numbers that are above 0; got (-1.0,)"),
            (("--num-steps", "3"), "--num-steps must be at least 40; got 3"),
        ),
    ),
    "density_estimation": Tiny(
        (
            *("--targets", "gaussian", "--flows", "affine", "--num-layers", "2", "--hidden", "4", "--num-steps", "10"),
            *("--num-data", "100", "--num-test", "200", "--num-compared", "30", "--batch-size", "8"),
            *("--grid-size", "90"),
        ),
        bad=(
            (("--targets", "moon"), "invalid choice 'moon' for argument '--targets'"),
            (("--num-test", "29"), "--num-test must be at least --num-compared, 30; got 29"),
            (("--learning-rate", "0"), "--learning-rate must be above 0; got 0.0"),
        ),
    ),
    "gan_theory": Tiny(
        ("--num-steps", "60", "--num-toys", "1"),
        bad=((("--num-steps", "50"), "--num-steps must be above 50; got 50"),),
    ),
    "hmc_tour": Tiny(
        ("--step-sizes", "0.5", "--dimensions", "2", "--num-chains", "4", "--num-steps", "3"),
        bad=(
            (("--step-sizes", "0.5", "2"), "--step-sizes must be a list of numbers that are above 0 and below 2"),
            (("--num-chains", "1"), "--num-chains must be at least 2; got 1"),
        ),
    ),
}
