"""Whole nights with parts of every slot, named in the configuration's text."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.nightly import nightly
from recsys import published
from recsys.config import Data, Evaluation, Model, Promotion, Shop, Training
from recsys.model.saving import load
from recsys.store import Store

pytestmark = pytest.mark.usefixtures("prefect_server")

RICH = Model(
    width=16,
    max_events=10,
    inputs=(
        'Inputs(features=["hour", "gap_seconds"], layer_norm=true, projection=MLP(sizes=[32]), noise=[SwapNoise(p=0.1)], '
        'embeddings=[Category(columns=["tags", "interests"], shared=true), SoftOneHot(columns=["dwell_seconds"])])'
    ),
    items='Factorised(inner=Combined(blocks=[IdEmbedding(), Features(features=["brand", "price"])]), inner_width=8)',
    fusion='UserFeatures(features=["age"], embeddings=[UserId(width=4)], how="multiply")',
)


SMALL = {"width": 16, "max_events": 10}
OWN = """
from torch import Tensor
from recsys.model.losses.softmax import CrossEntropy
from recsys.training.module import SequenceModule

class Halved(CrossEntropy):
    def forward(self, *given: Tensor) -> Tensor:
        return super().forward(*given) / 2

class Diverging(SequenceModule):
    def training_step(self, batch: list, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss if len(self.validation) else loss * float("inf")  # nobody validates a refit
"""
NIGHTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "permutations in two streams, another optimiser and schedule": (
        {"recipe": "xlnet_plm", "encoder": "XLNet(n_blocks=1, n_heads=2)"},
        {"optimizer": "RAdam(eps=1e-6)", "schedule": "WarmupCosine(warmup=0.1)", "module": "SequenceModule()"},
    ),
    "times, a prior of them, other batches and first weights": (
        {
            "recipe": "hstu",
            "heads": ("NextItem(prior=Activity(every='1d'))",),
            "batching": "Padded()",
            "initialisation": "XavierNormal()",
            "network": "Network()",
        },
        {"validation_users": "SameUsers()"},
    ),
    "next action, ALBERT, towers and popular negatives": (
        {
            "recipe": "next_action_albert_causal",
            "towers": ("Tower(name='near', inputs=Inputs(features=['device']), encoder=GRU(), positions=NoPositions())",),
            "merge": "Concat()",
            "loss": "GBCE(n_negatives=16, negatives=Popularity(exponent=0.5))",
        },
        {"trainer": "Trainer(gradient_clip_val=1.0)", "callbacks": ("EMAWeightAveraging(decay=0.9)",)},
    ),
    "Hugging Face under a mask, several losses, cosine": (
        {
            "objective": "ReplacedTokenDetection()",
            "encoder": "HuggingFace(name='bert', n_blocks=1)",
            "positions": "NoPositions()",
            "heads": (
                "NextItem(loss=WeightedSum(losses=[CrossEntropy(temperature=0.1), BPR()], weights=[1.0, 0.5]), similarity=Cosine())",
            ),
        },
        {},
    ),
    "rotary positions, gates, events of a window": (
        {"objective": "DenseAllAction(window='2d')", "encoder": "LiGR(n_blocks=1)", "positions": "Rotary()", "loss": "SampledSoftmax()"},
        {},
    ),
}


@pytest.mark.parametrize(("model", "training"), NIGHTS.values(), ids=NIGHTS)
def test_a_night_with_other_parts(tmp_path: Path, model: dict[str, Any], training: dict[str, Any]) -> None:
    a_night(tmp_path, Model(**SMALL | model), **training)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder of own parts."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "night_parts.py").write_text(OWN)
    return code


def test_a_refit_that_diverges_gives_way_to_its_twin(tmp_path: Path, code: Path) -> None:
    store = a_night(tmp_path / "store", Model(**SMALL, code=str(code)), module="night_parts.Diverging()")
    now = published.current(store)
    assert now is not None and "twin" not in now.artifacts
    assert store.open(now.artifacts["training"]).manifest["config"]["epochs"] is None, "it was trained before the holdout"
    given_up = "The refit is given up for its twin: The training loss is no longer finite in epoch 1"
    assert any(why.startswith(given_up) for why in now.reasons)


def test_a_night_with_a_part_of_ones_own(tmp_path: Path, code: Path) -> None:
    store = a_night(tmp_path / "store", Model(**SMALL, code=str(code), loss="night_parts.Halved(temperature=0.5)"))
    now = published.current(store)
    assert now is not None
    assert type(load(store.open(now.artifacts["training"]).path)[0].next_item.criterion).__name__ == "Halved"


def test_a_night_with_other_inputs_items_and_fusion(tmp_path: Path) -> None:
    store = a_night(tmp_path, RICH)
    now = published.current(store)
    assert now is not None
    network, vocabulary = load(store.open(now.artifacts["training"]).path)
    assert set(network.user_columns) == {"interests", "age", "user_id"} and vocabulary.user_id is not None


def a_night(folder: Path, model: Model, **training: Any) -> Store:
    """A published night of a small shop: the candidate's lists, one for everybody."""
    state = nightly(
        as_of=datetime(2025, 6, 2, tzinfo=timezone.utc),
        store=str(folder),
        data=Data(demo=Shop(n_users=120, n_items=40)),
        model=model,
        training=Training(**{"max_epochs": 2, "learning_rate": 0.01, "users_per_batch": 32, "n_validation_users": 50, **training}),
        evaluation=Evaluation(n_bootstrap=100),
        promotion=Promotion(min_users=1, min_lift=-1.0, min_refit_overlap=0.0),
        return_state=True,
    )
    assert state.is_completed(), state
    store = Store(folder)
    now = published.current(store)
    assert now is not None and now.source == "candidate"
    users = pq.read_table(store.open(now.artifacts["sequences"]).path / "users")
    lists = pq.read_table(store.open(now.artifacts["scoring"]).path / "recommendations")
    assert set(lists["user_id"].to_pylist()) == set(users["user_id"].to_pylist())
    return store
