"""Hugging Face's transformers as encoders, equal to those of the library run directly."""

import pytest
import torch

from recsys.errors import ConfigError
from recsys.model.encoders import Encoder, View
from recsys.model.encoders.huggingface import ARCHITECTURES, HuggingFace
from recsys.parts import parse

B, L, D, PLACES = 3, 6, 16, 9
LENGTHS = torch.tensor([6, 4, 1])
REAL = torch.arange(L) < LENGTHS[:, None]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def with_weights_of(encoder: HuggingFace, model: torch.nn.Module) -> HuggingFace:
    """The encoder with the model's weights: what it does not have are parts that never get a gradient."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    missing, spare = encoder.model.load_state_dict(model.state_dict(), strict=False)
    assert not missing and all("wte" in name or "word_embeddings" in name or "pooler" in name for name in spare)
    return encoder.eval()


def test_gpt2() -> None:
    from transformers import GPT2Config, GPT2Model

    sizes = {"n_embd": D, "n_layer": 2, "n_head": 2, "n_positions": PLACES, "n_inner": 4 * D}
    theirs = GPT2Model(GPT2Config(vocab_size=5, bos_token_id=None, eos_token_id=None, **sizes)).eval()
    ours = with_weights_of(HuggingFace(D, PLACES, name="gpt2"), theirs)
    x = torch.randn(B, L, D)
    expected = theirs(inputs_embeds=x, attention_mask=REAL.long()).last_hidden_state
    torch.testing.assert_close(ours(x, View(LENGTHS, "left to right"))[REAL], expected[REAL], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("direction", ["left to right", "both sides"])
def test_bert(direction: str) -> None:
    """From left to right it is the library's BERT as a decoder."""
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 4 * D}
    fixed = {"vocab_size": 5, "type_vocab_size": 1, "max_position_embeddings": PLACES}
    theirs = BertModel(BertConfig(**sizes, **fixed, is_decoder=direction == "left to right")).eval()
    ours = with_weights_of(HuggingFace(D, PLACES, name="bert"), theirs)
    x = torch.randn(B, L, D)
    expected = theirs(inputs_embeds=x, attention_mask=REAL.long()).last_hidden_state
    torch.testing.assert_close(ours(x, View(LENGTHS, direction))[REAL], expected[REAL], rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


def test_albert_shares_its_layers() -> None:
    layer = 12 * D * D + 13 * D  # attention 4 (D² + D), inside 8 D² + 5 D, two norms 4 D

    def n_parameters(**options: int) -> int:
        encoder = HuggingFace(D, PLACES, name="albert", n_blocks=4, options=options)
        return sum(p.numel() for p in encoder.model.encoder.albert_layer_groups.parameters())

    assert n_parameters() == layer
    assert n_parameters(num_hidden_groups=2, inner_group_num=3) == 6 * layer


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sizes_reach_the_model(name: str) -> None:
    encoder = HuggingFace(D, PLACES, name=name, n_blocks=3, n_heads=4, inner_width_factor=3, dropout=0.25, attention_dropout=0.1)
    config = encoder.model.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.hidden_size) == (3, 4, D)
    assert any(3 * D in parameter.shape for parameter in encoder.parameters())
    rates = {module.p for module in encoder.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates <= {0.25, 0.1} and (0.25 in rates or not ARCHITECTURES[name].dropout)
    full = torch.randn(1, PLACES, D)
    encoder.eval()
    for direction in encoder.directions:
        assert encoder(full, View(torch.tensor([PLACES]), direction)).shape == full.shape
        with pytest.raises(ConfigError, match=f"{PLACES + 1} places came to a {name} with {PLACES}"):
            encoder(torch.randn(1, PLACES + 1, D), View(torch.tensor([PLACES + 1]), direction))


def test_longformer_sees_a_window() -> None:
    encoder = HuggingFace(D, 32, name="longformer", n_blocks=1, options={"attention_window": 8}).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(1, 20, D)
    changed = torch.cat([torch.randn(1, 1, D), x[:, 1:]], dim=1)
    a, b = (encoder(events, View(torch.tensor([20]), "both sides"))[0] for events in (x, changed))
    seen = (a - b).abs().amax(-1) > 1e-6
    assert seen.tolist() == [True] * 5 + [False] * 15


def test_a_mask_of_pairs_is_kept() -> None:
    encoder, x = HuggingFace(D, PLACES, name="bert").eval(), torch.randn(B, L, D)
    causal = torch.ones(L, L, dtype=torch.bool).tril().expand(B, L, L)
    a, b = encoder(x, View(LENGTHS, "both sides", causal)), encoder(x, View(LENGTHS, "left to right"))
    torch.testing.assert_close(a[REAL], b[REAL])
    with pytest.raises(ConfigError, match="longformer knows no mask of each pair"):
        HuggingFace(D, PLACES, name="longformer")(x, View(LENGTHS, "both sides", causal))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('HuggingFace(name="robert")', "'robert' is none of the architectures .* Did you mean roberta"),
        ('HuggingFace(name="reformer")', "none of the architectures"),
        (
            'HuggingFace(name="gpt2", causal=false)',
            "gpt2 reads left to right, and causal=false asks for both sides: use one of albert, bert",
        ),
        ('HuggingFace(name="longformer", causal=true)', "longformer reads both sides, .* use one of .*gpt2"),
        ('HuggingFace(name="bert", options={"hiden_act": "relu"})', "bert has no option 'hiden_act'. Did you mean hidden_act"),
        ('HuggingFace(name="bert", options={"hidden_size": 32})', "hidden_size of bert follows from width"),
        ('HuggingFace(name="bert", options={"is_decoder": true})', "bert has no option 'is_decoder'"),
        ('HuggingFace(name="bert", options={"classifier_dropout": 0.5})', "bert has no option 'classifier_dropout'"),
        ('HuggingFace(name="bert", options={"hidden_act": "nothing"})', "bert cannot be built with options"),
        ('HuggingFace(name="longformer", options={"attention_window": 5})', "longformer cannot be built with options"),
        ('HuggingFace(name="bert", n_heads=3)', "width 16 cannot be divided among 3 attention heads"),
    ],
)
def test_what_cannot_be_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(text, Encoder).build(width=D, n_places=PLACES)
