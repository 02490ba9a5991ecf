"""A network that is chosen by name, in place of the one that a method's settings hold. No torch here."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from miseg.nearest_names import in_place_of
from miseg.networks.architectures import ARCHITECTURES
from miseg.networks.configs import DeepLab, EncoderDecoder, UNet, networks_of
from miseg.networks.registry import Network

OF_PAPERS: Mapping[str, type[Network]] = {"paper-unet": UNet, "paper-deeplab": DeepLab}
"""Networks of the papers, which are no architectures of segmentation-models-pytorch."""


@dataclass(frozen=True)
class NetworkChoice:
    """Choice of a network by options; None leaves that of a method's settings."""

    network: str | None = None
    """An architecture's name, or one of `OF_PAPERS`."""
    encoder: str | None = None
    """timm's name."""
    weights: str | None = None
    """imagenet, a file, or package:NAME."""

    @property
    def label(self) -> str:
        """The choice in one word, as `parsed` reads it: segformer:mit_b0; without the weights."""
        return ":".join(part for part in (self.network, self.encoder) if part)

    @property
    def options(self) -> str:
        """The choice as options of a command."""
        return " ".join(f"--{name} {value}" for name, value in vars(self).items() if value is not None)


def parsed(text: str) -> NetworkChoice:
    """The choice that ARCHITECTURE, ARCHITECTURE:ENCODER or ARCHITECTURE:ENCODER:WEIGHTS says.

    Raises:
        ValueError: a part that is empty, or no such architecture.
    """
    parts = text.split(":", 2)
    if not all(parts):
        raise ValueError(f"network {text!r}: give ARCHITECTURE, or ARCHITECTURE:ENCODER, such as segformer:mit_b0")
    return NetworkChoice(_known(parts[0]), *parts[1:])


def network_from_options(current: Network, choice: NetworkChoice) -> Network:
    """The network of a choice, with the settings of `current` that nothing else is said of.

    An architecture without an encoder gets its own default one; another encoder alone leaves architecture and weights.

    Raises:
        ValueError: an unknown name, an encoder that the architecture cannot take, or an encoder or weights for a
            network that has none.
    """
    if choice == NetworkChoice():
        return current
    given: dict[str, Any] = {
        name: value for name in ("encoder", "weights") if (value := getattr(choice, name)) is not None
    }
    if choice.network is None:
        base = current
    elif (name := _known(choice.network)) in OF_PAPERS:
        kind = OF_PAPERS[name]
        base = current if isinstance(current, kind) else kind()
    else:
        default = given.get("encoder", ARCHITECTURES[name].encoder)
        return replace(EncoderDecoder(name, default), **given)  # type: ignore[arg-type]
    for name, value in given.items():
        if not hasattr(base, name):
            raise ValueError(
                f"--{name} {value}: the network is {type(base).__name__}, which has no {name}; give --network too, one "
                f"of {', '.join(ARCHITECTURES)}"
            )
    if isinstance(base, DeepLab) and "encoder" in given:
        _check_deeplab(given["encoder"])
    return replace(base, **given)


def with_network(method: Any, choice: NetworkChoice) -> Any:
    """A method's settings with the network that is chosen.

    Raises:
        ValueError: a method that takes no network, or several different ones; or as `network_from_options`.
    """
    if choice == NetworkChoice():
        return method
    current, name = getattr(method, "network", None), type(method).__name__
    if not isinstance(current, Network):
        raise ValueError(f"{choice.options}: {name} has a network of its own; leave the option out")
    if len(networks_of(method)) > 1:
        raise ValueError(
            f"{choice.options}: this {name} trains several networks that differ; leave the option out, or use a recipe "
            "that trains equal ones"
        )
    return replace(method, network=network_from_options(current, choice))


def _known(name: str) -> str:
    names = [*ARCHITECTURES, *OF_PAPERS]
    if name not in names:
        raise ValueError(
            f"--network {name}: there is no such network; {in_place_of(name, names, 'miseg train RECIPE --help')}"
        )
    return name


def _check_deeplab(encoder: str) -> None:
    known = typing.get_args(typing.get_type_hints(DeepLab)["encoder"])
    if encoder not in known:
        raise ValueError(
            f"--encoder {encoder}: the papers' DeepLab takes {', '.join(known)}; give --network deeplabv3+ for others"
        )
