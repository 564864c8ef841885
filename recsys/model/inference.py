"""Hidden states of many sequences, in buckets."""

import torch
from torch import Tensor

from recsys.model.network import Network
from recsys.model.reader import Reader, Spans

EVENTS_PER_BUCKET = {"cpu": 2**13, "cuda": 2**18}


def places_per_bucket(device: str) -> int:
    """Events and padding that a device of this type reads at once when nothing is learnt."""
    return EVENTS_PER_BUCKET.get(device, EVENTS_PER_BUCKET["cuda"])


@torch.no_grad()
def encode(network: Network, reader: Reader, spans: Spans, now: int | None = None) -> Tensor:
    """(S, D) float32 on the network's device: what predicts the event after each span; zeros after an empty one.

    Of each span the network reads its newest events. `now` is the moment of the prediction, in µs since 1970.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    hidden = torch.zeros(len(spans), network.next_item.width, device=device)
    for bucket in network.batching.reading(reader, spans.newest(network.max_events), places_per_bucket(device.type), now):
        bucket = bucket.to(device)
        hidden[bucket.rows] = network.encode(bucket).float()
    network.train(was_training)
    return hidden
