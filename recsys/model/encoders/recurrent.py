"""Recurrent encoders, which read from left to right."""

from abc import ABC
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.model.dropout import Dropout
from recsys.model.encoders import LEFT_TO_RIGHT, Encoder, View


class _Recurrent(Encoder, ABC):
    """Layers of cells along each sequence. Padding stands after the events, so that no state ever comes from it."""

    directions = LEFT_TO_RIGHT
    cells: ClassVar[type[nn.GRU] | type[nn.LSTM]]

    def __init__(self, width: int, *, n_layers: PositiveInt = 1, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.recurrence = self.cells(width, width, n_layers, batch_first=True, dropout=dropout if n_layers > 1 else 0.0)

    def forward(self, x: Tensor, view: View) -> Tensor:
        x = self.dropout(x)
        if x.device.type != "cpu":
            return self.recurrence(x)[0]
        with torch.autocast("cpu", enabled=False):  # oneDNN has no LSTM in bfloat16 for CPUs without AVX-512, and stops there
            return self.recurrence(x.float())[0]


class GRU(_Recurrent):
    """Gated recurrent units (Cho et al. 2014, arXiv:1406.1078), the encoder of GRU4Rec (Hidasi et al. 2016, arXiv:1511.06939)."""

    cells = nn.GRU


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997)."""

    cells = nn.LSTM
