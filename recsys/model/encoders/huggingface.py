"""Transformers of Hugging Face's library as encoders."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.attention import attention_share, check_attention
from recsys.model.encoders import BOTH_SIDES, EITHER, LEFT_TO_RIGHT, Direction, Encoder, View
from recsys.validation import closest

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class _Architecture:
    """What an architecture's configuration calls the sizes, and what it can do; each line of ARCHITECTURES is tested."""

    directions: frozenset[Direction] = EITHER
    takes_pairs: bool = True  # a mask of which place sees which; the others make one of which places are real
    width: tuple[str, ...] = ("hidden_size",)
    n_blocks: str = "num_hidden_layers"
    n_heads: tuple[str, ...] = ("num_attention_heads",)
    inner_width: str = "intermediate_size"
    dropout: tuple[str, ...] = ("hidden_dropout_prob",)
    attention_dropout: str = "attention_probs_dropout_prob"
    n_places: str = "max_position_embeddings"
    head_width: tuple[str, ...] = ()
    window: str = ""  # of how many places its inputs have to be a multiple
    first_place: int = 0  # rows of the position table that no place ever reads
    unused: tuple[str, ...] = ("pooler",)  # parts, besides word vectors, that no gradient would reach


_BERT = _Architecture()
_ROBERTA = _Architecture(first_place=1)
_LLAMA = _Architecture(
    LEFT_TO_RIGHT,
    n_heads=("num_attention_heads", "num_key_value_heads"),
    dropout=(),
    attention_dropout="attention_dropout",
    head_width=("head_dim",),
    unused=(),
)
ARCHITECTURES = {
    "albert": _Architecture(width=("hidden_size", "embedding_size")),
    "bert": _BERT,
    "camembert": _ROBERTA,
    "distilbert": _Architecture(
        width=("dim",),
        n_blocks="n_layers",
        n_heads=("n_heads",),
        inner_width="hidden_dim",
        dropout=("dropout",),
        attention_dropout="attention_dropout",
        unused=(),
    ),
    "electra": _Architecture(width=("hidden_size", "embedding_size"), unused=()),
    "gpt2": _Architecture(
        LEFT_TO_RIGHT,
        width=("n_embd",),
        n_blocks="n_layer",
        n_heads=("n_head",),
        inner_width="n_inner",
        dropout=("resid_pdrop", "embd_pdrop"),
        attention_dropout="attn_pdrop",
        n_places="n_positions",
        unused=(),
    ),
    "llama": _LLAMA,
    "longformer": _Architecture(
        BOTH_SIDES,
        takes_pairs=False,
        window="attention_window",
        first_place=1,
        unused=("pooler", "query_global", "key_global", "value_global"),
    ),
    "mistral": _LLAMA,
    "modernbert": _Architecture(
        BOTH_SIDES,
        takes_pairs=False,
        dropout=("mlp_dropout", "embedding_dropout"),
        attention_dropout="attention_dropout",
        unused=(),
    ),
    "qwen3": _LLAMA,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}

# Only item vectors come in: one word, one segment (a constant that is added), no special words, nothing for generating text
_FIXED: dict[str, Any] = {
    "vocab_size": 1,
    "type_vocab_size": 1,
    "pad_token_id": 0,
    **dict.fromkeys(("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id")),
    **dict.fromkeys(("use_cache", "is_decoder", "add_cross_attention", "onnx_export"), False),
}

_OF_OTHER_HEADS = ("classifier", "decoder_bias", "qa_", "seq_classif", "sparse_pred", "summary_")  # settings that nothing here reads


class HuggingFace(Encoder):
    """A transformer of the library `transformers`, with weights of its own initialisation; nothing is downloaded.

    It has positions of its own, so `positions` is NoPositions(). Sizes have one name here for all architectures; what else
    an architecture's configuration has can be set in `options`: `HuggingFace(name="albert", options={"inner_group_num": 2})`.
    GPT-2 and its kind read from left to right, Longformer and ModernBERT both sides (in windows, options attention_window
    and local_attention), BERT's family does both. Word vectors, poolers and Longformer's global attention are left out.
    """

    def __init__(
        self,
        width: int,
        n_places: int,
        *,
        name: str,
        n_blocks: PositiveInt = 2,
        n_heads: PositiveInt = 2,
        inner_width_factor: PositiveInt = 4,
        dropout: float = 0.2,
        attention_dropout: float | None = None,
        options: dict[str, Any] | None = None,
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal)
        self.architecture = architecture = _architecture(name)
        self.directions = _directions(name, architecture, causal)
        of_weights = attention_share(attention_dropout, dropout)
        check_attention(width, n_heads, of_weights)
        sizes: dict[str, Any] = {
            **dict.fromkeys(architecture.width, width),
            architecture.n_blocks: n_blocks,
            **dict.fromkeys(architecture.n_heads, n_heads),
            architecture.inner_width: inner_width_factor * width,
            **dict.fromkeys(architecture.dropout, dropout),
            architecture.attention_dropout: of_weights,
            architecture.n_places: n_places + architecture.first_place,
            **dict.fromkeys(architecture.head_width, width // n_heads),
        }
        options = dict(options or {})
        if architecture.window:
            options.setdefault(architecture.window, min(512, n_places + n_places % 2))
        self.model = _without(_model(name, sizes, options), architecture.unused)
        self.n_places, self.window = n_places, max(np.atleast_1d(options.get(architecture.window, 1)))

    def forward(self, x: Tensor, view: View) -> Tensor:
        B, L, _ = x.shape
        if L > self.n_places:
            raise ConfigError(f"{L} places came to a {self.model.config.model_type} with {self.n_places}: model.max_events is too small.")
        if not self.architecture.takes_pairs:
            return self._with_own_mask(x, view)
        mask = view.attention_mask(L)
        if mask is not None:
            mask = mask.expand(B, 1, L, L)
        elif self.architecture.directions != LEFT_TO_RIGHT:
            mask = torch.ones(L, L, dtype=torch.bool, device=x.device).tril().expand(B, 1, L, L)
        return self.model(inputs_embeds=x, attention_mask=mask).last_hidden_state

    def _with_own_mask(self, x: Tensor, view: View) -> Tensor:
        """Hidden states of an architecture that is told only which places are real, and makes windows of them."""
        if view.mask is not None:
            raise ConfigError(f"{self.model.config.model_type} knows no mask of each pair of places, which the objective asks for.")
        L = x.shape[1]
        x = functional.pad(x, (0, 0, 0, -L % self.window))
        mask = torch.arange(x.shape[1], device=x.device) < view.lengths.clamp(min=1)[:, None]
        # Padding up to the window stands at the last place: there are no positions beyond it
        places = torch.arange(x.shape[1], device=x.device).clamp(max=self.n_places - 1) + self.architecture.first_place
        positions = places.expand(len(x), -1)
        return self.model(inputs_embeds=x, attention_mask=mask.long(), position_ids=positions).last_hidden_state[:, :L]


def _architecture(name: str) -> _Architecture:
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"HuggingFace: {name!r} is none of the architectures that are tested here. {closest(name, ARCHITECTURES)} "
            "Another one fits into an encoder of your own (derive it from recsys.model.encoders.Encoder)."
        )
    return ARCHITECTURES[name]


def _directions(name: str, architecture: _Architecture, causal: bool | None) -> frozenset[Direction]:
    if causal is None:
        return architecture.directions
    asked = LEFT_TO_RIGHT if causal else BOTH_SIDES
    if not asked <= architecture.directions:
        able = [other for other, facts in ARCHITECTURES.items() if asked <= facts.directions]
        raise ConfigError(
            f"HuggingFace: {name} reads {' or '.join(architecture.directions)}, and causal={str(causal).lower()} "
            f"asks for {' or '.join(asked)}: use one of {', '.join(able)}."
        )
    return asked


def _model(name: str, sizes: dict[str, Any], options: dict[str, Any]) -> "PreTrainedModel":
    from transformers import AutoConfig, AutoModel  # takes seconds, which only those pay who use it

    known = {f.name for f in fields(type(AutoConfig.for_model(name)))}
    _check_options(name, options, known, sizes)
    chosen = {**_FIXED, **sizes, **options}
    try:
        return AutoModel.from_config(AutoConfig.for_model(name, **{field: value for field, value in chosen.items() if field in known}))
    except Exception as error:  # whatever the library makes of a value
        raise ConfigError(f"HuggingFace: {name} cannot be built with options {options}: {error}") from error


def _check_options(name: str, options: dict[str, Any], known: set[str], sizes: dict[str, Any]) -> None:
    from transformers import PreTrainedConfig

    settable = known - {f.name for f in fields(PreTrainedConfig)} - sizes.keys() - _FIXED.keys()
    settable -= {option for option in settable if option.startswith(_OF_OTHER_HEADS)}
    for option in options.keys() - settable:
        if option in sizes:
            raise ConfigError(
                f"HuggingFace: {option} of {name} follows from width and the arguments of HuggingFace(…): leave it out of options."
            )
        raise ConfigError(f"HuggingFace: {name} has no option {option!r}. {closest(option, sorted(settable))}")


def _without(model: "PreTrainedModel", unused: tuple[str, ...]) -> "PreTrainedModel":
    """The model without its word vectors and the parts of these names."""
    model.set_input_embeddings(nn.Identity())
    for module in list(model.modules()):
        for name in set(unused) & dict(module.named_children()).keys():
            setattr(module, name, None)
    return model
