"""The encoders against their formulas."""

import pytest
import torch
from torch.nn import functional

from recsys.model.attention import Attention
from recsys.model.encoders import View
from recsys.model.encoders.preln import PreLN
from recsys.model.encoders.sasrec import SASRec

L, D = 5, 12
LENGTHS = torch.tensor([5, 3])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def attended(layer: Attention, query: torch.Tensor, context: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Attention, head by head; `seen` (B, L, L) bool."""
    q, (k, v) = layer.query(query), layer.key_value(context).chunk(2, dim=-1)
    found = []
    for head in range(layer.n_heads):
        part = slice(head * D // layer.n_heads, (head + 1) * D // layer.n_heads)
        weight = q[..., part] @ k[..., part].transpose(1, 2) / (D / layer.n_heads) ** 0.5
        found.append(weight.masked_fill(~seen, -torch.inf).softmax(-1) @ v[..., part])
    return layer.out(torch.cat(found, dim=-1))


@pytest.mark.parametrize("kind", ["left to right", "both sides", "mask"])
def test_attention(kind: str) -> None:
    layer, query, context = Attention(D, 3), torch.randn(2, L, D), torch.randn(2, L, D)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    real = torch.arange(L) < LENGTHS[:, None]
    causal = torch.ones(L, L, dtype=torch.bool).tril()
    if kind == "mask":
        seen = (torch.rand(2, L, L) > 0.5) | torch.eye(L, dtype=torch.bool)
        view = View(LENGTHS, "both sides", mask=seen)
    else:
        seen = causal.expand(2, L, L) if kind == "left to right" else real[:, None, :].expand(2, L, L)
        view = View(LENGTHS, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(layer(query, context, view)[real], attended(layer, query, context, seen)[real], rtol=1e-4, atol=1e-5)


def test_sasrec_normalises_queries_only_and_keeps_the_normalised_input() -> None:
    encoder, x, view = SASRec(D, n_blocks=1, n_heads=2).eval(), torch.randn(2, L, D), View(LENGTHS, "left to right")
    block = encoder.blocks[0]
    query = block.query_norm(x)
    y = block.inner_norm(query + block.attention(query, x, view))
    y = y + block.inner.narrow(functional.relu(block.inner.wide(y)))
    torch.testing.assert_close(encoder(x, view), encoder.norm(y))
    assert block.inner.wide.out_features == D


def test_preln_normalises_before_each_layer_and_keeps_the_input() -> None:
    encoder, x, view = PreLN(D, n_blocks=1, n_heads=2).eval(), torch.randn(2, L, D), View(LENGTHS, "left to right")
    block = encoder.blocks[0]
    normed = block.attention_norm(x)
    y = x + block.attention(normed, normed, view)
    y = y + block.inner.narrow(functional.gelu(block.inner.wide(block.inner_norm(y))))
    torch.testing.assert_close(encoder(x, view), encoder.norm(y))
    assert block.inner.wide.out_features == 4 * D


@pytest.mark.parametrize("cls", [SASRec, PreLN])
def test_dropout_is_for_training_only(cls: type) -> None:
    encoder, x, view = cls(D, dropout=0.5, attention_dropout=0.5), torch.randn(2, L, D), View(LENGTHS, "left to right")
    assert not torch.equal(encoder(x, view), encoder(x, view))
    encoder.eval()
    assert torch.equal(encoder(x, view), encoder(x, view))
