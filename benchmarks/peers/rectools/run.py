"""RecTools 0.19.0 at work, in its own environment: both of its paths.

    python -m benchmarks.peers.rectools.run train events.parquet --width=64

`train`, `recommend`, `sequences` and `whole` are `SASRecModel` as its users call it. `train-flat` and `sequences-flat` are
`build_sequences` and `FlatSASRecNet` of `rectools.fast_transformers`, for which no training loop is shipped: the shortest plain
one is here, with the loss of its sibling UniSRec and torch's Adam.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytorch_lightning
import torch
from rectools.dataset import Dataset
from rectools.fast_transformers import FlatSASRecNet, SequenceBatchDataset, build_sequences
from rectools.models import SASRecModel
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from benchmarks.measuring import Clock, K, Task, epoch_facts, run

BETAS = (0.9, 0.98)  # of SASRecModel's Adam


def train(task: Task) -> dict[str, Any]:
    """Seconds of an epoch; with `lists`, also the lists of the trained model."""
    dataset = read(task.events)
    torch.manual_seed(task.seed)
    model = sasrec(task).fit(dataset)
    if task.lists:
        write(recommended(model, dataset, dataset.user_id_map.external_ids), task.lists)
    return {**epoch_facts(Clock.ended, Clock.n_steps), "items": model.lightning_model.torch_model.item_model.n_items - 1}


def recommend(task: Task) -> dict[str, Any]:
    """Seconds of `recommend` for every user, of a model that was built and not trained, which costs the same."""
    dataset = read(task.events)
    model = sasrec(task, epochs=0).fit(dataset)
    users = dataset.user_id_map.external_ids
    recommended(model, dataset, users[:1])
    started = time.perf_counter()
    lists = recommended(model, dataset, users)
    return {"seconds": time.perf_counter() - started, "users": len(users), "rows": len(lists)}


def sequences(task: Task) -> dict[str, Any]:
    """Seconds from the file of events to the first batch that a training would read."""
    preparator = sasrec(task).data_preparator
    started = time.perf_counter()
    preparator.process_dataset_train(read(task.events))
    loader = preparator.get_dataloader_train()
    next(iter(loader))
    return {"seconds": time.perf_counter() - started, "users": len(loader.dataset)}


def whole(task: Task) -> dict[str, Any]:
    """Seconds from the file of events to the file of lists."""
    assert task.lists is not None
    started = time.perf_counter()
    dataset = read(task.events)
    torch.manual_seed(task.seed)
    lists = recommended(sasrec(task).fit(dataset), dataset, dataset.user_id_map.external_ids)
    write(lists, task.lists)
    return {"seconds": time.perf_counter() - started, "rows": len(lists)}


def train_flat(task: Task) -> dict[str, Any]:
    """Seconds of an epoch of the plain loop."""
    x, y, items, _ = flat_sequences(task)
    torch.manual_seed(task.seed)
    net = FlatSASRecNet(len(items), task.width, task.n_blocks, task.n_heads, task.max_events, task.dropout).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=task.learning_rate, betas=BETAS)
    loader = DataLoader(SequenceBatchDataset(x, y), batch_size=task.users_per_batch, shuffle=True)
    ended: list[list[float]] = []
    for _ in range(task.epochs):
        ended.append([])
        for batch, _ in zip(loader, range(round(task.share * len(loader))), strict=False):
            logits = net(batch)  # of items 1, 2 …, without the padding
            loss = cross_entropy(logits.view(-1, logits.shape[-1]), batch["y"].view(-1) - 1, ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ended[-1].append(time.perf_counter())
    return {**epoch_facts(ended, len(loader)), "items": len(items)}


def sequences_flat(task: Task) -> dict[str, Any]:
    """The same as `sequences`, for the plain loop."""
    started = time.perf_counter()
    x, y, _, users = flat_sequences(task)
    next(iter(DataLoader(SequenceBatchDataset(x, y), batch_size=task.users_per_batch, shuffle=True)))
    return {"seconds": time.perf_counter() - started, "users": len(users)}


def read(events: Path) -> Dataset:
    frame = pq.read_table(events).to_pandas().rename(columns={"happened_at": "datetime"})
    return Dataset.construct(frame.assign(weight=1))


def flat_sequences(task: Task) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    table = pq.read_table(task.events)
    user, item = (torch.from_numpy(table[name].to_numpy().astype("int64")) for name in ("user_id", "item_id"))
    moment = torch.from_numpy(table["happened_at"].to_numpy().astype("int64"))
    return build_sequences(user, item, moment, task.max_events)


def sasrec(task: Task, epochs: int | None = None) -> SASRecModel:
    def trainer() -> pytorch_lightning.Trainer:
        """SASRecModel's own, with the clock, and as many steps as are asked for."""
        n_epochs = task.epochs if epochs is None else epochs
        return pytorch_lightning.Trainer(
            max_epochs=n_epochs,
            min_epochs=n_epochs,
            limit_train_batches=task.share,
            callbacks=[Clock()],
            accelerator=task.accelerator,
            devices=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
        )

    return SASRecModel(
        n_blocks=task.n_blocks,
        n_heads=task.n_heads,
        n_factors=task.width,
        dropout_rate=task.dropout,
        session_max_len=task.max_events,
        loss={"softmax": "softmax", "sampled": "sampled_softmax"}[task.loss],
        n_negatives=task.n_negatives,
        lr=task.learning_rate,
        batch_size=task.users_per_batch,
        recommend_torch_device={"cpu": "cpu", "gpu": "cuda"}[task.accelerator],
        get_trainer_func=trainer,
    )


def recommended(model: SASRecModel, dataset: Dataset, users: np.ndarray) -> pd.DataFrame:
    """Lists of those users of whom the model knows an item, seen items left out."""
    return model.recommend(users, dataset, K, filter_viewed=True, on_unsupported_targets="ignore")


def write(lists: pd.DataFrame, file: Path) -> None:
    lists.to_parquet(file, index=False, compression="zstd")


WORKS = {
    "train": train,
    "recommend": recommend,
    "sequences": sequences,
    "whole": whole,
    "train-flat": train_flat,
    "sequences-flat": sequences_flat,
}

if __name__ == "__main__":
    run(WORKS, ("RecTools", "torch", "pytorch-lightning", "numpy", "pandas"), __doc__)
