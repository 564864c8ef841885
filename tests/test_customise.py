"""docs/customise.md: its code runs top to bottom as one program, and its tables name what there is."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys import fit, recipes
from recsys.histories import Histories
from recsys.model import properties
from recsys.slots import choices

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "customise.md").read_text()


def test_its_code_runs(tmp_path: Path) -> None:
    """About a minute: each piece trains a small model or two."""
    program = tmp_path / "customise.py"
    program.write_text("\n".join(re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "LSTM reads left to right; MaskedLM needs both sides." in done.stdout
    assert "'Repeated': n_times=" in done.stdout and "is no JSON value" in done.stdout


def test_its_label_is_computed(tmp_path: Path) -> None:
    """Its SQL, as an overlay's file: six events on the first day of every user, two on the second."""
    (text,) = re.findall(r"^```sql\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "busy_day.sql").write_text(text)
    n = 8 * 40
    hour = np.tile([1, 2, 3, 4, 5, 6, 30, 31], 40)
    events = pa.table(
        {
            "user_id": np.repeat(np.arange(40), 8),
            "item_id": np.random.default_rng(0).integers(0, 12, n),
            "at": np.datetime64("2026-03-01", "us") + hour.astype("timedelta64[h]"),
        }
    )
    data = {"sql_overlay": str(tmp_path), "events": {"label": ["busy_day"]}}
    heads = ["NextItem()", 'Binary(label="busy_day", of="event")']
    model = fit("sasrec", events, data=data, width=8, max_events=8, max_epochs=1, heads=heads, as_of="2026-03-04")
    histories = Histories.load(model.past.sequences.path)
    assert histories.columns["busy_day"].reshape(40, 8).tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]] * 40


def rows() -> list[tuple[str, set[str]]]:
    """Contract and members of each row of the table of what can be replaced, where it names members of ours."""
    cells = re.findall(r"^\| [^|]+ \| [^|]+ \| `(recsys\.[\w.]+)` \| ([\w, ]+) \|$", TEXT, flags=re.MULTILINE)
    return [(contract, set(members.split(", "))) for contract, members in cells]


@pytest.mark.parametrize(("contract", "members"), rows(), ids=[contract for contract, _ in rows()])
def test_the_table_of_parts_names_every_member(contract: str, members: set[str]) -> None:
    module, _, name = contract.rpartition(".")
    assert set(choices(getattr(importlib.import_module(module), name))) == members


def test_the_table_has_a_row_for_every_slot() -> None:
    assert len(rows()) >= 20
    missing = {f"{slot.__module__}.{slot.__name__}" for slot in properties.slots()} - {contract for contract, _ in rows()}
    assert not missing


def test_recipes_that_it_names_are_there() -> None:
    named = set(re.findall(r'fit\("(\w+)"', TEXT)) | set(re.findall(r'recipe="(\w+)"', TEXT))
    assert len(named) >= 5 and named <= set(recipes.names())


def test_its_comparison_is_the_deployed_one_and_its_picture_shows_everybody() -> None:
    from flows import deployments
    from flows.contenders import name_of

    _, _, table = TEXT.partition("| model | HitRate |")
    compared = re.findall(r"^\| (\w+) \| [\d.]+ \|", table.partition("![")[0], flags=re.MULTILINE)
    deployed = deployments.deployed("seven-models", "backtest")["backtest"]["models"]
    assert compared == [name_of(text) for text in deployed]
    picture = (ROOT / "docs" / "pictures" / "seven-models.svg").read_text()
    assert all(f">{name}<" in picture for name in compared)
