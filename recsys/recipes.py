"""Named models: functions that give a whole model configuration, with published settings and their source.

`model.recipe` names one; every other field that is given in the `model` group replaces the recipe's. Text only: nothing
is built or imported here, so that a configuration can be shown at once.

>>> resolve(Model(recipe="sasrec", width=64)).encoder
'SASRec(n_blocks=2, n_heads=4, dropout=0.2)'
"""

import ast
import inspect
import sys
from collections.abc import Callable

from recsys.config import Model
from recsys.errors import ConfigError
from recsys.grammar import call
from recsys.validation import closest


def sasrec() -> Model:
    """SASRec (Kang & McAuley 2018, arXiv:1808.09781) with full cross-entropy instead of one negative.

    The loss: Klenitskiy & Vasilev 2023, arXiv:2309.07602. The sizes are those of RecTools' SASRecModel.
    """
    return Model(
        recipe="sasrec",
        width=256,
        max_events=100,
        inputs="Inputs()",
        items="IdEmbedding()",
        positions="Learned()",
        objective="CausalLM()",
        encoder="SASRec(n_blocks=2, n_heads=4, dropout=0.2)",
        heads=("NextItem(loss=CrossEntropy())",),
    )


def sasrec_preln() -> Model:
    """SASRec's objective over pre-norm blocks with GELU and a wide inner layer, as in GPT-2: trains deeper stacks."""
    return _like(sasrec(), recipe="sasrec_preln", encoder=_PRELN)


def gsasrec() -> Model:
    """gSASRec (Petrov & Macdonald 2023, arXiv:2308.07192): generalised cross-entropy against negatives, for large catalogues.

    The settings are those of its authors for ML-1M (asash/gSASRec-pytorch, config_ml1m.py), with negatives that some predictions share.
    """
    return _like(
        sasrec(),
        recipe="gsasrec",
        max_events=200,
        encoder="SASRec(n_blocks=3, n_heads=1, dropout=0.1)",
        heads=("NextItem(loss=GBCE(n_negatives=256, t=0.75))",),
    )


def esasrec() -> Model:
    """eSASRec (Tikhonovich et al. 2025, arXiv:2508.06450): LiGR's gated blocks and sampled softmax. Its settings for KION."""
    return _like(
        sasrec(),
        recipe="esasrec",
        max_events=50,
        encoder="LiGR(n_blocks=2, n_heads=2, dropout=0.1)",
        heads=("NextItem(loss=SampledSoftmax(n_negatives=256))",),
    )


def news() -> Model:
    """HSTU for what lives for hours: how much happened with an item lately speaks first, and ids refine it.

    A prior learned on the activity of the items is the forecast of the day, as no vector of an article of tonight is trained yet. Ids
    are compared by cosine without a temperature: they move a logit by 1 at most, and the forecast by no more. Negatives are the
    targets of others in the batch, corrected for how often they are drawn: most items of the catalogue are over. HSTU's units know how
    long ago each event was when a list is made. What each of these brings is measured in benchmarks/results.md.
    """
    return _like(
        esasrec(),
        recipe="news",
        encoder="HSTU(n_blocks=2, n_heads=1, dropout=0.2)",
        heads=("NextItem(loss=SampledSoftmax(n_negatives=256, negatives=InBatch(), log_q=true), similarity=Cosine(), prior=Activity())",),
    )


def hstu() -> Model:
    """HSTU (Zhai et al. 2024, arXiv:2402.17152): pointwise attention that knows when the next event happens.

    The settings are those of RecTools' tutorial for ML-1M: cosine similarity needs its low temperature.
    """
    return _like(
        sasrec(),
        recipe="hstu",
        width=50,
        max_events=200,
        encoder="HSTU(n_blocks=2, n_heads=1, dropout=0.2)",
        heads=("NextItem(loss=SampledSoftmax(n_negatives=128, temperature=0.05), similarity=Cosine())",),
    )


def bert4rec() -> Model:
    """BERT4Rec (Sun et al. 2019, arXiv:1904.06690) with full cross-entropy. The sizes are those of RecTools' BERT4RecModel."""
    return _like(
        sasrec(),
        recipe="bert4rec",
        positions="LearnedInverse()",
        objective="MaskedLM(probability=0.15)",
        encoder=_PRELN,
    )


def next_action() -> Model:
    """PinnerFormer's next action (Pancha et al. 2022, arXiv:2205.04507) over BERT4Rec's network, read from both sides.

    As in the customisation guide of RecTools, which names it NextActionTransformer.
    """
    return _like(bert4rec(), recipe="next_action", objective="NextAction()")


def next_action_causal() -> Model:
    """The same, read from left to right."""
    return _like(next_action(), recipe="next_action_causal", encoder=_causal(_PRELN))


def albert() -> Model:
    """BERT4Rec with both techniques of ALBERT (Lan et al. 2019, arXiv:1909.11942): factorised items, shared layers.

    Sizes as in the customisation guide of RecTools; each of two groups of layers has two of its own.
    """
    return _like(bert4rec(), recipe="albert", items=_FACTORISED, encoder=_ALBERT)


def alsasrec() -> Model:
    """SASRec's objective with both techniques of ALBERT."""
    return _like(sasrec(), recipe="alsasrec", items=_FACTORISED, encoder=_ALBERT)


def sasrec_albert_layers() -> Model:
    """SASRec's objective over ALBERT's shared layers, with whole item vectors."""
    return _like(sasrec(), recipe="sasrec_albert_layers", encoder=_ALBERT)


def next_action_albert_causal() -> Model:
    """Next action from left to right with both techniques of ALBERT: everything of the customisation guide at once."""
    return _like(next_action(), recipe="next_action_albert_causal", items=_FACTORISED, encoder=_causal(_ALBERT))


def xlnet_clm() -> Model:
    """XLNet reading from left to right. Settings of the Transformers4Rec paper for REES46 (2021, appendix C), as all xlnet_*."""
    return _like(
        _session(),
        recipe="xlnet_clm",
        width=320,
        objective="CausalLM()",
        encoder="XLNet(n_blocks=1, n_heads=1, dropout=0.3)",
        heads=_smoothed(0.1),
    )


def xlnet_mlm() -> Model:
    """XLNet with masked events, the second best of the Transformers4Rec paper without side information."""
    return _like(
        _session(),
        recipe="xlnet_mlm",
        width=192,
        objective="MaskedLM(probability=0.3)",
        encoder="XLNet(n_blocks=3, n_heads=16, dropout=0.0)",
    )


def xlnet_plm() -> Model:
    """XLNet with its own objective, permutations, in two streams."""
    return _like(
        _session(),
        recipe="xlnet_plm",
        width=384,
        objective="PermutationLM(probability=0.5, max_span=3)",
        encoder="XLNet(n_blocks=4, n_heads=16, dropout=0.0)",
        heads=_smoothed(0.7),
    )


def xlnet_rtd() -> Model:
    """XLNet that tells replaced events from real ones, the best of the Transformers4Rec paper."""
    return _like(
        _session(),
        recipe="xlnet_rtd",
        width=384,
        objective="ReplacedTokenDetection(probability=0.5, weight=1.0)",
        encoder="XLNet(n_blocks=3, n_heads=16, dropout=0.0)",
        heads=_smoothed(0.2),
    )


def gpt2() -> Model:
    """GPT-2 of Hugging Face, with the settings of the Transformers4Rec paper for REES46 (2021, appendix C)."""
    return _like(
        _session(),
        recipe="gpt2",
        width=128,
        encoder='HuggingFace(name="gpt2", n_blocks=1, n_heads=1, dropout=0.2)',
        heads=_smoothed(0.9),
    )


def gru4rec() -> Model:
    """GRU4Rec (Hidasi et al. 2016, arXiv:1511.06939; Hidasi & Karatzoglou 2018, arXiv:1706.03847), item vectors tied.

    Cross-entropy against popular negatives, corrected by logQ: its authors' best settings for Yoochoose
    (hidasib/GRU4Rec_PyTorch_Official, yoochoose_xe_shared_best.py).
    """
    return _like(
        sasrec(),
        recipe="gru4rec",
        width=480,
        positions="NoPositions()",
        encoder="GRU(n_layers=1, dropout=0.2)",
        heads=("NextItem(loss=SampledSoftmax(n_negatives=2048, negatives=Popularity(exponent=0.2), log_q=true))",),
    )


_PRELN = "PreLN(n_blocks=2, n_heads=4, dropout=0.2)"
_ALBERT = "Albert(n_blocks=2, n_hidden_groups=2, n_inner_groups=2, n_heads=4, dropout=0.2)"
_FACTORISED = "Factorised(inner=IdEmbedding(), inner_width=64)"


def _like(model: Model, **fields: object) -> Model:
    return model.model_copy(update=fields)


def _causal(encoder: str) -> str:
    return encoder.removesuffix(")") + ", causal=true)"


def _smoothed(label_smoothing: float) -> tuple[str, ...]:
    return (f"NextItem(loss=CrossEntropy(label_smoothing={label_smoothing}))",)


def _session() -> Model:
    """What the models of the Transformers4Rec paper share: short sessions, and encoders that know the order by themselves."""
    return _like(sasrec(), max_events=20, positions="NoPositions()")


def resolve(model: Model) -> Model:
    """The configuration with the recipe's settings for all that it does not give. Only `heads` is used for losses then: a loss
    that is given takes the place of the one in the recipe's head, whose similarity, bias and tying stay."""
    given = model.model_dump(exclude_none=True)
    recipe = _recipe(model.recipe)()
    if "loss" in given:
        given["heads"] = tuple(_with_loss(head, given["loss"]) for head in recipe.heads or ())
        del given["loss"]
    return Model(**{**recipe.model_dump(exclude_none=True), **given})


def _with_loss(head: str, loss: str) -> str:
    node = call(head)
    node.keywords = [ast.keyword("loss", call(loss)), *(keyword for keyword in node.keywords if keyword.arg != "loss")]
    return ast.unparse(node)


def names() -> list[str]:
    """Names of all recipes."""
    return sorted(_recipes())


def _recipes() -> dict[str, Callable[[], Model]]:
    functions = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    return {name: f for name, f in functions if not name.startswith("_") and f.__annotations__ == {"return": Model}}


def _recipe(name: str) -> Callable[[], Model]:
    known = _recipes()
    if name not in known:
        raise ConfigError(f"model.recipe: there is no recipe {name!r}. {closest(name, names())}")
    return known[name]
