"""Options of jobs that train: the network, its encoder, and the weights that it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from miseg.networks.architectures import ARCHITECTURES
from miseg.networks.choice import NetworkChoice, parsed, with_network
from miseg.networks.configs import DeepLab, EncoderDecoder, networks_of
from miseg.recipes.experiment import Experiment


@dataclass
class NetworkOptions:
    """Options that put another network into a method."""

    network: str | None = None
    """The network, in place of the method's: unet, unet++, manet, linknet, fpn, pspnet, pan, deeplabv3, deeplabv3+,
    upernet, segformer or dpt of segmentation-models-pytorch, or paper-unet or paper-deeplab."""
    encoder: str | None = None
    """The network's encoder by timm's name, such as resnet50, or mit_b0 to mit_b5. Default: the architecture's."""
    weights: str | None = None
    """Weights that the encoder starts from: imagenet (from timm's hub), a file, or package:NAME for a Python package
    that carries one. Default: the recipe's, or with --network random ones."""

    @property
    def choice(self) -> NetworkChoice:
        """The network that the options say.

        Raises:
            ValueError: an encoder that is said twice.
        """
        if self.network is None or ":" not in self.network:
            return NetworkChoice(self.network, self.encoder, self.weights)
        choice = parsed(self.network)
        for name in ("encoder", "weights"):
            if None not in (getattr(self, name), getattr(choice, name)):
                raise ValueError(f"--network {self.network} --{name} {getattr(self, name)}: say the {name} once")
        return NetworkChoice(choice.network, choice.encoder or self.encoder, choice.weights or self.weights)

    def applied(self, experiment: Experiment) -> Experiment:
        """The experiment with the network that the options say.

        Raises:
            ValueError: a network that is not there, or that does not fit the method.
        """
        return replace(experiment, method=with_network(experiment.method, self.choice))


def check_named_once(options: NetworkOptions, command: Sequence[str]) -> None:
    """Raise ValueError where a command line changes settings of the network that --network replaces."""
    own = [text.partition("=")[0] for text in command if text.startswith("--method.network.")]
    if options.network is not None and own:
        raise ValueError(
            f"{own[0]} is a setting of the network that --network {options.network} replaces: leave one of the two out"
        )


def check_batch_norm(experiment: Experiment, workers: int, *, shared: bool) -> None:
    """Raise ValueError where batch norm would see a single image whose features are pooled to one pixel: no variance.

    Args:
        experiment: what is trained.
        workers: processes that share a batch.
        shared: whether their batch norms see the images of all of them, as over GPUs.
    """
    # Of a step in several passes, each pass alone.
    seen = experiment.batch_size // experiment.accumulate // (1 if shared else workers)
    for network in networks_of(experiment.method):
        if isinstance(network, EncoderDecoder):
            architecture = ARCHITECTURES[network.architecture]
            title, normalises_pooled = architecture.title, architecture.normalises_pooled
        else:
            title, normalises_pooled = type(network).__name__, isinstance(network, DeepLab)
        if normalises_pooled and seen < 2:
            others = ", ".join(name for name, other in ARCHITECTURES.items() if not other.normalises_pooled)
            raise ValueError(
                f"batch_size = {experiment.batch_size} over {workers} {'worker' if workers == 1 else 'workers'}"
                f"{f', in {experiment.accumulate} parts' if experiment.accumulate > 1 else ''}: "
                f"{title} needs two images or more a worker, for its batch norm sees features pooled to one pixel; "
                f"raise --batch-size, or use one of {others}"
            )
