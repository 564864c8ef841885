"""What a network makes of many sequences, in buckets."""

from collections.abc import Iterator

import torch
from torch import Tensor

from recsys.model.bucket import Bucket
from recsys.model.network import Network
from recsys.model.reader import Reader, Spans

PLACES_PER_BUCKET = {"cpu": 2**13, "cuda": 2**18}


def places_per_bucket(device: str) -> int:
    """Events and padding that a device of this type reads at once when nothing is learnt."""
    return PLACES_PER_BUCKET.get(device, PLACES_PER_BUCKET["cuda"])


@torch.no_grad()
def encode(network: Network, reader: Reader, spans: Spans, now: int | None = None) -> Tensor:
    """(S, D) float32 on the network's device: what predicts the event after each span; zeros after an empty one.

    Of each span the network reads its newest events. `now` is the moment of the prediction, in µs since 1970.
    """
    hidden = torch.zeros(len(spans), network.next_item.width, device=network.device)
    for bucket in buckets(network, reader, spans, now):
        hidden[bucket.rows] = network.encode(bucket).float()
    return hidden


@torch.no_grad()
def read(network: Network, reader: Reader, spans: Spans, now: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """In one pass what `encode` gives, with no columns where the network does not recommend, and by name what every other head
    says of the newest event of each span: (S,), or of C classes (S, C); NaN for an empty one."""
    device = network.device
    hidden = torch.zeros(len(spans), network.next_item.width if network.recommends else 0, device=device)
    said = {head.name: torch.full((len(spans), *head.shape), torch.nan, device=device) for head in network.label_heads}
    for bucket in buckets(network, reader, spans, now):
        recommending, answers = network.read(bucket)
        if recommending is not None:
            hidden[bucket.rows] = recommending.float()
        for name, answer in answers.items():
            said[name][bucket.rows] = answer
    return hidden, said


@torch.no_grad()
def buckets(network: Network, reader: Reader, spans: Spans, now: int | None = None) -> Iterator[Bucket]:
    """What the network reads of the spans that are not empty, in buckets on its device; it is in eval mode meanwhile."""
    device, was_training = network.device, network.training
    network.eval()
    try:
        for bucket in network.batching.reading(reader, spans.newest(network.max_events), places_per_bucket(device.type), now):
            yield bucket.on(device)
    finally:  # also where the caller stops halfway
        network.train(was_training)
