"""Any torch module as an encoder."""

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.encoders import Encoder, View


class Module(Encoder):
    """A torch module of (B, L, D) → (B, L, D): `Module(module=team.nets.Mixer(depth=2), causal=true)`.

    It is called with the events alone, zeros where there is padding. `causal=true` says that an output depends on no later
    event, and fits next-event prediction; `causal=false`, that it depends on all of them. Neither can be seen from outside:
    `recsys check` tries it, and also that padding changes nothing, which from both sides only the zeros can prevent.
    In a configuration its constructor's `width` is supplied, where it has such a parameter.
    """

    def __init__(self, *, module: nn.Module, causal: bool) -> None:
        super().__init__(causal)
        self.module = module

    def forward(self, x: Tensor, view: View) -> Tensor:
        real = torch.arange(x.shape[1], device=x.device) < view.lengths[:, None]
        states = self.module(x.where(real[..., None], 0))
        if not isinstance(states, Tensor) or states.shape != x.shape:
            found = tuple(states.shape) if isinstance(states, Tensor) else f"a {type(states).__name__}"
            raise ConfigError(
                f"Module: {type(self.module).__name__} makes {found} of events of shape {tuple(x.shape)} (sequences, places, width): "
                "it has to keep the shape. torch's recurrent layers are the encoders GRU() and LSTM()."
            )
        return states
