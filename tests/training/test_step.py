"""What makes a training step fast, on any machine: nothing grows with users but the size of tensors, no tensor is as large as all
scores, a GPU is seldom waited for, and half precision keeps the loss a number in float32."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recsys import recipes
from recsys.config import Model
from recsys.model.batching import Padded
from recsys.model.blocks import build
from recsys.model.bucket import Bucket
from recsys.model.losses import Loss
from recsys.model.network import Network
from recsys.model.objectives.causal import CausalLM
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve
from recsys.slots import choices

HISTORIES, DICTIONARY = sample(n_users=40)
VOCABULARY = Vocabulary.fit(HISTORIES, DICTIONARY, HISTORIES.offsets[1:])

aten = torch.ops.aten
# What asks a GPU for a number before the next kernel can be launched.
ASKING = {aten.nonzero.default, aten._local_scalar_dense.default, aten.masked_select.default, aten._unique2.default, aten.equal.default}


class Watched(TorchDispatchMode):
    """Counts the operations of torch, those that would wait for a GPU, and the largest tensor that one of them made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.asked, self.largest = 0, Counter[str](), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.calls += 1
        by_mask = func is aten.index.Tensor and any(x is not None and x.dtype == torch.bool for x in args[1])
        if func in ASKING or by_mask or (func is aten.repeat_interleave.Tensor and (kwargs or {}).get("output_size") is None):
            self.asked[str(func)] += 1
        for tensor in found if isinstance(found, tuple | list) else [found]:
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        return found


def step_of(recipe: str, *, device: str = "cpu", **fields: Any) -> tuple[Network, list[Bucket]]:
    """A network, and the buckets of a step as training makes them on such a device."""
    torch.manual_seed(0)
    network = build(resolve(Model(recipe=recipe, width=32, max_events=8, **fields)), VOCABULARY).train()
    reader = network.reader(HISTORIES, DICTIONARY, VOCABULARY)
    spans = reader.spans(*HISTORIES.sequences(HISTORIES.offsets[1:], "user"))
    spans = spans[torch.nonzero(spans.lengths >= 2)[:, 0]].newest(network.objective.n_trained(8))
    return network.to(device), list(network.to(device).batching.training(reader.to(device), spans, torch.Generator()))


def backward(network: Network, buckets: list[Bucket]) -> Tensor:
    loss = network.loss(buckets)
    loss.backward()
    return loss


# Waits for a GPU that are left, a bucket and a step. Next-event prediction knows how many predictions it makes; who draws them at
# random does not. The discriminator of `xlnet_rtd` reads real events alone, and draws among the items that are hidden. Hugging
# Face's GPT-2 asks whether its mask masks anything. A prior looks up which moments a step has, and what the CPU knows of them.
A_BUCKET = {"xlnet_rtd": 3, "gpt2": 1} | dict.fromkeys(("albert", "bert4rec", "xlnet_mlm", "xlnet_plm"), 1)
A_BUCKET |= dict.fromkeys((name for name in recipes.names() if name.startswith("next_action")), 1)
A_STEP = {"xlnet_rtd": 1, "news": 2}


@pytest.mark.parametrize("recipe", recipes.names())
def test_a_gpu_is_seldom_waited_for(recipe: str) -> None:
    network, buckets = step_of(recipe)
    assert waits(network, buckets) == len(buckets) * A_BUCKET.get(recipe, 0) + A_STEP.get(recipe, 0)


@pytest.mark.parametrize("recipe", recipes.names())
def test_item_vectors_are_composed_once_a_step(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once a bucket: they are of all items. Replaced-token detection predicts twice, with a generator before it."""
    network, buckets = step_of(recipe, items='Factorised(inner=IdPlusFeatures(features=["genres"]), inner_width=4)')
    composed: list[int] = []
    vectors = type(network.items).vectors
    monkeypatch.setattr(type(network.items), "vectors", lambda self: composed.append(1) or vectors(self))
    network.loss(buckets)
    assert len(buckets) > 1 and len(composed) == (2 if recipe == "xlnet_rtd" else 1)


# Parts that make a step of next-event prediction wait: how many values all lists have, which labels are known, which events are real.
PARTS_A_BUCKET: list[tuple[dict[str, Any], int]] = [
    ({"inputs": "Inputs(features=['device', 'gap_seconds', 'picture', 'brand', 'price', 'country', 'age'])"}, 0),
    ({"inputs": "Inputs(features=['shelves', 'genres'])"}, 2),
    ({"inputs": "Inputs(noise=StochasticSharedEmbeddings())"}, 0),
    ({"inputs": "Inputs(noise=SwapNoise())"}, 1),
    ({"heads": ("NextItem()", 'Binary(label="bought")')}, 1),
    ({"heads": ("NextItem()", 'Binary(label="bought", of="event")')}, 2),
    ({"objective": "AllAction()"}, 1),
    ({"objective": "DenseAllAction()"}, 1),
    ({"loss": "SampledSoftmax(negatives=Mixed(), log_q=true)"}, 0),
    ({"encoder": "GRU()", "positions": "NoPositions()"}, 0),
]


@pytest.mark.parametrize(("part", "a_bucket"), PARTS_A_BUCKET, ids=str)
def test_few_parts_wait_for_a_gpu(part: dict[str, Any], a_bucket: int) -> None:
    network, buckets = step_of("sasrec", **part)
    assert waits(network, buckets) == len(buckets) * a_bucket


def waits(network: Network, buckets: list[Bucket]) -> int:
    """How often a step on buckets as a GPU has them asks for a number."""
    known = [replace(b, n_targets=int((b.weight[:, 1:] > 0).sum())) for b in buckets]
    with Watched() as watched:
        backward(network, known)
    return watched.asked.total()


def test_predictions_that_are_counted_beforehand_are_the_same() -> None:
    """Also where a network leaves some of them out: then what is missing counts for nothing."""
    objective = CausalLM()
    for bucket in step_of("sasrec")[1]:
        n_targets = int((bucket.weight[:, 1:] > 0).sum())
        asked, known = objective.plan(bucket), objective.plan(replace(bucket, n_targets=n_targets))
        for name in ("row", "col", "target", "weight"):
            assert torch.equal(getattr(asked, name), getattr(known, name))
        fewer = replace(bucket, weight=bucket.weight * (torch.arange(bucket.weight.shape[1]) % 2))
        asked, known = objective.plan(fewer), objective.plan(replace(fewer, n_targets=n_targets))
        assert torch.equal(asked.target, known.target[known.weight > 0]) and len(known.target) == n_targets > len(asked.target)


class Somewhere(TorchDispatchMode):
    """On the meta device, where there are shapes and no numbers: all of what could be chosen is. Refuses operations between
    devices; a single number may come from anywhere, as it may for a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim}
        assert len(devices) <= 1, f"{func} of tensors on {devices}"
        if func is aten.nonzero.default and args[0].is_meta:
            return args[0].new_empty((args[0].numel(), args[0].ndim), dtype=torch.long)
        if func is aten._unique2.default:
            return args[0].new_empty(args[0].numel()), args[0].new_empty(0), args[0].new_empty(0)
        if func in (aten.index.Tensor, aten.index_put.default):
            args = (args[0], [place for index in args[1] for place in self._places(index)], *args[2:])
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _places(index: Tensor | None) -> list[Tensor | None]:
        """A mask as the places where it is true."""
        if index is None or index.dtype != torch.bool:
            return [index]
        return [index.new_empty(index.numel(), dtype=torch.long)] * index.ndim


@pytest.mark.parametrize("recipe", sorted({*recipes.names()} - {"gpt2", "news"}))  # which ask for numbers, see above
def test_a_step_is_made_on_one_device(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it has none
    network, buckets = step_of(recipe, device="meta")
    with Somewhere():
        loss = backward(network, buckets)
    assert loss.is_meta and all(p.grad is not None and p.grad.is_meta for p in network.parameters())


IN_HALF = [
    *((recipe, {}) for recipe in recipes.names()),
    *(("sasrec", {"loss": f"{name}()"}) for name in choices(Loss) if name != "WeightedSum"),
    ("sasrec", {"inputs": 'Inputs(features="all", aggregation=SumTimesItem(), layer_norm=true)'}),
    ("sasrec", {"inputs": "Inputs(embeddings=[SoftOneHot(columns=['price']), JointMLP(columns=['gap_seconds', 'age'])])"}),
    ("sasrec", {"items": "Combined(blocks=[IdEmbedding(), Features()])", "positions": "Rotary()"}),
    ("sasrec", {"heads": ("NextItem(similarity=Cosine())", 'Binary(label="bought", pooling=Attention())', 'Regression(label="spent")')}),
    ("sasrec", {"heads": ("NextItem(tied=false, bias=true)", 'MultiClass(label="reason", of="event")')}),
    ("sasrec", {"towers": ("Tower(name='beside', inputs=Inputs(), encoder=LSTM())",), "fusion": "UserFeatures(features='all')"}),
]


@pytest.mark.parametrize(("recipe", "parts"), IN_HALF, ids=str)
def test_half_precision_keeps_a_loss_in_float32(recipe: str, parts: dict[str, Any]) -> None:
    """As on a GPU: autocast to bfloat16 and back."""
    network, buckets = step_of(recipe, **parts)
    torch.manual_seed(1)
    whole = network.loss(buckets)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = network.loss(buckets)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, whole, rtol=0.03, atol=0.01)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_no_operation_is_made_for_each_user() -> None:
    """In the grouping, the collation, the forward and the backward pass."""

    def calls(n_users: int) -> int:
        with Watched() as watched:
            backward(network, list(Padded().training(reader, spans[torch.arange(n_users)], torch.Generator())))
        return watched.calls

    network, _ = step_of("sasrec")
    reader = network.reader(HISTORIES, DICTIONARY, VOCABULARY)
    spans = reader.spans(*HISTORIES.sequences(HISTORIES.offsets[1:], "user"))
    spans = spans[torch.nonzero(spans.lengths >= 9)[:, 0]].newest(9)
    assert calls(len(spans)) == calls(2) and len(spans) > 15


@pytest.mark.parametrize("recipe", ["sasrec", "gsasrec"])
def test_no_tensor_holds_all_scores(recipe: str) -> None:
    """(N, V) for N predictions of V items, of which none is a quarter as large, forward or backward."""
    n_items = 50_000
    many = replace(VOCABULARY, item_id=pa.array(range(n_items)), n_events=np.ones(n_items, dtype=np.int64), item_columns={})
    histories, dictionary = sample(n_users=160)
    network = build(resolve(Model(recipe=recipe, width=16, max_events=8)), many).train()
    reader = network.reader(histories, dictionary, VOCABULARY)
    spans = reader.spans(*histories.sequences(histories.offsets[1:], "user")).newest(9)
    with Watched() as watched:
        buckets = list(network.batching.training(reader, spans, torch.Generator()))
        backward(network, buckets)
    n = sum(int((b.weight[:, 1:] > 0).sum()) for b in buckets)
    assert n > 800 and watched.largest < n * n_items / 4
