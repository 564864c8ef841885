"""Weights that a network starts from, where they shall not be those that its parts begin with."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.items import INITIAL_STD


class Initialisation(ABC):
    """The contract of the slot `initialisation`. It draws from torch's random numbers, which a training has seeded."""

    @abstractmethod
    def __call__(self, network: nn.Module) -> None:
        """Change the weights of a network that was just built, in place; gradients are off."""


class AsBuilt(Initialisation):
    """Every part as its authors start it."""

    def __call__(self, network: nn.Module) -> None:
        pass


class XavierNormal(Initialisation):
    """All matrices by Glorot & Bengio 2010 (equation 16, from a normal distribution), as RecTools starts its transformers.

    Biases, norms and other vectors stay as they were built, and so does what is not trained.
    """

    def __call__(self, network: nn.Module) -> None:
        for matrix in matrices(network):
            nn.init.xavier_normal_(matrix)


class Normal(Initialisation):
    """All matrices from N(0, std²), as BERT and GPT-2 start. Vectors, and what is not trained, stay as they were built."""

    def __init__(self, *, std: float = INITIAL_STD) -> None:
        if not std > 0:
            raise ConfigError(f"Normal: std={std} has to be above 0.")
        self.std = std

    def __call__(self, network: nn.Module) -> None:
        for matrix in matrices(network):
            nn.init.normal_(matrix, std=self.std)


def matrices(network: nn.Module) -> list[Tensor]:
    """The trained parameters with two dimensions or more, each once: embeddings and weights of layers, no biases or norms.

    A module names in `starts_as_given` its parameters whose first values mean something, as given vectors do: they are left out.
    """
    given = {id(module.get_parameter(name)) for module in network.modules() for name in getattr(module, "starts_as_given", ())}
    return [p for p in network.parameters() if p.requires_grad and p.ndim >= 2 and id(p) not in given]
