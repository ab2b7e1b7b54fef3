"""The flags of `tiny.py` for experiments with games of networks, and the type of all entries."""

from typing import NamedTuple


class Tiny(NamedTuple):
    """Flags of one experiment.

    Attributes:
      flags: of a run of a few seconds.
      bad: flags to add to them, and words of the one line with which the experiment must refuse.
      slow: flags to add in `make test-slow`, with the methods that `flags` leaves out.
    """

    flags: tuple[str, ...]
    bad: tuple[tuple[tuple[str, ...], str], ...] = ()
    slow: tuple[str, ...] = ()


CONDITIONAL = (
    *("--judge", "none", "--generator-features", "4", "--discriminator-features", "4", "--discriminator-hidden", "6"),
    *("--kernel-size", "3", "--latent-dim", "3", "--batch-size", "6", "--num-steps", "4", "--num-evaluations", "2"),
    *("--num-judged", "20"),
)
GAMES = (
    *("--num-generators", "4", "--latent-dim", "2", "--batch-size", "8", "--num-steps", "8", "--num-warmup", "4"),
    *("--thinning", "2"),
)
STYLES = (
    *("--features", "3", "2", "--latent-dim", "3", "--batch-size", "4", "--num-steps", "12", "--num-warmup", "8"),
    *("--num-evaluations", "2", "--num-judged", "20", "--num-paths", "4"),
)
GAMES_TINY = {
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
    "bayesian_dcgan": Tiny(
        (
            *("--generator-features", "4", "--discriminator-features", "4", "--kernel-size", "1"),
            *("--num-burnin", "1", "--num-judged", "48", *GAMES),
        ),
        slow=("--methods", "dcgan", "independent", "coupled", "bayes"),
        bad=(
            (("--dataset", "ptb"), "unknown data set 'ptb'"),
            (("--num-judged", "47"), "--num-judged must be at least 48, 12 for a generator; got 47"),
            (("--num-burnin", "3"), "no draw is kept in 1 steps with --thinning 2"),
            (("--methods", "wgan"), "invalid choice 'wgan' for argument '--methods'"),
        ),
    ),
    "bayesian_gan": Tiny(
        (*("--methods", "bayes", "--hidden", "4", "--grid-step", "0.5", *GAMES),),
        slow=("--methods", "ml", "ml_independent", "ml_coupled", "bayes", "authors_code"),
        bad=(
            (("--methods", "ml", "mll"), "invalid choice 'mll' for argument '--methods'"),
            (("--methods",), "--methods"),
            (("--friction", "1"), "--friction must be above 0 and below 1; got 1.0"),
            (("--temperature", "-1"), "--temperature must be at least 0; got -1.0"),
            (("--learning-rate", "-0.1"), "--learning-rate must be above 0; got -0.1"),
            (("--learning-rate", "nan"), "--learning-rate must be above 0; got nan"),
            (("--generator-learning-rate", "0"), "--generator-learning-rate must be above 0; got 0.0"),
            (
                ("--extra-temperatures", "0.1", "-0.1"),
                "--extra-temperatures must be a list of numbers that are at least 0",
            ),
            (("--num-generators", "0"), "--num-generators must be at least 1; got 0"),
            (("--num-warmup", "8"), "--num-warmup must be less than --num-steps"),
            (("--thinning", "5"), "a stage of 4 steps keeps no draw with --thinning 5"),
            (("--grid-step", "0"), "--grid-step must be above 0; got 0.0"),
        ),
    ),
    "bayesian_gan_semisupervised": Tiny(
        (
            *("--methods", "bayes", "--num-labelled", "20"),
            *("--num-label-draws", "2", "--labelled-batch-size", "8", "--num-discriminators", "2", "--num-burnin", "0"),
            *("--generator-features", "4", "--discriminator-features", "4", "--kernel-size", "1", *GAMES),
        ),
        slow=("--methods", "supervised", "w_dcgan", "bayes", "authors_code", "--num-labelled", "10", "20"),
        bad=(
            (("--num-labelled", "2000"), "--num-labelled must lie between 10 (one image of each class) and 1437"),
            (("--num-labelled", "9"), "--num-labelled must lie between 10"),
            (("--num-labelled",), "--num-labelled"),
            (("--methods", "baies"), "invalid choice 'baies' for argument '--methods'"),
            (("--num-burnin", "3"), "no draw is kept: 1 steps remain after warm-up and burn-in, and --thinning is 2"),
            (("--kernel-size", "0"), "--kernel-size must be at least 1; got 0"),
            (("--num-validation", "719"), "--num-validation must be at most 718; got 719"),
            (("--num-cycles", "2", "--kernel", "sgld"), "--num-cycles needs SGHMC and a temperature above 0"),
            (("--num-cycles", "4"), "no draw is kept in 4 cycles with --thinning 2"),
            (
                ("--norm", "batch", "--devices", "2"),
                "--norm batch, --architecture mlp_noise and --generator-loss feature_matching need",
            ),
        ),
    ),
    "bayesian_gan_sampling": Tiny(
        (
            *("--factors", "draws", "--num-labelled", "20", "--num-diagnosed", "3"),
            *("--num-label-draws", "2", "--labelled-batch-size", "8", "--num-discriminators", "2", "--num-burnin", "0"),
            *("--generator-features", "4", "--discriminator-features", "4", "--kernel-size", "1", *GAMES),
        ),
        slow=("--factors", "labels", "step sizes", "--num-warmup", "20", "--num-steps", "60"),
        bad=(
            (("--factors",), "--factors"),
            (("--factors", "colour"), "invalid choice 'colour' for argument '--factors'"),
            (("--num-diagnosed", "0"), "--num-diagnosed must be at least 1; got 0"),
        ),
    ),
    "bayesian_gan_step_sizes": Tiny(
        (
            *("--hidden", "4", "--num-generators", "4", "--num-warmup", "4", "--num-steps", "8"),
            *("--temperatures", "1", "--frictions", "0.5", "--learning-rates", "1e-4", "1e-3"),
        ),
        bad=(
            (("--frictions", "0.5", "1"), "--frictions must be a list of numbers that are above 0 and below 1"),
            (("--num-warmup", "8"), "--num-warmup must be less than --num-steps"),
        ),
    ),
    "bayesian_gan_truth": Tiny(
        (
            *("--step-sizes", "0.5", "--integration-time", "1", "--num-hmc-updates", "2", "--num-chains", "2"),
            *("--num-warmup", "2", "--num-draws", "8"),
        ),
        slow=("--num-inner-steps", "1", "2", "--friction-rates", "2", "4", "--step-sizes", "0.5", "0.25"),
        bad=(
            (("--step-sizes", "0.5", "0"), "--step-sizes must be a list of numbers that are above 0; got (0.5, 0.0)"),
            (("--num-hmc-updates",), "--num-hmc-updates"),
            (("--num-chains", "1"), "--num-chains must be at least 2; got 1"),
            (("--num-draws", "3"), "--num-draws must be at least 4; got 3"),
        ),
    ),
    "cyclegan": Tiny(
        (
            *("--features", "2", "--num-halvings", "0", "--num-blocks", "0", "--kernel-size", "1"),
            *("--discriminator-features", "2", "--batch-size", "3", "--num-steps", "8", "--num-evaluations", "2"),
            *("--num-judged", "6"),
        ),
        bad=(
            (("--task", "invert"), "invalid choice 'invert' for argument '--task'"),
            (("--kernel-size", "2"), "--kernel-size must be odd; got 2"),
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
            (("--dataset", "synthetic/ten_clusters"), "must hold images [height, width, channels] with labels"),
        ),
    ),
    "gan_theory": Tiny(
        ("--num-steps", "60", "--num-toys", "1"),
        bad=((("--num-steps", "50"), "--num-steps must be above 50; got 50"),),
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
        ("--num-steps", "10", "--noises", "0.2", "--blurs", "1", "--num-images", "150"),
        bad=(
            (("--noises", "0"), "--noises must be a list of numbers that are above 0; got (0.0,)"),
            (("--num-images", "23"), "--num-images must be at least 24; got 23"),
            (("--num-images", "60"), "--num-images 60 leaves 6 images in the row 'one class'; at least 12 are needed"),
            (("--num-steps", "-1"), "--num-steps must be at least 0; got -1"),
            (("--dataset", "synthetic/ten_clusters"), "one is trained on images with labels of two classes or more"),
        ),
    ),
    "progressive_gan": Tiny(
        (*STYLES, "--dcgan-features", "3", "--methods", "progan", "--judge", "none"),
        slow=(
            *("--methods", "dcgan", "progan", "progan_grown", "--kernel", "sghmc", "--loss", "wasserstein_gp"),
            *("--judge", "digits"),
        ),
        bad=(
            (("--methods", "grown"), "invalid choice 'grown' for argument '--methods'"),
            (
                ("--growth", "0.3", "--methods", "progan_grown"),
                "--growth must leave 2 steps, one for each evaluation, to each of the 2 stages",
            ),
            (("--loss", "hinge"), "invalid choice 'hinge' for argument '--loss'"),
            (("--dataset", "synthetic/ring"), "must hold images [height, width, channels] with labels"),
        ),
    ),
    "stylegan": Tiny(
        (*STYLES, "--style-dim", "3", "--mapping-depth", "1", "--methods", "stylegan2", "--judge", "none"),
        slow=("--methods", "stylegan", "stylegan2", "path_length", "mixing", "--kernel", "sghmc", "--judge", "digits"),
        bad=(
            (("--methods", "stylegan3"), "invalid choice 'stylegan3' for argument '--methods'"),
            (("--mixing-probability", "2"), "--mixing-probability must be above 0 and at most 1; got 2.0"),
            (("--path-interval", "0"), "--path-interval must be at least 1; got 0"),
        ),
    ),
    "stacked_mnist": Tiny(
        (
            *("--generator-features", "3", "--discriminator-features", "3", "--num-judged", "40", *GAMES),
            *("--num-generators", "2", "--methods", "r3gan", "grouped"),
        ),
        slow=("--methods", "dcgan", "r1", "r3gan", "coupled", "grouped", "bayes"),
        bad=(
            (("--methods", "unrolled"), "invalid choice 'unrolled' for argument '--methods'"),
            (("--dataset", "digits"), "--dataset must begin with stacked/; got digits"),
            (("--batch-size", "5"), "--batch-size must be a multiple of the 2 generators of a population; got 5"),
            (("--num-warmup", "7"), "a stage of 1 steps keeps no draw with --thinning 2"),
        ),
    ),
    "semi_supervised_gan": Tiny(
        (
            *("--generator-features", "2", "--discriminator-features", "2", "--latent-dim", "2", "--batch-size", "6"),
            *("--labelled-batch-size", "5", "--num-labelled", "20", "--num-label-draws", "2", "--num-steps", "8"),
            *("--num-evaluations", "2", "--kernel-size", "1", "--methods", "supervised", "feature_matching"),
        ),
        slow=("--methods", "supervised", "gan", "feature_matching"),
        bad=(
            (("--methods", "gans"), "invalid choice 'gans' for argument '--methods'"),
            (("--num-labelled", "5"), "--num-labelled must lie between 10"),
            (("--label-weight", "0"), "--label-weight must be above 0; got 0.0"),
            (("--dataset", "synthetic/ring"), "must hold images [height, width, channels] with labels of two classes"),
        ),
    ),
    "gmmn": Tiny(
        (
            *("--hidden", "8", "--latent-dim", "2", "--batch-size", "8", "--num-steps", "10", "--kernels", "sgld"),
            *("--spaces", "code", "--num-sampling-steps", "4", "--num-draws", "2", "--code-features", "6", "3"),
            *("--num-code-steps", "10", "--num-samples", "20", "--num-validation", "5"),
        ),
        bad=(
            (("--spaces", "pixels"), "invalid choice 'pixels' for argument '--spaces'"),
            (("--friction", "1"), "--friction must be above 0 and below 1; got 1.0"),
            (("--num-sampling-steps", "3"), "--num-sampling-steps must be at least twice --num-draws, 2; got 3"),
            (("--code-dropout-rates", "0.5"), "--code-dropout-rates must have a number for each of --code-features"),
            (("--num-samples", "13"), "--num-samples must be at least 14; got 13"),
            (("--num-validation", "1437"), "--num-validation must be less than the 1437 training images"),
        ),
    ),
    "wgan": Tiny(
        (
            *("--losses", "wasserstein", "--generators", "plain", "--generator-features", "2"),
            *("--discriminator-features", "2", "--latent-dim", "2", "--batch-size", "8", "--num-steps", "8"),
            *("--num-warmup", "4", "--num-evaluations", "2", "--num-judged", "20", "--critic-steps", "2"),
        ),
        slow=("--losses", "non_saturating", "wasserstein", "--generators", "dcgan", "plain", "mlp", "--hidden", "4"),
        bad=(
            (("--losses", "hinge"), "invalid choice 'hinge' for argument '--losses'"),
            (("--critic-steps", "0"), "--critic-steps must be at least 1; got 0"),
            (("--dataset", "synthetic/ring"), "must hold images [height, width, channels] with labels"),
        ),
    ),
}
