"""The flags of generators of labelled images, `infogan.py` and `acgan.py`, and what is wrong with them."""

from dataclasses import dataclass

from experiments import common, gan_flags

NORMS = ("group", "batch", "none")


@dataclass(frozen=True)
class ConditionalFlags(gan_flags.PlayerFlags):
    """Networks by DCGAN's guidelines, and who judges their images."""

    dataset: str = "digits"
    """digits, an image set of TensorFlow Datasets, or an .npz file: labelled images."""
    judge: str = ""
    """The set whose judge judges the images: that of --dataset if empty; none: nobody does."""
    num_judged: int = 10_000
    """Samples that are judged."""
    latent_dim: int = 62
    """Of the noise, uniform on (-1, 1)."""
    generator_features: tuple[int, ...] = (32, 16)
    """Channels, from the noise up."""
    generator_hidden: tuple[int, ...] = ()
    """Units of dense layers before them."""
    discriminator_features: tuple[int, ...] = (16, 32)
    """Channels, from the image down."""
    discriminator_hidden: tuple[int, ...] = (128,)
    """Units of dense layers after them."""
    kernel_size: int = 4
    """Of the convolutions."""
    norm: str = "batch"
    """Of the generator: group, batch (of the batch at hand), or none."""
    discriminator_norm: str = "group"
    """Of the discriminator and its second head; with batch what it says of an image depends on its neighbours."""


def check(flags: ConditionalFlags) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    gan_flags.check(flags)
    for name in ("norm", "discriminator_norm"):
        common.require_choice(flags, name, NORMS)
    common.require_at_least(flags, 1, "latent_dim", "kernel_size")
    common.require_at_least(flags, 12, "num_judged")
    common.require_all_positive(flags, "generator_features", "discriminator_features")
    require_widths(flags, "generator_hidden", "discriminator_hidden")


def require_widths(flags: ConditionalFlags, *names: str) -> None:
    """Raises ValueError for the first of these lists, which may be empty, that has a number that is not positive."""
    for name in names:
        if getattr(flags, name):
            common.require_all_positive(flags, name)


if __name__ == "__main__":
    common.not_a_command("acgan", "infogan")
