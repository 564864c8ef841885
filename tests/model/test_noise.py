"""What each noise puts in the place of an event."""

from collections import Counter
from typing import Any

import torch

from recsys.model.bucket import Bucket, Ragged
from recsys.model.noise.shared_embeddings import StochasticSharedEmbeddings
from recsys.model.noise.swap import SwapNoise

ITEMS = torch.tensor([[5, 6, 7], [8, 0, 0]])
LENGTHS = torch.tensor([3, 1])


def bucket(**columns: Any) -> Bucket:
    return Bucket(torch.arange(2), LENGTHS, ITEMS, torch.ones(2, 3), columns)


def whole() -> Bucket:
    """Each event says three times which item it is with: as a number, a vector and a list."""
    lists = Ragged(torch.tensor([5, 5, 6, 7, 8, 8, 8]), torch.tensor([0, 2, 3, 4, 7, 7, 7]))
    return bucket(number=ITEMS.float(), vector=ITEMS[..., None].expand(2, 3, 4).float(), tags=lists)


def test_stochastic_shared_embeddings_draw_from_all_items() -> None:
    noise, n = StochasticSharedEmbeddings(20, p=0.5), 4000
    drawn = torch.stack([noise(bucket()).item_index for _ in range(n)])
    others = Counter(drawn[:, 0, 0].tolist())
    assert set(others) == set(range(20))
    assert all(abs(count - n / 40) < 5 * (n / 40) ** 0.5 for item, count in others.items() if item != 5), "each with p / V"
    assert (drawn[:, 1, 1:] == 0).all()


def test_swapped_interactions_stay_whole() -> None:
    """Transformers4Rec swaps each feature by itself (transformers4rec.md 1.5): an item with another's category, say."""
    noise, seen = SwapNoise(p=0.7), Counter()
    for _ in range(300):
        noisy = noise(whole())
        item, tags = noisy.item_index, noisy.event_columns["tags"]
        assert torch.equal(noisy.event_columns["number"], item.float())
        assert torch.equal(noisy.event_columns["vector"], item[..., None].expand(2, 3, 4).float())
        for place, of_place in enumerate(item.flatten().tolist()):
            values = tags.values[tags.offsets[place] : tags.offsets[place + 1]].tolist()
            assert values == {5: [5, 5], 6: [6], 7: [7], 8: [8, 8, 8], 0: []}[of_place]
        assert (item[1, 1:] == 0).all()
        seen[int(item[0, 0])] += 1
    assert set(seen) == {5, 6, 7, 8}, "padding is never swapped in, another sequence's event is"
    assert abs(seen[5] - 90) < 40, "0.3 of 300 keep their own"


def test_a_swapped_event_is_another_one() -> None:
    noise = SwapNoise(p=0.999)
    for _ in range(50):
        assert (noise(whole()).item_index != ITEMS)[[0, 0, 0, 1], [0, 1, 2, 0]].float().mean() >= 0.75


def test_one_event_has_nothing_to_swap_with() -> None:
    alone = Bucket(torch.arange(1), torch.tensor([1]), torch.tensor([[3, 0]]), torch.ones(1, 2))
    assert torch.equal(SwapNoise(p=0.9)(alone).item_index, alone.item_index)
