"""Every encoder: causal where it says so, blind to padding and batch-mates, trainable in all of its parameters."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from recsys.errors import ConfigError, ContractError
from recsys.model import contracts
from recsys.model.encoders import LEFT_TO_RIGHT, Encoder, View
from recsys.model.encoders.huggingface import ARCHITECTURES
from recsys.parts import parse
from recsys.slots import choices

WIDTH = 16
HOUR = 3_600_000_000
MEMBERS = choices(Encoder)
HUGGING_FACE = {f'HuggingFace(name="{name}")': facts.directions for name, facts in ARCHITECTURES.items()}
CASES = {
    **{name: cls.directions for name, cls in MEMBERS.items() if name not in ("HuggingFace", "Module")},
    "Albert(n_blocks=3, n_hidden_groups=2, n_inner_groups=2)": MEMBERS["Albert"].directions,
    "HSTU(n_heads=2, position_bias=false)": LEFT_TO_RIGHT,
    "HSTU(time_bias=false)": LEFT_TO_RIGHT,
    **HUGGING_FACE,
    'HuggingFace(name="longformer", n_heads=4, options={"attention_window": 8})': ARCHITECTURES["longformer"].directions,
    "Module(module=torch.nn.Linear(in_features=16, out_features=16), causal=true)": LEFT_TO_RIGHT,
}
PAIRS = [(text, direction) for text, directions in CASES.items() for direction in sorted(directions)]
over_all = pytest.mark.parametrize(("text", "direction"), PAIRS)


def build(text: str) -> Encoder:
    return parse(text, Encoder).build(width=WIDTH, max_events=11, n_places=11)


def test_every_encoder_is_here() -> None:
    assert {text.partition("(")[0] for text in CASES} == MEMBERS.keys()
    for text, directions in CASES.items():
        assert build(text).directions == directions, text


@pytest.mark.parametrize("text", CASES)
def test_its_text_reads_back(text: str) -> None:
    spec = parse(text, Encoder)
    assert parse(str(spec), Encoder) == spec


@pytest.mark.parametrize("sizes", ["n_heads=3", "n_heads=0", "dropout=1.0", "attention_dropout=-0.1", "attention_dropout=2.0"])
@pytest.mark.parametrize("text", ["SASRec(", "PreLN(", "Albert(", "LiGR(", "XLNet(", 'HuggingFace(name="bert", '])
def test_sizes_that_cannot_be_are_refused(text: str, sizes: str) -> None:
    with pytest.raises(ConfigError, match="heads|outside"):
        build(f"{text}{sizes})")


@over_all
def test_half_precision(text: str, direction: Any) -> None:
    """Training in bfloat16 goes the same way, up to rounding."""
    encoder, x = build(text).eval(), torch.randn(2, 6, WIDTH)
    times = (torch.arange(6) * HOUR).expand(2, 6)
    view = View(torch.tensor([6, 4]), direction, times=times, next_times=times + HOUR)
    whole = encoder(x, view)
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder(x, view)
    assert (half.float() - whole)[0].abs().max() < 0.1 * whole.abs().max()
    half.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize("text", [text for text, direction in PAIRS if direction == "left to right"])
def test_it_looks_back_only(text: str) -> None:
    """Also XLNet, ALBERT and ELECTRA, under whose next-item labels Transformers4Rec leaks what follows (its issue 746)."""
    contracts.looks_back_only(build(text), WIDTH)


@over_all
def test_padding_changes_nothing(text: str, direction: Any) -> None:
    """Transformers4Rec never hands Hugging Face's models an attention mask."""
    contracts.ignores_padding(build(text), WIDTH, direction)


@over_all
def test_permuting_the_batch_permutes_the_output(text: str, direction: Any) -> None:
    """Transformers4Rec's GRU runs along the batch: it is built without batch_first."""
    contracts.keeps_batch_order(build(text), WIDTH, direction)


@over_all
def test_an_empty_sequence_harms_nobody(text: str, direction: Any) -> None:
    contracts.survives_empty_sequences(build(text), WIDTH, direction)


@over_all
def test_one_place_alone_is_the_same_as_among_all(text: str, direction: Any) -> None:
    contracts.reads_one_place_alike(build(text), WIDTH, direction)


@pytest.mark.parametrize("name", [name for name, cls in MEMBERS.items() if cls.reads_rotary])
def test_one_place_alone_is_turned_and_masked_as_among_all(name: str) -> None:
    """In float64, with rotary positions and a mask that neither lengths nor a direction say."""
    encoder, x, lengths = build(name).eval().double(), torch.randn(3, 6, WIDTH, dtype=torch.float64), torch.tensor([6, 3, 1])
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    mask = torch.rand(3, 6, 6) < 0.5
    place = torch.tensor([4, 2, 0])
    for view in (View(lengths, "left to right", rotary_base=100.0), View(lengths, "both sides", mask=mask, rotary_base=100.0)):
        states = encoder(x, view)
        torch.testing.assert_close(encoder.at(x, view, place), states[[0, 1, 2], place], rtol=0, atol=1e-6)


@over_all
def test_gradients_reach_every_parameter(text: str, direction: Any) -> None:
    encoder, x = build(text), torch.randn(4, 6, WIDTH)
    weight = torch.randn(4, 6, WIDTH)  # a plain sum of normalised states is constant
    times = (torch.arange(6) * HOUR).expand(4, 6)
    view = View(torch.full((4,), 6), direction, times=times, next_times=times + HOUR)
    contracts.gradients_reach(encoder, lambda: (encoder(x, view) * weight).sum())


@pytest.mark.parametrize("text", [text for text, direction in PAIRS if direction == "both sides"])
def test_from_both_sides_the_future_is_seen(text: str) -> None:
    x, encoder = torch.randn(1, 5, WIDTH), build(text).eval()
    later = torch.cat([x[:, :4], torch.randn(1, 1, WIDTH)], dim=1)
    a, b = (encoder(events, View(torch.tensor([5]), "both sides")) for events in (x, later))
    assert (a - b)[:, :4].abs().amax(dim=(0, 2)).min() > 1e-5


@pytest.mark.parametrize("text", [text for text in CASES if "torch.nn" not in text])
def test_one_seed_gives_one_set_of_weights(text: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build(text).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


@pytest.mark.parametrize("name", [name for name, cls in MEMBERS.items() if cls.two_streams])
def test_the_second_stream_sees_what_its_mask_says(name: str) -> None:
    contracts.keeps_streams_apart(build(name), WIDTH)


@pytest.mark.parametrize("name", [name for name, cls in MEMBERS.items() if cls.reads_rotary])
def test_rotary_positions_tell_the_order(name: str) -> None:
    """Without any position, a last state is the same in whatever order the events before it stand."""
    encoder, x, lengths = build(name).eval(), torch.randn(1, 5, WIDTH), torch.tensor([5])
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # attention is nearly even with the weights that training starts from
    swapped = x[:, [1, 0, 2, 3, 4]]
    for base in (None, 100.0):
        a, b = (encoder(events, View(lengths, "both sides", rotary_base=base))[0, 4] for events in (x, swapped))
        assert torch.allclose(a, b, atol=1e-4) == (base is None)


def test_listing_the_encoders_does_not_import_transformers() -> None:
    script = "import sys; from recsys.parts import choices; from recsys.model.encoders import Encoder; choices(Encoder); "
    done = subprocess.run([sys.executable, "-c", script + "print('transformers' in sys.modules)"], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


class _LooksAhead(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x + x.roll(-1, dims=1)


class _ReadsPadding(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x + x.mean(dim=1, keepdim=True)


class _CountsSequences(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x * len(x)


class _AddsSequencesUp(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x.cumsum(0)


class _DividesByLength(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x * self.weight + 0 * (self.weight.sum() * 0 * view.lengths[:, None, None]).sqrt()


class _SeesItself(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x


class _SeesNothing(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return torch.zeros_like(x)


class _CountsEvents(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x * view.lengths.sum()


def test_broken_encoders_are_found_out() -> None:
    with pytest.raises(ContractError, match="_LooksAhead: .*looks ahead"):
        contracts.looks_back_only(_LooksAhead(), WIDTH)
    with pytest.raises(ContractError, match="_ReadsPadding: .*padding"):
        contracts.ignores_padding(_ReadsPadding(), WIDTH, "both sides")
    with pytest.raises(ContractError, match="_CountsSequences: .*other sequences"):
        contracts.ignores_padding(_CountsSequences(), WIDTH, "left to right")
    with pytest.raises(ContractError, match="_AddsSequencesUp: permuting"):
        contracts.keeps_batch_order(_AddsSequencesUp(), WIDTH, "left to right")
    with pytest.raises(ContractError, match="_DividesByLength: with an empty sequence"):
        contracts.survives_empty_sequences(_DividesByLength(), WIDTH, "left to right")
    with pytest.raises(ContractError, match="_CountsEvents: an empty sequence changes"):
        contracts.survives_empty_sequences(_CountsEvents(), WIDTH, "left to right")
    with pytest.raises(ContractError, match="_ForgetsThePlace: the state of one place"):
        contracts.reads_one_place_alike(_ForgetsThePlace(), WIDTH, "left to right")
    with pytest.raises(ContractError, match="_SeesItself: .*its own event"):
        contracts.keeps_streams_apart(_SeesItself(), WIDTH)
    with pytest.raises(ContractError, match="_SeesNothing: .*not see all"):
        contracts.keeps_streams_apart(_SeesNothing(), WIDTH)


class _ForgetsThePlace(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x

    def at(self, x: torch.Tensor, view: View, place: torch.Tensor) -> torch.Tensor:
        return x[:, -1]


class _Widens(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return torch.cat([x, x[..., :1]], dim=-1)


def test_an_encoder_of_another_width_is_found_out() -> None:
    with pytest.raises(ContractError, match=r"_Widens: gives \(5, 7, 17\) for \(5, 7, 16\)"):
        contracts.keeps_shape(_Widens(), WIDTH, "both sides")
