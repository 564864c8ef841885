"""Start from another model's weights: rows move by item_id and by a category's value, everything else by name and shape."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from recsys.arrays import Codes
from recsys.model.items import ITEM
from recsys.model.network import Network
from recsys.model.saving import load_vocabulary
from recsys.model.vocabulary import UNKNOWN, Vocabulary, index_in


@torch.no_grad()
def warm_start(network: Network, vocabulary: Vocabulary, folder: Path) -> dict[str, int]:
    """Fill the network from the training artifact in `folder`. Returns counts of what was moved and what starts anew.

    A row of an item or value that the other model does not know becomes the mean of those it does.
    """
    weights = load_file(folder / "weights.safetensors")
    old = load_vocabulary(folder)
    source = index_in(vocabulary.item_id, old.item_id, "item_id")
    moved = 0
    for name, parameter in network.named_parameters():
        found = weights.get(name)
        owner, _, own_name = name.rpartition(".")
        columns = getattr(network.get_submodule(owner), "row_of", {}).get(own_name)
        if found is not None and columns is not None and found.shape[1:] == parameter.shape[1:]:
            rows = source if columns == (ITEM,) else _rows_of_values(vocabulary, old, columns)
            parameter.copy_(_moved(found, torch.tensor(rows, dtype=torch.long)))
        elif found is not None and columns is None and found.shape == parameter.shape:
            parameter.copy_(found)
        else:
            continue
        moved += 1
    return {"warm_tensors": moved, "cold_tensors": len(list(network.parameters())) - moved, "warm_items": int((source >= 0).sum())}


def _moved(found: Tensor, source: Tensor) -> Tensor:
    """Rows `source` of the tensor; where it is −1, the mean of the rows that are used."""
    known = source >= 0
    mean = found[source[known]].mean(0) if known.any() else found.mean(0)
    return torch.where(known.view(-1, *[1] * (found.ndim - 1)), found[source.clamp(min=0)], mean)


def _rows_of_values(new: Vocabulary, old: Vocabulary, columns: tuple[str, ...]) -> Codes:
    """Row in the old table of each row of the new one, −1 for values that are new."""
    place = index_in(new.known(*columns), old.known(*columns), " and ".join(columns))
    return np.append(UNKNOWN, np.where(place >= 0, place + 1, -1)).astype(np.int32)
