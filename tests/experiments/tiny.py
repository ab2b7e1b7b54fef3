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
    "gan_theory": Tiny(
        ("--num-steps", "60", "--num-toys", "1"),
        bad=((("--num-steps", "50"), "--num-steps must be above 50; got 50"),),
    ),
}
