"""The vectors behind the lists, for other systems: of items, of users, and which items are alike.

A user's score of an item is the product of their vectors, plus the item's bias where there is one; what a prior adds at the
moment of a list (`recsys.model.priors`) is not in them.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn import functional

from recsys.arrays import Ints
from recsys.dictionary import Dictionary
from recsys.histories import Histories
from recsys.model.catalogue import Catalogue
from recsys.model.device import device_of
from recsys.ranking.ranker import Ranker, Reading
from recsys.ranking.topk import top_k
from recsys.scoring.parts import USERS_PER_ROW_GROUP, PartWriter
from recsys.shards import shards_of
from recsys.windows import Cut, microseconds


def item_vectors(item_id: pa.Array, catalogue: Catalogue) -> pa.Table:
    """`item_id, vector` of the items (V,) of a catalogue, and their `bias` where they have one."""
    columns = {"item_id": item_id, "vector": _as_lists(catalogue.vectors)}
    if catalogue.bias is not None:
        columns["bias"] = pa.array(catalogue.bias.detach().float().cpu().numpy())
    return pa.table(columns)


def user_vectors(reading: Reading, user_id: pa.Array, users: Ints) -> pa.Table:
    """`user_id, vector` of those of the users (U,), rows of `user_id`, of whom the model knows an event."""
    known, hidden = reading.hidden(users)
    return _of_users(user_id, users[known], hidden)


def _of_users(user_id: pa.Array, users: Ints, hidden: Tensor) -> pa.Table:
    return pa.table({"user_id": user_id.take(pa.array(users)), "vector": _as_lists(hidden)})


@torch.inference_mode()
def similar_items(item_id: pa.Array, catalogue: Catalogue, k: int) -> pa.Table:
    """`item_id, rank, similar_item_id, score`: of each item (V,) the k others with the highest cosine of their vectors.

    By the same exact top-k as recommendations, ties in order of the items; without the item itself.
    """
    directions = functional.normalize(catalogue.vectors.float(), dim=1)
    own = torch.arange(len(directions), device=directions.device)
    score, index = (found.cpu().numpy() for found in top_k(directions, Catalogue(directions), k, own, own))
    row, place = np.nonzero(index >= 0)
    return pa.table(
        {
            "item_id": item_id.take(pa.array(row)),
            "rank": pa.array(place + 1, pa.int32()),
            "similar_item_id": item_id.take(pa.array(index[row, place])),
            "score": score[row, place],
        }
    )


def write_vectors(folder: Path, model: Path, sequences: Path, cut: Cut) -> dict[str, int]:
    """`items.parquet` and `users/part-000.parquet` … of a model and the histories before the cut. Returns counts of both."""
    ranker = Ranker.load("model", model, Dictionary.load(sequences), device_of("auto"))
    write_items(folder, ranker)
    now = None if cut.at is None else microseconds(cut.at)
    n_users = 0
    for shard in shards_of(sequences):
        with PartWriter(users_part(folder, shard)) as part:
            for histories in Histories.pieces(sequences, shard, ranker.columns, USERS_PER_ROW_GROUP):
                n_users += write_users(part, ranker.reading(histories, histories.cut(cut), now), histories.user_id)
    return {"items": len(ranker.item_code), "users": n_users}


def write_similar(file: Path, model: Path, sequences: Path, k: int) -> int:
    """The item-to-item lists of a model, of the items that may be recommended. Returns the number of items."""
    ranker = Ranker.load("model", model, Dictionary.load(sequences), device_of("auto"))
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(similar_items(ranker.item_id, ranker.catalogue, k), file, compression="zstd")
    return len(ranker.item_code)


def write_items(folder: Path, ranker: Ranker) -> None:
    """`items.parquet`: those that may be recommended, by item_id."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(item_vectors(ranker.item_id, ranker.catalogue), folder / "items.parquet", compression="zstd")


def users_part(folder: Path, shard: int) -> Path:
    """Where the vectors of a shard's users stand."""
    return folder / "users" / f"part-{shard:03}.parquet"


def write_users(part: PartWriter, reading: Reading, user_id: pa.Array) -> int:
    """The next row group: all that are read, in the order of the histories. Returns the number of users with a vector."""
    known, hidden = reading.hidden(np.arange(len(user_id)))
    part.write(_of_users, user_id, known, hidden)
    return len(known)


def _as_lists(vectors: Tensor) -> pa.Array:
    """(n, D) as a column of lists of float32."""
    numbers = vectors.detach().float().cpu().contiguous().numpy()
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), numbers.shape[1]).cast(pa.list_(pa.float32()))
