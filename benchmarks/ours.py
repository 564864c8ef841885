"""This project at work on the same tasks as its incumbents, by the steps of a night.

    python -m benchmarks.ours train events.parquet --width=64

`train` is the training step as a refit runs it, with nothing held out; `recommend` is `recsys.recommend`; `scoring` the step that
writes the lists; `sequences` the steps features and sequences, and `sequences-only` the second of them; `whole` all steps from
events to lists. What comes before the measured part runs in a process of its own, so that its memory does not count.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta, timezone
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow.parquet as pq

from benchmarks.measuring import Clock, K, Task, epoch_facts, run
from recsys import recommender
from recsys.config import Data, Events, Features, Model, Scoring, Sequences, Training
from recsys.dictionary import Dictionary
from recsys.features.tables import build_features
from recsys.frames import Past
from recsys.histories import Histories
from recsys.model.blocks import build
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve
from recsys.recommender import Recommender
from recsys.scoring.recommend import recommend as score
from recsys.sequences.build import build_sequences
from recsys.store import Artifact, Store
from recsys.training.buckets import Batches, trainable
from recsys.training.train import train as fit
from recsys.windows import everything


def train(task: Task) -> dict[str, Any]:
    """Seconds of an epoch; with `lists`, also the lists of the trained model."""
    with night(task) as n:
        n.apart("sequences")
        trained = n.training()
        if task.lists:
            pq.write_table(recommender.recommend(n.model(), k=K), task.lists)
        return {**epoch_facts(Clock.ended, Clock.n_steps), "items": trained.counts["items"]}


def recommend(task: Task) -> dict[str, Any]:
    """Seconds of `recommend` for every user, of a model that was trained for one step, from the histories on disk."""
    with night(replace(task, one_step=1)) as n:
        n.apart("training")
        users = Histories.load(n.sequences().path).user_id
        recommender.recommend(n.model(), users=users[:1], k=K)
        model = n.model()
        started = time.perf_counter()
        lists = recommender.recommend(model, k=K)
        return {"seconds": time.perf_counter() - started, "users": len(users), "rows": len(lists)}


def scoring(task: Task) -> dict[str, Any]:
    """Seconds of the scoring step, which reads shard by shard and streams parquet."""
    with night(replace(task, one_step=1)) as n:
        n.apart("training")
        n.training()
        started = time.perf_counter()
        lists = n.scoring()
        return {"seconds": time.perf_counter() - started, "users": lists.counts["users"]}


def sequences(task: Task) -> dict[str, Any]:
    """Seconds from the file of events to the first batch that a training would read."""
    with night(task) as n:
        started = time.perf_counter()
        n_users = n.first_batch()
        return {"seconds": time.perf_counter() - started, "users": n_users}


def sequences_only(task: Task) -> dict[str, Any]:
    """The same from the tables of the step features, which are typed, checked and in order."""
    with night(task) as n:
        n.apart("features")
        n.features()
        started = time.perf_counter()
        n_users = n.first_batch()
        return {"seconds": time.perf_counter() - started, "users": n_users}


def whole(task: Task) -> dict[str, Any]:
    """Seconds from the file of events to the files of lists."""
    with night(task) as n:
        started = time.perf_counter()
        lists = n.scoring()
        return {"seconds": time.perf_counter() - started, "users": lists.counts["users"]}


class Night:
    """The steps of a night on a task, each made once: what another process of the same folder made is found there."""

    def __init__(self, task: Task, root: Path) -> None:
        self.task, self.store = task, Store(root)
        first, last = duckdb.sql(f"select min(happened_at), max(happened_at) from read_parquet('{task.events}')").fetchall()[0]
        self.as_of = last.replace(tzinfo=timezone.utc) + timedelta(microseconds=1)
        self.history = f"{(last - first).days + 1}d"

    def features(self) -> Artifact:
        events = Events(path=str(self.task.events), time="happened_at")
        data = Data(events=events, history=self.history, seen=self.history)
        old = {"max_age": "99999d", "min_day_volume": 0}  # a table whose last day may be short
        n_shards = 1 if self.task.work == "scoring" else 4  # one, so that few users fill what is read at once
        rules = Features(**old, n_shards=n_shards, threads=self.task.threads)
        return build_features(self.store, self.as_of, data, rules)

    def sequences(self) -> Artifact:
        return build_sequences(self.store, self.as_of, Sequences(), self.features())

    def training(self) -> Artifact:
        task = self.task
        training = Training(
            users_per_batch=task.users_per_batch,
            learning_rate=task.learning_rate,
            limit_train_batches=task.share,
            trainer="Trainer(max_steps=1)" if task.one_step else "Trainer()",
            callbacks=("benchmarks.measuring.Clock()",),
            threads=task.threads,
            accelerator=task.accelerator,
        )
        cut = everything(self.as_of, has_times=True)
        return fit(self.store, self.as_of, model_of(task), training, task.seed, self.sequences(), cut, key="user", epochs=task.epochs)

    def scoring(self) -> Artifact:
        scoring = Scoring(k=K, threads=self.task.threads, accelerator=self.task.accelerator)
        return score(self.store, self.as_of, scoring, self.sequences(), self.training(), "candidate", "1d")

    def model(self) -> Recommender:
        past = Past(self.store, self.sequences(), self.as_of, TemporaryDirectory())
        return Recommender(self.training().path, past)

    def first_batch(self) -> int:
        """Reads the histories as a training does, up to its first batch. How many users there are to train on."""
        folder = self.sequences().path
        histories, dictionary = Histories.load(folder), Dictionary.load(folder)
        ends = histories.cut(everything(self.as_of, has_times=True))
        vocabulary = Vocabulary.fit(histories, dictionary, ends)
        network = build(resolve(model_of(self.task)), vocabulary)
        reader = network.reader(histories, dictionary, vocabulary)
        spans = trainable(reader.spans(*histories.sequences(ends, "user")), reader, network.objective, network.max_events, Training())
        next(iter(Batches(reader, spans, self.task.users_per_batch, self.task.seed, network.batching)))
        return len(spans)

    def apart(self, step: str) -> None:
        """The step, and what it needs, in a process of its own."""
        process = get_context("spawn").Process(target=_make, args=(self.task, self.store.root, step))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)


def _make(task: Task, root: Path, step: str) -> None:
    getattr(Night(task, root), step)()


@contextmanager
def night(task: Task) -> Iterator[Night]:
    """A night in a store that lasts as long as it."""
    with TemporaryDirectory(prefix="benchmark-") as root:
        yield Night(task, Path(root))


def model_of(task: Task) -> Model:
    """The task's network, from our recipes: with the positions and initial weights of RecTools, where it is to start like theirs."""
    name, recipe = {"sasrec": ("SASRec", "sasrec"), "preln": ("PreLN", "sasrec_preln")}[task.architecture]
    loss = {"softmax": "CrossEntropy()", "sampled": f"SampledSoftmax(n_negatives={task.n_negatives})"}[task.loss]
    sizes = f"n_blocks={task.n_blocks}, n_heads={task.n_heads}"
    shares = f"dropout={task.dropout}, attention_dropout={task.attention_dropout}"
    same = {"positions": "LearnedInverse()", "initialisation": "XavierNormal()"} if task.start == "theirs" else {}
    return Model(recipe=recipe, width=task.width, max_events=task.max_events, encoder=f"{name}({sizes}, {shares})", loss=loss, **same)


WORKS = {
    "train": train,
    "recommend": recommend,
    "scoring": scoring,
    "sequences": sequences,
    "sequences-only": sequences_only,
    "whole": whole,
}

if __name__ == "__main__":
    run(WORKS, ("recsys", "torch", "pytorch-lightning", "numpy", "duckdb"), __doc__)
