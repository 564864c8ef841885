"""Accuracy against what it is often paid with."""

from collections.abc import Mapping

from recsys.evaluation.report import figures
from recsys.evaluation.report.document import Figure, Section, Text
from recsys.evaluation.report.wording import named

AGAINST = ("CatalogCoverage", "MeanInvUserFreq", "Serendipity", "AvgRecPopularity", "IntraListDiversity")

Key = tuple[str, int]  # a metric and its k


def tradeoffs(values: Mapping[str, Mapping[Key, float]], units: Mapping[str, str]) -> list[Section]:
    """A section with a symbol per name of `values`; none where nothing but accuracy was measured, at the first k."""
    measured = list(next(iter(values.values())))
    first = measured[0]
    others = [key for key in measured[1:] if key[1] == first[1] and key[0].partition("(")[0] in AGAINST]
    if not others:
        return []
    labels = {key: named(*key, units) for key in (first, *others)}
    points = {name: {label: of[key] for key, label in labels.items()} for name, of in values.items()}
    shown = [labels[key] for key in others]
    best = max(points, key=lambda name: points[name][labels[first]])
    alt = f"{labels[first]} of {', '.join(points)} against {', '.join(shown)}. The highest {labels[first]} is that of {best}."
    told = "Upwards is better. To the right is more of the other: what is wanted there, the shop has to know."
    return [Section("Trade-offs", (Text(told), Figure(figures.tradeoffs(points, labels[first], shown), alt)))]
