"""The k best items of each user, exactly, without ever holding a score for every pair of user and item.

Scores are made tile by tile. Of each tile only the k blocks of items with the highest maxima are looked into: an item
among the k best lies in one of them, ties included, as blocks and items are ordered by (score descending, index ascending).
Later tiles open only the blocks that reach above the k-th score so far.
Matrix products round differently with the shape of a tile, so a few more candidates than asked for are scored again in
float64 before they are ordered: shards, tiles and threads change no list.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from recsys.errors import RecsysError
from recsys.model.catalogue import Catalogue

BLOCK = 32  # items of which the first level keeps only the maximum
TILE_ITEMS = {"cpu": 2**13, "cuda": 2**17}
TILE_SCORES = {"cpu": 2**21, "cuda": 2**28}  # on a CPU, so that a tile stays in the cache
SPARE = 8  # candidates beyond k that are scored again
_INDEX = 2**32 - 1


@torch.no_grad()
def top_k(
    hidden: Tensor,
    catalogue: Catalogue,
    k: int,
    exclude_rows: Tensor | None = None,
    exclude_items: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scores (B, k) float32 and item_index (B, k) int64 of the best items: by score descending, then by index.

    `hidden` (B, D) is scored against the catalogue; the pairs (`exclude_rows[i]`, `exclude_items[i]`) of a row of `hidden`
    and an item_index are left out. `restrict` leaves items out for everybody.
    Where fewer than k items are left, the rest of the row has score −inf and index −1.
    """
    rows, items = _pairs(exclude_rows, exclude_items, hidden.device)
    hidden = hidden.float()
    if not len(hidden) or not catalogue.n_items:
        return hidden.new_full((len(hidden), k), -torch.inf), rows.new_full((len(hidden), k), -1)
    n = min(k + SPARE, catalogue.n_items)
    width = max(min(catalogue.n_items, TILE_ITEMS[hidden.device.type]), n * hidden.shape[1])
    step = max(1, TILE_SCORES[hidden.device.type] // width)
    starts = list(range(0, len(hidden), step))
    bounds = torch.searchsorted(rows, torch.tensor([*starts, len(hidden)], device=rows.device)).tolist()
    found = [
        _best(hidden[start : start + step], _of_rows(catalogue, start, step), k, n, rows[low:high] - start, items[low:high])
        for start, low, high in zip(starts, bounds, bounds[1:], strict=False)
    ]
    scores, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    _check_finite(hidden, catalogue, scores)
    return scores, index


def restrict(catalogue: Catalogue, index: Tensor) -> Catalogue:
    """The catalogue of the items at `index` alone, in that order: made once where many batches are ranked."""
    return replace(
        catalogue,
        vectors=catalogue.vectors[index],
        bias=None if catalogue.bias is None else catalogue.bias[index],
        prior=None if catalogue.prior is None else catalogue.prior[:, index],
        counts=None if catalogue.counts is None else catalogue.counts[index],
    )


def _best(hidden: Tensor, catalogue: Catalogue, k: int, n: int, rows: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """The lists of a tile of users."""
    best = torch.empty(len(hidden), 0, dtype=torch.long, device=hidden.device)
    tile_items = TILE_ITEMS[hidden.device.type]
    for start in range(0, catalogue.n_items, tile_items):
        scores = _products(hidden, catalogue, slice(start, min(start + tile_items, catalogue.n_items)))
        inside = (items >= start) & (items < start + tile_items)
        scores.view(-1)[rows[inside] * scores.shape[1] + items[inside] - start] = -torch.inf
        best = _with_best_of(scores, start, best, n)
    return _scored_again(hidden, catalogue, best, k)


def _products(hidden: Tensor, catalogue: Catalogue, tile: slice) -> Tensor:
    """Scores (B, items of the tile, rounded up to whole blocks by -inf) in float32."""
    vectors = catalogue.vectors[tile].float()
    width = len(vectors)
    padded = hidden.new_empty(len(hidden), width + -width % BLOCK)
    padded[:, width:] = -torch.inf
    scores = torch.mm(hidden, vectors.T, out=padded[:, :width])
    if catalogue.bias is not None:
        scores += catalogue.bias[tile]
    if catalogue.prior is not None:
        scores += catalogue.prior[:, tile] if catalogue.prior_row is None else catalogue.prior[:, tile][catalogue.prior_row]
    return padded


def _with_best_of(scores: Tensor, start: int, best: Tensor, n: int) -> Tensor:
    """Keys (B, at most n), descending, of the best so far and of a tile, whose best are in the n blocks with the highest maxima.

    Once there are n, an item joins them only with a higher score: of equal ones, those of earlier tiles come first.
    """
    blocks = scores.view(len(scores), -1, BLOCK)
    maxima = blocks.amax(-1)
    n_opened = min(n, maxima.shape[1])
    if best.shape[1] == n:
        worst, _ = _unpacked(best[:, -1:])
        n_opened = min(n_opened, maxima.shape[1] - int((maxima <= worst).sum(1).min()))  # opened too is what is no number
    keys = _keys(maxima, torch.arange(maxima.shape[1], device=scores.device))
    _, opened = _unpacked(keys.topk(n_opened, dim=1, sorted=False).values)
    flat = opened + torch.arange(len(scores), device=scores.device)[:, None] * maxima.shape[1]
    index = opened[..., None] * BLOCK + torch.arange(start, start + BLOCK, device=scores.device)
    found = torch.cat([best, _keys(functional.embedding(flat, blocks.flatten(0, 1)), index).flatten(1)], dim=1)
    return found.topk(min(n, found.shape[1]), dim=1).values


def _scored_again(hidden: Tensor, catalogue: Catalogue, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores and index of the k best of the candidates, by products in float64 with one fixed order of summation."""
    rough, index = _unpacked(keys)
    index = torch.where(rough == -torch.inf, 0, index)
    exact = _exact(hidden, functional.embedding(index, catalogue.vectors))
    if catalogue.bias is not None:
        exact += catalogue.bias[index]
    if catalogue.prior is not None:
        exact += catalogue.prior[0, index] if catalogue.prior_row is None else catalogue.prior[catalogue.prior_row[:, None], index]
    exact = torch.where(rough == -torch.inf, -torch.inf, exact)
    scores, index = _unpacked(_keys(exact.float(), index).topk(min(k, keys.shape[1]), dim=1).values)
    index = torch.where(scores == -torch.inf, -1, index)
    missing = k - scores.shape[1]
    return functional.pad(scores, (0, missing), value=-torch.inf), functional.pad(index, (0, missing), value=-1)


def _keys(scores: Tensor, index: Tensor) -> Tensor:
    """int64 keys whose descending order is (score descending, index ascending): all different, so no order is left to chance.

    What is not a number is +inf here, whatever its sign: it comes to the top, where it is found.
    """
    bits = (scores + 0.0).nan_to_num_(torch.inf, torch.inf, -torch.inf).view(torch.int32)  # + 0.0 turns −0.0 into 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # of negative floats, larger bits are smaller numbers
    return (ordered.long() << 32) | (_INDEX - index)


def _unpacked(keys: Tensor) -> tuple[Tensor, Tensor]:
    ordered = (keys >> 32).int()
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32), _INDEX - (keys & _INDEX)


def _pairs(rows: Tensor | None, items: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Excluded pairs, ordered by row."""
    if rows is None or items is None:
        none = torch.empty(0, dtype=torch.long, device=device)
        return none, none
    rows, items = rows.long(), items.long()
    if (rows[1:] >= rows[:-1]).all():
        return rows, items
    rows, order = rows.sort()
    return rows, items[order]


def _of_rows(catalogue: Catalogue, start: int, step: int) -> Catalogue:
    return catalogue if catalogue.prior_row is None else replace(catalogue, prior_row=catalogue.prior_row[start : start + step])


def _exact(hidden: Tensor, vectors: Tensor) -> Tensor:
    """Products (B, n) of hidden (B, D) and vectors (B, n, D) in float64, in one fixed order of summation."""
    return vectors.double().mul_(hidden[:, None].double()).sum(-1)


def _check_finite(hidden: Tensor, catalogue: Catalogue, scores: Tensor) -> None:
    """The scores that were found tell whether it is worth going through all the vectors: what is not a number is +inf in them."""
    if hidden.isfinite().all() and (scores < torch.inf).all():
        return
    broken = {"users' vectors": ~hidden.isfinite().all(-1), "items' vectors": ~catalogue.vectors.isfinite().all(-1)}
    if catalogue.bias is not None:
        broken["items' biases"] = ~catalogue.bias.isfinite()
    if catalogue.prior is not None:
        broken["items' priors"] = ~(catalogue.prior < torch.inf).all(0)  # of an item that is on no list it is -inf
    found = [f"{int(rows.sum())} of {len(rows)} {name} are not finite" for name, rows in broken.items() if rows.any()]
    said = found[0] if found else "Scores are too large for float32"
    raise RecsysError(f"{said}, so they cannot be ranked: the training diverged. Lower training.learning_rate.")
