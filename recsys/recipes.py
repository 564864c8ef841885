"""Named models: functions that give a whole model configuration, with published settings and their source.

`model.recipe` names one; every other field that is given in the `model` group replaces the recipe's. Text only: nothing
is built or imported here, so that a configuration can be shown at once.

>>> resolve(Model(recipe="sasrec", width=64)).encoder
'SASRec(n_blocks=2, n_heads=4, dropout=0.2)'
"""

import difflib
import inspect
import sys
from collections.abc import Callable

from recsys.config import Model
from recsys.errors import ConfigError


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
    return sasrec().model_copy(update={"recipe": "sasrec_preln", "encoder": "PreLN(n_blocks=2, n_heads=4, dropout=0.2)"})


def resolve(model: Model) -> Model:
    """The configuration with the recipe's settings for all that it does not give. Only `heads` is used for losses then."""
    given = model.model_dump(exclude_none=True)
    if "loss" in given:
        given["heads"] = (f"NextItem(loss={given.pop('loss')})",)
    return Model(**{**_recipe(model.recipe)().model_dump(exclude_none=True), **given})


def names() -> list[str]:
    """Names of all recipes."""
    return sorted(_recipes())


def _recipes() -> dict[str, Callable[[], Model]]:
    functions = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    return {name: f for name, f in functions if not name.startswith("_") and f.__annotations__ == {"return": Model}}


def _recipe(name: str) -> Callable[[], Model]:
    known = _recipes()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise ConfigError(
            f"model.recipe: there is no recipe {name!r}. Did you mean {' or '.join(close)}?"
            if close
            else f"model.recipe: there is no recipe {name!r}. There are: {', '.join(names())}."
        )
    return known[name]
