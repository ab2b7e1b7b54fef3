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


CONDITIONAL = (
    *("--judge", "none", "--generator-features", "4", "--discriminator-features", "4", "--discriminator-hidden", "6"),
    *("--kernel-size", "3", "--latent-dim", "3", "--batch-size", "6", "--num-steps", "4", "--num-evaluations", "2"),
    *("--num-judged", "20"),
)
TINY = {
    "acgan": Tiny(
        CONDITIONAL,
        bad=(
            (("--norm", "layer"), "invalid choice 'layer' for argument '--norm'"),
            (("--num-judged", "5"), "--num-judged must be at least 12; got 5"),
            (("--dataset", "synthetic/ring"), "--dataset synthetic/ring must hold images"),
        ),
    ),
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
    "gan": Tiny(
        (
            *("--losses", "hinge", "--kernel", "sghmc", "--hidden", "6", "--batch-size", "8", "--num-steps", "8"),
            *("--num-warmup", "4", "--num-evaluations", "2", "--num-judged", "20"),
        ),
        bad=(
            (("--losses", "wgan"), "invalid choice 'wgan' for argument '--losses'"),
            (
                ("--real-target", "0.9"),
                "--real-target must be 1 for losses without probabilities; got 0.9 and ['hinge']",
            ),
            (("--real-target", "1.5"), "--real-target must be above 0 and at most 1; got 1.5"),
            (("--num-warmup", "7"), "--num-steps must leave a step for each of 2 evaluations after 7 steps of warm-up"),
            (("--architecture", "dcgan"), "--dataset synthetic/ring has examples of (2,)"),
            (("--batch-size", "20000"), "--batch-size times --discriminator-steps must be at most 10000"),
            (("--dataset", "synthetic/ten_clusters"), "must hold images [height, width, channels] with labels"),
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
    "infogan": Tiny(
        (*CONDITIONAL, "--num-codes", "3", "--code-hidden", "4"),
        bad=(
            (("--num-codes", "1"), "--num-codes must be at least 2; got 1"),
            (("--code-hidden", "4", "0"), "--code-hidden must be a list of numbers that are at least 1"),
            (("--information-weight", "-1"), "--information-weight must be at least 0; got -1.0"),
            (("--judge", "mnist"), "--judge mnist reads images of (28, 28, 1)"),
        ),
    ),
    "judge_images": Tiny(
        ("--num-steps", "10", "--noises", "0.2", "--blurs", "1"),
        bad=(
            (("--noises", "0"), "--noises must be a list of numbers that are above 0; got (0.0,)"),
            (("--num-images", "23"), "--num-images must be at least 24; got 23"),
            (("--num-images", "60"), "--num-images 60 leaves 6 images in the row 'one class'; at least 12 are needed"),
            (("--num-steps", "-1"), "--num-steps must be at least 0; got -1"),
            (("--dataset", "synthetic/ten_clusters"), "one is trained on images with labels of two classes or more"),
        ),
    ),
    "vae": Tiny(
        (
            *("--hidden", "4", "--latent-dims", "2", "--num-epochs", "1", "--estimator-epochs", "1"),
            *("--batch-size", "360", "--num-likelihood", "4", "--likelihood-samples", "4"),
        ),
        bad=(
            (("--binarise", "twice"), "invalid choice 'twice' for argument '--binarise'"),
            (("--bounds", "iwae"), "--bounds must be elbo, elbo-L or iwae-K with numbers of draws L and K; got 'iwae'"),
            (("--bounds", "elbo-0"), "--bounds must be elbo, elbo-L or iwae-K with numbers of draws L and K"),
            (("--bounds", "elbo", "iwae-5", "elbo"), "--bounds must not repeat a value"),
            (("--likelihood", "gaussian"), "--likelihood gaussian needs grey values, --binarise none; got resampled"),
            (("--num-validation", "1"), "--num-validation must be 0 or at least 2; got 1"),
            (("--num-annealed", "5"), "--num-annealed must be at most --num-likelihood, 4; got 5"),
            (("--num-validation", "1437"), "--num-validation must be less than the 1437 training images"),
            (("--latent-dims", "0"), "--latent-dims must be a list of numbers that are at least 1; got (0,)"),
            (("--dataset", "synthetic/ten_clusters"), "must have at least 2 test examples"),
        ),
    ),
}
