"""XLNet, equal to the one of Hugging Face's library."""

from typing import Any

import pytest
import torch

from recsys.errors import ConfigError
from recsys.model.encoders import View
from recsys.model.encoders.xlnet import XLNet, distances, from_distances

B, L, D, HEADS = 3, 7, 12, 3
LENGTHS = torch.tensor([7, 4, 1])
REAL = torch.arange(L) < LENGTHS[:, None]


@pytest.fixture
def pair() -> tuple[XLNet, Any]:
    """Ours and theirs, with the same weights."""
    from transformers import XLNetConfig, XLNetModel

    torch.manual_seed(0)
    theirs = XLNetModel(
        XLNetConfig(vocab_size=2, pad_token_id=0, d_model=D, n_layer=2, n_head=HEADS, d_inner=4 * D, layer_norm_eps=1e-5)
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = XLNet(D, n_blocks=2, n_heads=HEADS).eval()
    for mine, layer in zip(ours.blocks, theirs.layer, strict=True):
        attention, their = mine.attention, layer.rel_attn
        into = {attention.query: their.q, attention.key: their.k, attention.value: their.v, attention.distance: their.r}
        for linear, weight in into.items():
            linear.weight.data = weight.data.reshape(D, D).T
        attention.out.weight.data = their.o.data.reshape(D, D)
        attention.content_bias.data, attention.distance_bias.data = their.r_w_bias.data.flatten(), their.r_r_bias.data.flatten()
        mine.attention_norm.load_state_dict(their.layer_norm.state_dict())
        mine.inner_norm.load_state_dict(layer.ff.layer_norm.state_dict())
        mine.inner.wide.load_state_dict(layer.ff.layer_1.state_dict())
        mine.inner.narrow.load_state_dict(layer.ff.layer_2.state_dict())
    return ours, theirs


def test_both_sides(pair: Any) -> None:
    ours, theirs = pair
    x = torch.randn(B, L, D)
    expected = theirs(inputs_embeds=x, attention_mask=REAL.float()).last_hidden_state
    torch.testing.assert_close(ours(x, View(LENGTHS, "both sides"))[REAL], expected[REAL], rtol=1e-4, atol=1e-5)


def test_left_to_right(pair: Any) -> None:
    """Theirs sees both sides unless it is told not to, event by event: what Transformers4Rec's example does not do."""
    ours, theirs = pair
    x = torch.randn(B, L, D)
    future = torch.ones(L, L).triu(1).expand(B, L, L)
    expected = theirs(inputs_embeds=x, attention_mask=REAL.float(), perm_mask=future).last_hidden_state
    torch.testing.assert_close(ours(x, View(LENGTHS, "left to right"))[REAL], expected[REAL], rtol=1e-4, atol=1e-5)


def test_two_streams(pair: Any) -> None:
    ours, theirs = pair
    x, order = torch.randn(B, L, D), torch.rand(B, L).argsort(1) - 2  # three events come first and are seen by all
    order = order.clamp(min=0)
    seen = ((order[:, None] < order[:, :, None]) | (order == 0)[:, None]) & REAL[:, None]
    expected = theirs(
        inputs_embeds=x, attention_mask=REAL.float(), perm_mask=(~seen).float(), target_mapping=torch.eye(L).expand(B, L, L)
    ).last_hidden_state
    states = ours(x, View(LENGTHS, "both sides", seen, theirs.mask_emb.flatten()))
    known = REAL & seen.any(-1)  # of what sees nothing, theirs makes a mean over padding
    assert known.sum() > 8
    torch.testing.assert_close(states[known], expected[known], rtol=1e-4, atol=1e-5)


def test_every_parameter_of_two_streams_is_trained() -> None:
    encoder, x, query = XLNet(D, n_heads=HEADS), torch.randn(B, L, D), torch.randn(D, requires_grad=True)
    mask = torch.ones(L, L, dtype=torch.bool).tril(-1).expand(B, L, L)
    (encoder(x, View(torch.full((B,), L), "both sides", mask, query)) * torch.randn(B, L, D)).sum().backward()
    assert query.grad is not None and query.grad.abs().min() > 0
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any() for parameter in encoder.parameters()
    )


def test_a_place_that_sees_nothing_finds_nothing() -> None:
    """The first of an order is predicted from its position and the query alone, whatever the events are."""
    encoder, query = XLNet(D, n_heads=HEADS).eval(), torch.randn(D)
    view = View(torch.full((B,), L), "both sides", torch.ones(L, L, dtype=torch.bool).tril(-1).expand(B, L, L), query)
    a, b = (encoder(torch.randn(B, L, D), view)[:, 0] for _ in range(2))
    torch.testing.assert_close(a, b)


def test_a_second_stream_without_a_mask_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a mask"):
        View(LENGTHS, "left to right", second_stream=torch.randn(D))


@pytest.mark.parametrize("n_places", [1, 2, 5])
def test_scores_by_distance_become_scores_by_place(n_places: int) -> None:
    for nearest in (0, 1 - n_places):
        score = torch.randn(2, n_places, n_places - nearest + 1)
        found = from_distances(score)
        assert found.shape == (2, n_places, n_places)
        for i in range(n_places):
            for j in range(n_places if nearest else i + 1):
                assert torch.equal(found[:, i, j], score[:, i, n_places - (i - j)])


def test_distances_are_sines_and_cosines() -> None:
    found = distances(4, 3, -2, torch.device("cpu"))
    angle = torch.tensor([3.0, 2, 1, 0, -1, -2])[:, None] / torch.tensor([1.0, 100.0])
    torch.testing.assert_close(found, torch.cat([angle.sin(), angle.cos()], dim=-1))
