"""How well the heads of labels answer: their metrics over the newest events of some histories."""

import math

import torch
from torch import Tensor

from recsys.model.bucket import Bucket
from recsys.model.inference import buckets
from recsys.model.network import Network
from recsys.model.reader import Reader, Spans


class Labels:
    """What the heads said and what was true, of the buckets so far. Labels that are null have no part in it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._said: dict[str, list[Tensor]] = {head.name: [] for head in network.label_heads}
        self._label: dict[str, list[Tensor]] = {head.name: [] for head in network.label_heads}

    @torch.no_grad()
    def update(self, bucket: Bucket) -> None:
        """Add the newest event of each history of a bucket, whose reader brings labels."""
        if not self._said:
            return
        _, said = self.network.read(bucket)
        for head in self.network.label_heads:
            known, target = head.newest(bucket)
            self._said[head.name].append(said[head.name][known].cpu())  # a few numbers, and metrics are not all made for a GPU
            self._label[head.name].append(head.own_terms(target).cpu())

    def metrics(self) -> dict[str, float]:
        """`{head}/{metric}` of every head, without those that are not defined, and `skill`: the mean over the heads, by weight,
        of the share of a constant answer's error that each does without, 0 where there is nothing to tell."""
        found: dict[str, float] = {}
        skill = 0.0
        heads = [head for head in self.network.label_heads if sum(map(len, self._label[head.name]))]
        for head in heads:
            of_head = head.metrics(torch.cat(self._said[head.name]), torch.cat(self._label[head.name]))
            found |= {f"{head.name}/{name}": value for name, value in of_head.items() if not math.isnan(value)}
            skill += head.weight * found.get(f"{head.name}/skill", 0.0)
        return {**found, "skill": skill / sum(head.weight for head in heads)} if heads else {"skill": 0.0} if self._said else {}


def measure(network: Network, reader: Reader, spans: Spans) -> dict[str, float]:
    """The metrics of the heads at the newest event of each span, whose labels the reader knows.

    >>> measure(network, network.reader(histories, dictionary, vocabulary), spans)      # doctest: +SKIP
    {'purchased/auroc': 0.76, 'purchased/accuracy': 0.77, …}
    """
    labels = Labels(network)
    for bucket in buckets(network, reader, spans):
        labels.update(bucket)
    return labels.metrics()
