"""The encoders against their formulas."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.attention import Attention, attend, rotated
from recsys.model.dropout import Dropout
from recsys.model.encoders import Encoder, View
from recsys.model.encoders.albert import Albert
from recsys.model.encoders.hstu import HSTU
from recsys.model.encoders.ligr import LiGR
from recsys.model.encoders.module import Module
from recsys.model.encoders.preln import PreLN
from recsys.model.encoders.recurrent import GRU, LSTM
from recsys.model.encoders.sasrec import SASRec
from recsys.model.encoders.xlnet import RelativeAttention, XLNet
from recsys.parts import parse

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


@pytest.mark.parametrize("bias", [False, True])
def test_attention_to_nothing_is_zero_and_harmless(bias: bool) -> None:
    q, k, v, b = (torch.randn(2, 3, L, L, requires_grad=True) for _ in range(4))
    seen = torch.rand(2, 1, L, L) > 0.5
    seen[0, 0, 2], seen[1] = False, False
    found = attend(q, k, v, seen, b if bias else None)
    assert not found[0, :, 2].any() and not found[1].any() and found[0, :, :2].all()
    found.sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v, *([b] if bias else [])))


@pytest.mark.parametrize(("masked", "bias"), [(False, False), (True, False), (True, True)])
def test_dropout_of_attention_drops_weights_and_no_more(masked: bool, bias: bool) -> None:
    """A share that rounds to none on a CPU changes nothing; with v = 1 a place finds the sum of the weights that are left to it."""
    q, k, v, b = (torch.randn(2, 3, L, L) for _ in range(4))
    seen = torch.rand(2, 1, L, L) > 0.3 if masked else None
    asked = {"bias": b if bias else None}
    torch.testing.assert_close(attend(q, k, v, seen, **asked, dropout=Dropout(0.001)), attend(q, k, v, seen, **asked))
    half = Dropout(0.5)
    sums = torch.stack([attend(q, k, torch.ones_like(v), seen, **asked, dropout=half)[..., 0] for _ in range(2000)])
    seeing = torch.ones(2, 1, L) if seen is None else seen.any(-1).float()
    torch.testing.assert_close(sums.mean(0), seeing.expand(2, 3, L), atol=0.12, rtol=0)
    assert sums.std(0)[:, :, -1][seeing[:, 0, -1] > 0].min() > 0.1
    half.eval()
    assert torch.equal(attend(q, k, v, seen, **asked, dropout=half), attend(q, k, v, seen, **asked))


@pytest.mark.parametrize("cls", [SASRec, PreLN, Albert, LiGR, XLNet])
def test_attention_drops_as_much_as_the_rest_unless_said(cls: type) -> None:
    def shares(encoder: torch.nn.Module) -> set[float]:
        return {module.dropout.p for module in encoder.modules() if isinstance(module, (Attention, RelativeAttention))}

    assert shares(cls(D, dropout=0.3)) == {0.3} and shares(cls(D, dropout=0.3, attention_dropout=0.0)) == {0.0}


def test_rotary_turns_pairs_of_coordinates() -> None:
    """Coordinates i and W / 2 + i as one complex number, turned by place · base^(−2i / W)."""
    x, base = torch.randn(2, L, 6), 50.0
    turned = rotated(x, base)
    numbers = torch.complex(x[..., :3], x[..., 3:])
    angle = torch.tensor([[place * base ** (-2 * i / 6) for i in range(3)] for place in range(L)])
    expected = numbers * torch.polar(torch.ones(L, 3), angle)
    torch.testing.assert_close(turned, torch.cat([expected.real, expected.imag], dim=-1))


def test_rotary_attention_knows_distances_only() -> None:
    """The same query and key have one score at places 0 and 2, and at 2 and 4."""
    layer, x = Attention(D, 3), torch.randn(1, 1, D).expand(1, L, D)
    q = layer.query(x).view(1, L, 3, 4).transpose(1, 2)
    k = layer.key_value(x)[..., :D].view(1, L, 3, 4).transpose(1, 2)
    score = rotated(q, 100.0) @ rotated(k, 100.0).transpose(-2, -1)
    for distance in range(-L + 1, L):
        same = score.diagonal(distance, -2, -1)
        torch.testing.assert_close(same, same[..., :1].expand_as(same))
    assert len(score[0, 0, 0].unique()) == L


def block(width: int, inner: int) -> int:
    """Parameters of a pre-norm block: two norms, attention with four biased maps, two linear layers."""
    return 4 * width + 4 * (width * width + width) + 2 * width * inner + inner + width


@pytest.mark.parametrize(("n_blocks", "n_hidden_groups", "n_inner_groups"), [(1, 1, 1), (4, 1, 1), (4, 2, 2), (5, 3, 2), (3, 3, 1)])
def test_albert_has_the_parameters_of_its_groups_only(n_blocks: int, n_hidden_groups: int, n_inner_groups: int) -> None:
    encoder = Albert(D, n_blocks=n_blocks, n_hidden_groups=n_hidden_groups, n_inner_groups=n_inner_groups, inner_width_factor=3)
    assert sum(p.numel() for p in encoder.parameters()) == n_hidden_groups * n_inner_groups * block(D, 3 * D) + 2 * D


@pytest.mark.parametrize(
    ("n_blocks", "n_hidden_groups", "runs"), [(4, 2, [0, 0, 1, 1]), (5, 2, [0, 0, 0, 1, 1]), (5, 3, [0, 0, 1, 1, 2]), (6, 1, [0] * 6)]
)
def test_albert_applies_the_layers_of_a_blocks_group(n_blocks: int, n_hidden_groups: int, runs: list[int]) -> None:
    """RecTools' tutorial computes a layer's number and then uses the block's: layers stay unused, or there are too few."""
    encoder = Albert(D, n_blocks=n_blocks, n_hidden_groups=n_hidden_groups, n_inner_groups=2).eval()
    assert [int(b / (n_blocks / n_hidden_groups)) for b in range(n_blocks)] == runs  # the tutorial's formula, which is right
    x, view = torch.randn(2, L, D), View(LENGTHS, "left to right")
    y = x
    for group in runs:
        for layer in encoder.groups[group]:
            y = layer(y, view)
    torch.testing.assert_close(encoder(x, view), encoder.norm(y))


def test_albert_without_sharing_is_preln() -> None:
    encoder, other = Albert(D, n_blocks=3, n_hidden_groups=3).eval(), PreLN(D, n_blocks=3).eval()
    other.load_state_dict({name.replace("groups.", "blocks.").replace(".0.", ".", 1): w for name, w in encoder.state_dict().items()})
    x, view = torch.randn(2, L, D), View(LENGTHS, "both sides")
    assert torch.equal(encoder(x, view), other(x, view))


def test_albert_refuses_groups_without_a_block() -> None:
    with pytest.raises(ConfigError, match="n_hidden_groups=3 is above n_blocks=2"):
        parse("Albert(n_blocks=2, n_hidden_groups=3)", Encoder).build(width=D)


@pytest.mark.parametrize("cls", [GRU, LSTM])
def test_recurrence_runs_along_events_and_not_along_the_batch(cls: type) -> None:
    """Transformers4Rec's recurrent models, and its paper's baseline, hand (B, L, D) to layers that expect (L, B, D)."""
    encoder, x = cls(D, n_layers=2).eval(), torch.randn(2, L, D)
    changed = torch.cat([torch.randn(1, L, D), x[1:]])
    a, b = (encoder(events, View(LENGTHS, "left to right")) for events in (x, changed))
    assert torch.equal(a[1], b[1])
    first, rest = (encoder(events, View(LENGTHS, "left to right")) for events in (x[:, :1], x[:, 1:]))
    torch.testing.assert_close(a[:, :1], first)
    assert (a[:, 1:] - rest).abs().amax(-1).min() > 1e-5, "later states know the first event"


@pytest.mark.parametrize(("cls", "n_gates"), [(GRU, 3), (LSTM, 4)])
def test_recurrent_encoders_are_torchs(cls: type, n_gates: int) -> None:
    encoder = cls(D, n_layers=2)
    assert sum(p.numel() for p in encoder.parameters()) == 2 * n_gates * (2 * D * D + 2 * D)
    assert encoder.recurrence.batch_first and encoder.recurrence.dropout == encoder.dropout.p


def test_gru_by_hand() -> None:
    encoder, x = GRU(D).eval(), torch.randn(1, 2, D)
    weight = dict(encoder.recurrence.named_parameters())
    state = torch.zeros(D)
    for event in x[0]:
        r, z, n = (weight["weight_ih_l0"] @ event + weight["bias_ih_l0"]).chunk(3)
        hr, hz, hn = (weight["weight_hh_l0"] @ state + weight["bias_hh_l0"]).chunk(3)
        z = (z + hz).sigmoid()
        state = (1 - z) * (n + (r + hr).sigmoid() * hn).tanh() + z * state
    torch.testing.assert_close(encoder(x, View(torch.tensor([2]), "left to right"))[0, 1], state)


def test_ligr_gates_each_layer() -> None:
    encoder, x, view = LiGR(D, n_blocks=1, inner_width_factor=2).eval(), torch.randn(2, L, D), View(LENGTHS, "left to right")
    layer = encoder.blocks[0]
    normed = layer.attention_norm(x)
    y = x + layer.attention_gate(x).sigmoid() * layer.attention(normed, normed, view)
    gate, value = layer.inner.wide(layer.inner_norm(y)).chunk(2, dim=-1)
    y = y + layer.inner_gate(y).sigmoid() * layer.inner.narrow(gate * gate.sigmoid() * value)
    torch.testing.assert_close(encoder(x, view), encoder.norm(y))
    assert layer.inner.wide.bias is None and layer.inner.narrow.in_features == 2 * D


def test_hstu_place_by_place() -> None:
    """Equations 1 to 3 of the paper, with the biases of section 3.2, for each pair of places by itself."""
    encoder, x, n_heads = HSTU(D, L, n_blocks=1, n_heads=2).eval(), torch.randn(1, L, D), 2
    unit, bias = encoder.units[0], encoder.biases[0]
    torch.nn.init.normal_(bias.of_place)
    torch.nn.init.normal_(bias.of_span)
    seconds = [0, 3, 100, 5000, 1_000_000]
    times = torch.tensor([seconds]) * 1_000_000
    next_times = torch.tensor([[*seconds[1:], 2_000_000]]) * 1_000_000
    gate, q, k, v = functional.silu(unit.project(unit.norm(x)))[0].chunk(4, dim=-1)
    found = torch.zeros(L, D)
    for i in range(L):
        for j in range(i + 1):
            elapsed = [*seconds[1:], 2_000_000][i] - seconds[j]
            added = bias.of_place[i - j] + bias.of_span[min(128, int(math.log(max(1, elapsed)) / 0.301))]
            for head in range(n_heads):
                part = slice(head * D // n_heads, (head + 1) * D // n_heads)
                found[i, part] += functional.silu(q[i, part] @ k[j, part] + added) * v[j, part] / (i + 1)
    expected = encoder.norm(x[0] + unit.out(gate * unit.found_norm(found)))
    states = encoder(x, View(torch.tensor([L]), "left to right", times=times, next_times=next_times))
    torch.testing.assert_close(states[0], expected, rtol=1e-4, atol=1e-5)


def test_hstu_knows_when_the_prediction_is_made() -> None:
    encoder, x, times = HSTU(D, L).eval(), torch.randn(1, L, D), torch.arange(L)[None] * 1_000_000
    for bias in encoder.biases:
        torch.nn.init.normal_(bias.of_span)
    soon, late = (
        encoder(x, View(torch.tensor([L]), "left to right", times=times, next_times=times + hours * 3_600_000_000)) for hours in (1, 1000)
    )
    assert (soon - late).abs().amax(-1).min() > 1e-4
    assert encoder.reads_times and not HSTU(D, L, time_bias=False).reads_times


def test_hstu_says_what_it_lacks() -> None:
    encoder = HSTU(D, L)
    with pytest.raises(ConfigError, match="reads times, and this view has none"):
        encoder(torch.randn(1, L, D), View(torch.tensor([L]), "left to right"))
    with pytest.raises(ConfigError, match="6 places came to an HSTU with 5"):
        encoder(torch.randn(1, L + 1, D), View(torch.tensor([L + 1]), "left to right"))


class _Mixed(torch.nn.Module):
    """Events by an ordinary torch module, which knows no padding: a convolution over three neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x.transpose(1, 2)).transpose(1, 2)


def test_any_module_is_an_encoder() -> None:
    encoder, x = Module(module=torch.nn.Sequential(_Mixed(D), torch.nn.ReLU()), causal=False), torch.randn(2, L, D)
    assert encoder.directions == {"both sides"} and Module(module=_Mixed(D), causal=True).directions == {"left to right"}
    states = encoder(x, View(LENGTHS, "both sides"))
    alone = encoder(x[1:, :3], View(LENGTHS[1:], "both sides"))
    torch.testing.assert_close(states[1, :3], alone[0])


def test_a_module_in_a_configuration_gets_the_width_if_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "team_nets", SimpleNamespace(Mixed=_Mixed))
    spec = parse("Module(module=team_nets.Mixed, causal=false)", Encoder)
    assert spec.build(width=D).module.convolution.in_channels == D
    encoder = parse("Module(module=torch.nn.LayerNorm(normalized_shape=12), causal=true)", Encoder).build(width=D)
    torch.testing.assert_close(encoder(torch.ones(2, L, D), View(LENGTHS, "left to right")), torch.zeros(2, L, D))
    with pytest.raises(ConfigError, match="Linear needs 'in_features'"):
        parse("Module(module=torch.nn.Linear(), causal=true)", Encoder).build(width=D)
    with pytest.raises(ConfigError, match="Module needs causal"):
        parse("Module(module=torch.nn.Identity())", Encoder)


@pytest.mark.parametrize(
    ("module", "found"), [(torch.nn.GRU(D, D, batch_first=True), "GRU makes a tuple"), (torch.nn.Linear(D, 3), r"Linear makes \(2, 5, 3\)")]
)
def test_a_module_that_changes_the_shape_is_refused(module: torch.nn.Module, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        Module(module=module, causal=True)(torch.randn(2, L, D), View(LENGTHS, "left to right"))


@pytest.mark.parametrize("cls", [SASRec, PreLN, Albert, LiGR])
def test_dropout_is_for_training_only(cls: type) -> None:
    encoder, x, view = cls(D, dropout=0.5, attention_dropout=0.5), torch.randn(2, L, D), View(LENGTHS, "left to right")
    assert not torch.equal(encoder(x, view), encoder(x, view))
    encoder.eval()
    assert torch.equal(encoder(x, view), encoder(x, view))
