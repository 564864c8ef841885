"""The pages of a night, an experiment and a backtest in a real browser that reaches no network: they ask for nothing and nothing fails."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from flows.backtest import backtest
from flows.experiment import experiment
from flows.nightly import nightly
from recsys.config import Backtest, Data, Evaluation, Model, Promotion, Shop, Training
from recsys.promotion.policy import Decision
from recsys.store import Store

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here"),
]

NIGHT = datetime(2025, 6, 2, tzinfo=timezone.utc)
SMALL: dict[str, Any] = {
    "data": Data(demo=Shop(n_users=150, n_items=50)),
    "model": Model(width=16, max_events=10),
    "training": Training(max_epochs=2, learning_rate=0.01, users_per_batch=32, n_validation_users=50),
}


@dataclass(frozen=True)
class Opened:
    """What a browser made of a page: its document as it stands in the end, whom it asked, and what its console says."""

    html: str
    asked: list[str]
    said: list[str]


def opened(page: Path, folder: Path) -> Opened:
    """The page in a new browser whose names lead nowhere. What the browser asks for itself has no origin, and is not the page's."""
    assert BROWSER is not None
    log = folder / "requests.json"
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-gpu", "--disable-sync")
    command = [BROWSER, "--headless", "--no-sandbox", "--no-first-run", *quiet]
    command += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={log}"]
    command += ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    requests = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = [request["url"] for request in requests if request.get("initiator", "not an origin") != "not an origin"]
    return Opened(done.stdout, asked, re.findall(r"CONSOLE.*", done.stderr))


def test_what_a_page_asks_for_or_complains_of_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<img src="http://pictures.example/a.png"><script>console.error("broken"); nobody()</script>')
    found = opened(page, tmp_path)
    assert found.asked == ["http://pictures.example/a.png"]
    assert any("broken" in line for line in found.said) and any("nobody is not defined" in line for line in found.said)


GATE: dict[str, Any] = {
    "evaluation": Evaluation(n_bootstrap=100, slices=("country",)),
    "promotion": Promotion(min_users=1, min_lift=-1.0, min_refit_overlap=0.0),
}


@pytest.fixture(scope="module")
def shop(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one published night."""
    folder = tmp_path_factory.mktemp("pages") / "shop"
    nightly(as_of=NIGHT, store=str(folder), return_state=True, **SMALL, **GATE).result()  # type: ignore[call-overload]
    return Store(folder)


def test_the_page_of_a_night(shop: Store, tmp_path: Path) -> None:
    gate = shop.find("promotion", NIGHT)
    found = opened(gate.path / "report.html", tmp_path)
    assert (found.asked, found.said) == ([], [])
    shown = unescape(found.html)
    assert all(reason in shown for reason in Decision.load(gate).reasons) and "users with country" in shown
    assert found.html.count("<svg") == 4 and json.loads((gate.path / "decision.json").read_text())["published"] == "candidate"


def test_the_page_of_an_experiment(shop: Store, tmp_path: Path) -> None:
    """Beside the published model, with what the gate would say."""
    variant = {**SMALL, "model": Model(width=16, max_events=10, loss="CrossEntropy(label_smoothing=0.1)")}
    gate = experiment(as_of=NIGHT, store=str(shop.root), return_state=True, **variant, **GATE).result()  # type: ignore[call-overload]
    found = opened(gate.path / "report.html", tmp_path)
    assert (found.asked, found.said) == ([], [])
    shown = unescape(found.html)
    assert "Nothing was published. In a night this would be the decision" in shown
    assert all(reason in shown for reason in Decision.load(gate).reasons) and "the current model's" in Decision.load(gate).reasons[0]
    for title in ("All test users", "Trade-offs", "Beside what is popular", "Slices", "Popularity", "Training", "Some users"):
        assert f"<h2>{title}" in found.html
    assert "gets from the current model" in shown and "the candidate less popular-lately" in shown
    assert found.html.count("<svg") == 4


def test_the_page_of_a_backtest(tmp_path: Path) -> None:
    asked = Backtest(models=("popular", "popular_lately", "sasrec"), n_folds=2, cold_users=True)
    measured = Evaluation(k=(10,), n_bootstrap=100, metrics=("NDCG", "CatalogCoverage"))
    made = backtest(as_of=NIGHT, store=str(tmp_path / "shop"), backtest=asked, evaluation=measured, return_state=True, **SMALL).result()  # type: ignore[call-overload]
    found = opened(made.path / "report.html", tmp_path)
    assert (found.asked, found.said) == ([], [])
    assert found.html.count("<svg") == 4 and "users with no event" in found.html
