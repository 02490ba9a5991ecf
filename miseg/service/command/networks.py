"""Options of jobs that train: the network, its encoder, and the weights that it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from miseg.networks.choice import NetworkChoice, parsed, with_network
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
