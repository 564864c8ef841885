"""A report opens without a network, shows what it is given and nothing that it is made to do, and is the same bytes each time."""

import doctest
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from recsys import page
from recsys.errors import StoreError
from recsys.evaluation.report import document, figures, wording
from recsys.evaluation.report.document import Cell, Document, Figure, Items, Section, Table, Text

HOSTILE = '<script>alert(1)</script> & "x" \' <img src=http://a.example/b onerror=alert(2)> |a| [b](http://c.example) $\\frac{1}$ _*`'
VOID = {"meta", "br", "img", "link", "input"}


class Page(HTMLParser):
    """Tags with their attributes, and the text between them; fails where a tag is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def drawings(name: str) -> list[str]:
    return [
        figures.tradeoffs({name: {"NDCG": 0.1, "Coverage": 0.5}, "other": {"NDCG": 0.2, "Coverage": 0.1}}, "NDCG", ["Coverage"]),
        figures.lines({name: {name: ([0, 1], [0.1, 0.2]), "other": ([0, 1], [0.3, 0.1])}}, name, [name, "other"], ticks=[name, "b"]),
        figures.differences([(name, 0.1, 0.05, 0.15), ("other", 0.0, -0.1, 0.1)], name),
    ]


def whole(text: str) -> Document:
    blocks = [Text(text), Items([text]), Table([text, "n"], [[text, Cell(text, text, True)]], caption=text)]
    blocks += [Figure(svg, text, text) for svg in drawings(text)]
    return Document(text, blocks, [Section(text, blocks)])


@pytest.fixture(scope="module")
def hostile() -> Page:
    return Page(whole(HOSTILE).html())


def test_what_comes_from_data_is_text_in_the_page(hostile: Page) -> None:
    plain = Page(whole("plain").html())
    assert {tag for tag, _ in hostile.tags} == {tag for tag, _ in plain.tags} and "script" not in {tag for tag, _ in hostile.tags}
    assert len(hostile.tags) == len(plain.tags)
    assert not [name for _, attributes in hostile.tags for name in attributes if name.startswith("on")]
    assert hostile.text.count(HOSTILE) > 10, "in the title, headings, paragraphs, lists and tables"
    alts = [attributes["aria-label"] for _, attributes in hostile.tags if attributes.get("role") == "img"]
    assert set(alts) == {HOSTILE} and len(alts) == sum(tag == "figure" for tag, _ in hostile.tags), "every drawing is told in words"


def test_nothing_is_fetched(hostile: Page) -> None:
    asked = [
        (tag, value) for tag, attributes in hostile.tags for name, value in attributes.items() if name in ("src", "href", "xlink:href")
    ]
    assert asked and all(value is not None and value.startswith("#") for _, value in asked)
    html = whole("plain").html()
    assert not re.search(r"url\((?!#)|@import|@font-face", html)
    assert "default-src 'none'" in html, "and where something slips through, the browser is told not to"
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in hostile.tags}


def test_every_reference_within_a_drawing_leads_somewhere(hostile: Page) -> None:
    ids = {attributes["id"] for _, attributes in hostile.tags if "id" in attributes}
    wanted = {str(value)[1:] for _, attributes in hostile.tags for name, value in attributes.items() if name in ("href", "xlink:href")}
    assert wanted and wanted <= ids


def test_names_in_drawings_are_whole_and_no_mathematics() -> None:
    for name in ("plain", "$x_{$", "_hidden", "<b>&"):
        for svg in drawings(name):
            texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
            assert name in {str(text).lstrip("\u200b") for text in texts}, (name, texts)


def test_a_drawing_is_the_same_bytes_each_time_and_has_no_date() -> None:
    assert drawings("name") == drawings("name")
    assert not any(re.search(r"<metadata|\d{4}-\d\d-\d\dT", svg) for svg in drawings("name"))
    assert whole(HOSTILE).html() == whole(HOSTILE).html()


def test_who_is_who_looks_the_same_in_every_drawing() -> None:
    line = ([0, 1, 2], [0.1, 0.2, 0.3])
    both, one = (figures.lines({"a": dict.fromkeys(names, line)}, "x", ["first", "second"]) for names in (["first", "second"], ["second"]))
    colours = [set(re.findall(r"stroke: (#[0-9a-f]{6})", svg)) for svg in (both, one)]
    first, second = (colour.lower() for colour in figures.COLOURS[:2])
    assert first in colours[0] and second in colours[0] & colours[1] and first not in colours[1]
    looks = {(n % len(figures.COLOURS), n % len(figures.SYMBOLS)) for n in range(20)}
    assert len(looks) == 20, "twenty models are told apart by colour and symbol"


def test_markdown_shows_the_same_text_on_lines_of_its_own() -> None:
    text = Document("T", [Text(HOSTILE)], [Section("S", [Table(["a|b"], [[Cell("x\ny", "±1")]], caption="of <b>")])]).markdown()
    assert "<" not in text and "&lt;script>" in text and "\\[b\\](http" in text and "\\|a\\|" in text
    assert "| a\\|b |\n|---|\n| x y (±1) |" in text and "of &lt;b>" in text


def test_numbers_of_the_page_and_of_the_markdown_are_one() -> None:
    table = Table(["", "value"], [["NDCG@10", Cell("0.5", "0.1 … 0.2")]])
    both = Document("T", [table], [])
    assert "| NDCG@10 | 0.5 (0.1 … 0.2) |" in both.markdown()
    text = Page(both.html()).text
    assert "0.5" in text and "0.1 … 0.2" in text


def test_the_decision_comes_to_its_place_as_text() -> None:
    decided = Page(page.with_decision(whole("plain").html(), [HOSTILE, "Second."], held=True))
    assert HOSTILE in decided.text and "Second." in decided.text and "The decision, which waits for a person" in decided.text
    assert "script" not in {tag for tag, _ in decided.tags}


def test_a_page_without_a_place_loses_no_decision() -> None:
    with pytest.raises(StoreError, match="has no place for the decision.*--rebuild"):
        page.with_decision("<h1>Tonight</h1>", ["A is published."])


@pytest.mark.parametrize("module", [document, wording, page])
def test_examples(module) -> None:
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
