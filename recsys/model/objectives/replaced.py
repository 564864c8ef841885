"""Replaced token detection: a generator fills in hidden events, a discriminator tells which are not what happened."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.bucket import Bucket
from recsys.model.objectives import Plan
from recsys.model.objectives.masked import MaskedLM

if TYPE_CHECKING:
    from recsys.model.network import Network


class ReplacedTokenDetection(MaskedLM):
    """ELECTRA's objective (Clark et al. 2020, arXiv:2003.10555) with one encoder as generator and discriminator.

    The generator is a MaskedLM. At each hidden place an item is drawn from what it predicts, among the items that are hidden
    in the batch; the discriminator reads the history with those and says of each event whether it was replaced. An item that
    was drawn right counts as not replaced. The loss is the generator's plus `weight` times the discriminator's. Recommending
    is the generator's.
    """

    def __init__(self, width: int, *, probability: float = 0.3, weight: float = 1.0) -> None:
        super().__init__(width, probability=probability)
        if not weight > 0:
            raise ConfigError(f"ReplacedTokenDetection: weight={weight} has to be above 0. Without a discriminator it is MaskedLM.")
        self.weight = weight
        self.discriminator = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))

    def loss(self, network: "Network", buckets: Sequence[Bucket], generator: torch.Generator | None = None) -> Tensor:
        planned = [(plan, network.states(plan)) for plan in (self.plan(bucket, generator) for bucket in buckets)]
        drawn = self._drawn(network, planned, generator)
        logits, labels = [], []
        for (plan, _), items in zip(planned, drawn, strict=True):
            corrupted = plan.bucket.item_index.index_put((plan.row, plan.col), items)
            states = network.states(replace(plan, bucket=replace(plan.bucket, item_index=corrupted), hidden=None))
            shown = states[network.next_item.tower]
            real = plan.bucket.real
            logits.append(self.discriminator(shown[real])[:, 0])
            labels.append((corrupted != plan.bucket.item_index)[real])
        found = functional.binary_cross_entropy_with_logits(torch.cat(logits).float(), torch.cat(labels).float())
        return network.predict(planned) + self.weight * found

    @torch.no_grad()
    def _drawn(
        self, network: "Network", planned: Sequence[tuple[Plan, dict[str, Tensor]]], generator: torch.Generator | None
    ) -> list[Tensor]:
        """For each plan an item_index (N,) per hidden place, drawn by the Gumbel-max trick from the generator's scores."""
        targets = torch.cat([plan.target for plan, _ in planned if plan.target is not None]).unique()
        catalogue = network.catalogue()
        vectors, bias = catalogue.vectors[targets], None if catalogue.bias is None else catalogue.bias[targets]
        drawn = []
        for plan, states in planned:
            scores = (network.next_item.similarity(states[network.next_item.tower][plan.row, plan.col]) @ vectors.T).float()
            scores = scores if bias is None else scores + bias
            noise = torch.rand(scores.shape, generator=generator, device=scores.device).clamp(min=torch.finfo(torch.float32).tiny)
            drawn.append(targets[(scores - torch.log(-torch.log(noise))).argmax(1)] if len(targets) else plan.row)
        return drawn
