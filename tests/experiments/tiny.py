"""The cheapest flags with which each experiment still executes all of its `main`, and flags that it must refuse.

`test_every_experiment.py` runs every experiment with them. An experiment without an entry fails that test.
"""

from tests.experiments.tiny_games import GAMES_TINY, Tiny

ANNEALED = ("--num-temperatures", "10")
TINY = GAMES_TINY | {
    "bayes_by_backprop": Tiny(
        (
            *("--methods", "bbb_mixture", "--widths", "4", "--num-epochs", "1", "--batch-size", "700"),
            *("--num-draws", "2", "--removed", "0.5"),
        ),
        slow=("--methods", "dropout", "bbb_mixture"),
        bad=(
            (("--methods", "vi"), "invalid choice 'vi' for argument '--methods'"),
            (("--estimator", "local"), "--estimator local draws no weights"),
            (("--removed", "1.0"), "--removed must be a list of numbers that are at least 0 and below 1; got (1.0,)"),
            (("--num-validation", "1437"), "--num-validation must lie in 0 .. 1436; got 1437"),
        ),
    ),
    "bayes_by_backprop_regression": Tiny(
        ("--num-data", "20", "--hidden", "4", "--num-steps", "4", "--num-draws", "5"),
        bad=((("--low", "1"), "--low must be below --high; got 1.0 and 0.5"),),
    ),
    "bayesian_cnn": Tiny(
        (
            *("--channels", "2", "--hidden", "4", "--num-members", "2", "--num-epochs", "1", "--batch-size", "700"),
            *("--num-draws", "2", "--methods", "bbb"),
        ),
        slow=("--methods", "point", "ensemble", "dropout", "bbb"),
        bad=(
            (("--methods", "swag"), "invalid choice 'swag' for argument '--methods'"),
            (("--outside", "nowhere"), "unknown data set 'nowhere'"),
        ),
    ),
    "bayesian_rnn": Tiny(
        (
            *("--features", "4", "--num-epochs", "1", "--num-streams", "400", "--num-draws", "2"),
            *("--methods", "bbb_sharpened"),
        ),
        slow=("--methods", "lstm", "dropout", "bbb", "bbb_sharpened"),
        bad=(
            (("--dataset", "wiki"), "unknown corpus 'wiki': expected ptb, synthetic/chain"),
            (("--mixture-weight", "1"), "--mixture-weight must be above 0 and below 1; got 1.0"),
        ),
    ),
    "bnn_posterior": Tiny(
        (
            *("--num-train", "40", "--num-test", "20", "--hidden", "4", "--num-warmup", "20", "--num-hmc-draws", "20"),
            *("--num-integration-steps", "2", "--num-epochs", "3", "--num-draws", "20", "--batch-size", "20"),
            *("--num-members", "2", "--num-optimizer-epochs", "2", "--num-bbb-epochs", "2"),
            *("--methods", "hmc", "last_layer", "laplace"),
        ),
        slow=("--methods", "hmc", "sghmc", "csghmc", "laplace", "mc_dropout", "ensemble"),
        bad=(
            (("--methods", "sghmc", "hmc"), "--methods must begin with hmc"),
            (("--num-train", "99999"), "--num-train must be at most 1437; got 99999"),
            (("--dataset", "uci/none", "--data-dir", "nowhere"), "unknown data set 'uci/none'"),
            (
                ("--dataset", "diabetes", "--split", "20", "--num-train", "0", "--num-test", "0"),
                "split must lie in 0 .. 19; got 20",
            ),
            (("--num-chains", "5"), "--num-chains must be even; got 5"),
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
    "hmc_regression": Tiny(
        (
            *("--num-splits", "2", "--hidden", "3", "--num-warmup", "20", "--num-draws", "20"),
            *("--num-integration-steps", "2"),
        ),
        bad=(
            (("--num-draws", "3"), "--num-draws must be at least 20; got 3"),
            (("--num-splits", "99"), "--num-splits must be at most 20, those of diabetes; got 99"),
        ),
    ),
    "hmc_tour": Tiny(
        ("--step-sizes", "0.5", "--dimensions", "2", "--num-chains", "4", "--num-steps", "3"),
        bad=(
            (("--step-sizes", "0.5", "2"), "--step-sizes must be a list of numbers that are above 0 and below 2"),
            (("--num-chains", "1"), "--num-chains must be at least 2; got 1"),
        ),
    ),
    "mc_dropout": Tiny(
        ("--hidden", "4", "--num-epochs", "1", "--num-draws", "3", "--dropout-rates", "0.1", "--methods", "dropout"),
        slow=("--methods", "dropout", "bbb", "--prior-scales", "1"),
        bad=(
            (("--dropout-rates", "1"), "--dropout-rates must be a list of numbers that are above 0 and below 1"),
            (("--dataset", "uci/boston", "--data-dir", "nowhere"), "unknown data set 'uci/boston'"),
        ),
    ),
    "standard_posteriors": Tiny(
        (
            *("--targets", "schools_noncentred", "--num-warmup", "20", "--num-draws", "20"),
            *("--num-reference", "20", "--max-num-doublings", "3", "--num-integration-steps", "2"),
            *("--methods", "hmc"),  # the reference run is of NUTS
        ),
        slow=("--targets", "schools_noncentred", "gaussian", "--methods", "nuts", "hmc"),
        bad=(
            (("--targets", "school"), "invalid choice 'school' for argument '--targets'"),
            (("--num-warmup", "3"), "--num-warmup must be at least 20; got 3"),
            (("--hmc-shortest-step", "0"), "--hmc-shortest-step must be above 0 and at most 1; got 0.0"),
            (("--num-chains", "1"), "--num-chains must be at least 2; got 1"),
        ),
    ),
    "rbm": Tiny(
        (
            *("--num-hidden", "3", "--num-epochs", "2", "--batch-size", "700", "--num-chains", "3", *ANNEALED),
            *("--num-evaluations", "2", "--parameterisations", "centred"),
            *("--num-posterior-chains", "2", "--num-sampling-steps", "10", "--num-draws", "4"),
        ),
        slow=("--kernel", "sghmc", "--num-hmc-steps", "20"),
        bad=(
            (
                ("--kernel", "sghmc", "--num-hidden", "21", "--num-hmc-steps", "20"),
                "needs --num-hidden of at most 20 or --num-hmc-steps 0; got 21",
            ),
            (
                ("--kernel", "sghmc", "--num-hmc-steps", "0", "--num-sampling-steps", "3"),
                "four fifths of --num-sampling-steps must be at least --num-draws, 4; got 3 steps",
            ),
            (("--parameterisations", "enhanced"), "invalid choice 'enhanced' for argument '--parameterisations'"),
            (("--num-evaluations", "9"), "training must have a step for each of 9 evaluations; it has 4"),
            (("--dataset", "synthetic/ring"), "must be of images [num, height, width, 1]"),
            (("--num-chains", "1"), "--num-chains must be at least 2; got 1"),
        ),
    ),
    "gaussian_rbm": Tiny(
        (
            *("--num-hidden", "6", "--num-epochs", "2", "--batch-size", "700", "--num-chains", "12", *ANNEALED),
            *("--num-evaluations", "2"),
        ),
        slow=("--num-replicas", "3"),
        bad=(
            (("--variance-rate", "0"), "--variance-rate must be above 0; got 0.0"),
            (("--num-levels", "1"), "--num-levels must be at least 2; got 1"),
            (("--shrink", "3"), "--shrink must divide height and width of the images, 8 and 8; got 3"),
        ),
    ),
    "dbn": Tiny(
        (
            *("--hidden", "4", "3", "--num-epochs", "1", "--batch-size", "700", "--num-chains", "12", *ANNEALED),
            *("--num-draws", "2"),
        ),
        bad=((("--hidden", "4", "0"), "--hidden must be a list of numbers that are at least 1"),),
    ),
    "dbm": Tiny(
        (
            *("--hidden", "12", "3", "--num-pretraining-epochs", "1", "--num-epochs", "1", "--batch-size", "700"),
            *("--num-chains", "12", "--num-mean-field-updates", "2", "--num-classifier-steps", "3", *ANNEALED),
            *("--num-labelled",),
        ),
        slow=("--num-labelled", "20", "1437", "--num-label-draws", "2", "--classifier-rates", "0.1", "0.3"),
        bad=(
            (("--num-labelled", "5"), "--num-labelled must lie between 10"),
            (("--classifier-rates", "0"), "--classifier-rates must be a list of numbers that are above 0"),
        ),
    ),
    "vae": Tiny(
        (
            *("--hidden", "4", "--latent-dims", "2", "--num-epochs", "1", "--estimator-epochs", "1"),
            *("--batch-size", "360", "--num-likelihood", "4", "--likelihood-samples", "4"),
            *("--estimators", "score_function"),
        ),
        slow=("--estimators", "closed_form", "sampled", "score_function"),
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
    "uncertainty": Tiny(
        (
            *("--num-data", "20", "40", "--hidden", "4", "--num-steps", "4", "--num-draws", "5", "--batch-size", "20"),
            *("--methods", "heteroscedastic"),
        ),
        slow=("--methods", "heteroscedastic", "homoscedastic", "noisy_logits", "softmax"),
        bad=(
            (("--methods", "gaussian"), "invalid choice 'gaussian' for argument '--methods'"),
            (("--num-data", "100", "50"), "--num-data must be two or more ascending numbers; got (100, 50)"),
            (("--num-data", "1", "50"), "--num-data must be a list of numbers that are at least 2"),
            (("--prior-scale", "0"), "--prior-scale must be above 0; got 0.0"),
        ),
    ),
    "bayesian_segnet": Tiny(
        ("--widths", "4", "4", "--num-epochs", "1", "--batch-size", "100", "--num-draws", "2"),
        bad=(
            (("--convolutions", "1"), "--widths and --convolutions must have the same length; got (4, 4) and (1,)"),
            (("--dropout-rate", "1"), "--dropout-rate must be above 0 and below 1; got 1.0"),
            (("--dataset", "nowhere"), "data set 'nowhere'"),
        ),
    ),
}
