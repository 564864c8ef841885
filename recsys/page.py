"""The page of an evaluation, and the place in it for what is decided afterwards."""

import re
from collections.abc import Sequence
from html import escape

from recsys.errors import StoreError

PLACE_OF_DECISION = "<!-- what the gate decides goes here -->"


def with_decision(page: str, reasons: Sequence[str], held: bool = False, trial: bool = False) -> str:
    """The page with the decision at its place. StoreError where the page has none: no decision gets lost.

    >>> with_decision(f"<h1>Tonight</h1>{PLACE_OF_DECISION}", ["A < B: `publish` it."])
    '<h1>Tonight</h1><aside class="decision"><p><strong>The decision</strong></p><p>A &lt; B: <code>publish</code> it.</p></aside>'
    """
    if PLACE_OF_DECISION not in page:
        raise StoreError(
            f"The evaluation's page has no place for the decision, {PLACE_OF_DECISION!r}. Make the evaluation again, with --rebuild."
        )
    title = "The decision, which waits for a person" if held else "The decision"
    if trial:
        title = "Nothing was published. In a night this would be the decision"
    paragraphs = [re.sub("`(.+?)`", r"<code>\1</code>", escape(reason)) for reason in reasons]
    sentences = "".join(f"<p>{reason}</p>" for reason in paragraphs)
    return page.replace(PLACE_OF_DECISION, f'<aside class="decision"><p><strong>{title}</strong></p>{sentences}</aside>')
