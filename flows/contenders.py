"""Who takes part in a backtest: texts become whole configurations, each as `--set` would change the one of the run."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import deployments
from flows.checks import check
from recsys import grammar, recipes
from recsys.config import Backtest, Model, Night, Training
from recsys.contenders import BASELINES
from recsys.errors import ConfigError
from recsys.evaluation.folds import check_lately
from recsys.store import Store
from recsys.validation import closest, validated
from recsys.windows import Fold, duration


@dataclass(frozen=True)
class Contender:
    """A model, by the night that would train it; or a popularity baseline, counted in its `window` where one is given."""

    name: str
    night: Night | None
    baseline: str = ""
    window: str | None = None


def checked(asked: Backtest, night: Night, plan: Sequence[Fold], store: Store) -> list[Contender]:
    """Who takes part. ConfigError where one of them, or all together, are known not to work, before any data is read."""
    found = contenders(asked, night)
    names = [one.name for one in found]
    for one in found:
        check(one.night or night, store, names)
        if one.baseline == "popular_lately":
            check_lately(plan[0])
    if asked.continuing and plan[0].learn.drawn is not None:
        raise ConfigError("backtest.continuing: of random folds each would begin with a model that has learnt what it is asked for.")
    return found


def contenders(asked: Backtest, night: Night) -> list[Contender]:
    """Those of `models` in order, then the references that are not among them. ConfigError where two have one name."""
    found = [contender(text, night, asked.continuing) for text in asked.models]
    there = {one.name: text for one, text in zip(found, asked.models, strict=True)}
    for text in dict.fromkeys(asked.references):
        name = name_of(text)
        if name not in there:
            found.append(contender(text, night, asked.continuing))
        elif text not in (name, there[name]):
            raise ConfigError(
                f"backtest.references: {name!r} is another one of backtest.models, {there[name]!r}. Give the reference another name."
            )
    names = [one.name for one in found]
    for one in found:
        if names.count(one.name) > 1:
            raise ConfigError(f"backtest.models: two are called {one.name!r}. Give one another name, as in 'other={one.name}'.")
    return found


def name_of(text: str) -> str:
    """What tables call the contender: its name where one is given (`short=sasrec(max_events=10)`), else the text, or of a file its stem."""
    name, rest = _named(text)
    return name or (Path(rest).stem if _is_file(rest) else rest)


def contender(text: str, night: Night, continuing: bool = False) -> Contender:
    """The contender of a text; `night` is the configuration that it changes. ConfigError says what was meant perhaps."""
    name, rest = name_of(text), _named(text)[1]
    if _is_file(rest):
        return Contender(name, _with(night, continuing, **_groups(Path(rest))))
    node = grammar.call(rest)
    called = grammar.dotted(node.func, rest)
    settings = {str(keyword.arg): _value(keyword.value, rest) for keyword in node.keywords}
    if called in BASELINES:
        return _baseline(name, called, settings)
    if called != "candidate":
        settings["recipe"] = called
        if called not in recipes.names():
            raise ConfigError(
                f"backtest.models: there is no model {called!r}. {closest(called, ['candidate', *BASELINES, *recipes.names()])}"
            )
    for setting in settings:
        if setting not in Model.model_fields and setting not in Training.model_fields:
            known = [*Model.model_fields, *Training.model_fields]
            raise ConfigError(f"backtest.models, {text!r}: {setting} is no setting of a model or its training. {closest(setting, known)}")
    model = {field: value for field, value in settings.items() if field in Model.model_fields}
    training = {field: value for field, value in settings.items() if field in Training.model_fields}
    return Contender(name, _with(night, continuing, model=model, training=training))


def _named(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"([\w-]+)\s*=\s*(.+)", text.strip(), flags=re.DOTALL)
    return (found[1], found[2]) if found else ("", text.strip())


def _is_file(text: str) -> bool:
    return text.endswith((".yaml", ".yml"))


def _groups(file: Path) -> dict[str, Any]:
    """What a file says of model and training. What else a night is made of, all contenders share."""
    given = deployments.read(file)
    if not {"model", "training"} & set(given):
        raise ConfigError(f"backtest.models: {file} has neither the group model nor training, so it is no contender.")
    return {name: given[name] or {} for name in ("model", "training") if name in given}


def _with(night: Night, continuing: bool, **groups: dict[str, Any]) -> Night:
    changed = {name: {**getattr(night, name).model_dump(exclude_unset=True), **given} for name, given in groups.items()}
    new = validated(Night, {**dict(night), **changed})
    if new.training.warm_start and not continuing:
        raise ConfigError(
            "training.warm_start: a backtest has no current model to start from. With backtest.continuing, each fold starts from the "
            "model of the fold before; else set training.warm_start to false."
        )
    return new.model_copy(update={"training": new.training.model_copy(update={"warm_start": continuing})})


def _baseline(name: str, called: str, settings: dict[str, Any]) -> Contender:
    allowed = {"window"} if called == "popular_lately" else set[str]()
    for setting in set(settings) - allowed:
        there = 'It takes a window, as popular_lately(window="6h").' if allowed else "It takes none."
        raise ConfigError(f"backtest.models: {called} has no setting {setting!r}. {there}")
    window = settings.get("window")
    if window is not None:
        duration(str(window))
    return Contender(name, None, called, window)


def _value(node: ast.expr, text: str) -> Any:
    """A building block as its text, a list of such, or a JSON value."""
    if isinstance(node, ast.Call | ast.Attribute) or (isinstance(node, ast.Name) and node.id not in grammar.JSON_NAMES):
        return ast.unparse(node)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element, text) for element in node.elts]
    return grammar.literal(node, text)
