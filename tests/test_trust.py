"""Artifacts and configurations from others: nothing of them is run, and no path or name in them leads elsewhere."""

import ast
import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from recsys import published, verification
from recsys.config import Data, Events, Features, Model
from recsys.errors import ConfigError, StoreError
from recsys.features import queries
from recsys.features.tables import build_features
from recsys.model import own_parts
from recsys.model.losses import Loss
from recsys.parts import parse
from recsys.recipes import resolve
from recsys.store import Artifact, Draft, Store
from recsys.windows import parse_as_of

ROOT = Path(__file__).parents[1]
NIGHT = datetime(2026, 3, 1, tzinfo=timezone.utc)

HOSTILE = """
from pathlib import Path
Path(__file__).with_suffix(".ran").touch()
from recsys.model.losses.softmax import CrossEntropy
class Harmless(CrossEntropy):
    pass
"""


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Somebody's module `hostile`, in a folder that is on the path, which leaves a file when it is run."""
    folder = tmp_path / "team"
    folder.mkdir()
    (folder / "hostile.py").write_text(HOSTILE)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    yield folder
    sys.modules.pop("hostile", None)


def ran(folder: Path) -> bool:
    return (folder / "hostile.ran").exists()


def test_a_package_that_is_not_allowed_is_not_even_imported(team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_PACKAGES", "acme, friends.losses")
    with pytest.raises(ConfigError, match="imports nothing from hostile, for RECSYS_PACKAGES is 'acme, friends.losses'"):
        parse("hostile.Harmless()", Loss, "model.loss")
    assert not ran(team)


@pytest.mark.parametrize("allowed", ["hostile", "acme,hostile", "{folder}", "acme, {folder}/.."])
def test_a_package_or_folder_that_is_allowed_is(team: Path, monkeypatch: pytest.MonkeyPatch, allowed: str) -> None:
    monkeypatch.setenv("RECSYS_PACKAGES", allowed.format(folder=team))
    assert parse("hostile.Harmless()", Loss).cls.__name__ == "Harmless"
    assert ran(team)


@pytest.mark.parametrize("allowed", ["", "host", "hostile.losses", "hostile.Harmless", "{folder}/deeper", "/"])
def test_what_only_looks_like_it_is_not(team: Path, monkeypatch: pytest.MonkeyPatch, allowed: str) -> None:
    monkeypatch.setenv("RECSYS_PACKAGES", allowed.format(folder=team))
    if allowed == "/":  # the folder of everything
        assert parse("hostile.Harmless()", Loss).cls.__name__ == "Harmless"
        return
    with pytest.raises(ConfigError, match="imports nothing from hostile"):
        parse("hostile.Harmless()", Loss)
    assert not ran(team)


def test_whatever_can_be_imported_will_do_unless_said_but_only_of_its_contract(team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_PACKAGES", raising=False)
    assert parse("hostile.Harmless()", Loss).cls.__name__ == "Harmless"
    with pytest.raises(ConfigError, match="hostile.Path is no recsys.model.losses.Loss"):
        parse("hostile.Path()", Loss)


def test_packages_of_the_contracts_need_no_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.optim import Optimizer

    monkeypatch.setenv("RECSYS_PACKAGES", "")
    assert parse("recsys.model.losses.softmax.CrossEntropy()", Loss).cls.__name__ == "CrossEntropy"
    assert parse("torch.optim.SGD(lr=0.1)", Optimizer).cls.__name__ == "SGD"
    for elsewhere in ("os.path.Loss", "torch.optim.SGD", "subprocess.Popen", "__main__.Loss"):
        with pytest.raises(ConfigError, match="imports nothing from"):
            parse(f"{elsewhere}()", Loss)


def test_folders_of_code_and_sql_need_leave(team: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on the path would also stand before modules that are imported later."""
    (tmp_path / "link").symlink_to(team)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "inside").symlink_to(team)
    monkeypatch.setenv("RECSYS_PACKAGES", f"hostile,{tmp_path / 'out'}")
    before = list(sys.path)
    for folder in (team, tmp_path / "link", tmp_path / "out" / "inside", tmp_path / "out" / ".." / "team"):
        with pytest.raises(ConfigError, match="model.code: this worker runs nothing from"):
            own_parts.put_on_path(str(folder))
        with pytest.raises(ConfigError, match="data.sql_overlay: this worker runs nothing from"):
            queries.collect(str(folder))
    assert sys.path == before
    own_parts.put_on_path(str(tmp_path / "out"))
    assert sys.path[0] == str(tmp_path / "out")


def test_a_model_from_elsewhere_runs_no_code_of_its_folder(team: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys.model import saving

    facts = {"model": {**resolve(Model(width=8, max_events=4)).versioned(), "heads": ["hostile.Harmless"]}, "code": str(team)}
    (tmp_path / "model.json").write_text(json.dumps(facts))
    monkeypatch.setenv("RECSYS_PACKAGES", "acme")
    with pytest.raises(ConfigError, match="imports nothing from hostile"):
        saving.sources(tmp_path)
    assert not ran(team) and str(team) not in sys.path[1:]


FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("file", sorted([*(ROOT / "recsys").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]), ids=lambda file: file.name)
def test_nothing_is_unpickled_or_evaluated(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert not FORBIDDEN & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in FORBIDDEN:
            assert [alias.name for alias in node.names] == ["UnpicklingError"], "to answer it, not to unpickle"
        elif isinstance(node, ast.Call):
            called, given = ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert called not in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "pd.read_pickle"), ast.unparse(node)
            assert called != "torch.load" or given.get("weights_only") == "True", ast.unparse(node)
            assert given.get("allow_pickle", "False") == "False", ast.unparse(node)
            assert not (called.endswith(".fit") and "ckpt_path" in given) or given.get("weights_only") == "True", ast.unparse(node)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    def write(draft: Draft) -> None:
        (draft.path / "table.txt").write_text("rows")

    return Store(tmp_path / "store").ensure("features", NIGHT, {}, {}, write, code="recsys.windows")


OUTSIDE = {
    "up": {"step": "../../etc"},
    "absolute": {"step": "/etc"},
    "hidden": {"step": "features/../.."},
    "version up": {"version": "../../../../etc"},
    "version more": {"version": "0123456789ab/../../x"},
    "no text": {"version": 7},
    "no step": {"step": None},
    "no moment": {"as_of": "../../2026"},
    "moment of another kind": {"as_of": ["2026-03-01"]},
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_reference_leads_nowhere_but_into_the_store(artifact: Artifact, tmp_path: Path, name: str) -> None:
    store, reference = Store(tmp_path / "store"), {**artifact.reference, **OUTSIDE[name]}
    for asked in (store.open, store.get):
        with pytest.raises(StoreError, match="is no reference to an artifact of"):
            asked(reference)


@pytest.mark.parametrize("name", OUTSIDE)
def test_neither_does_a_promotion(artifact: Artifact, tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "store")
    published.publish(store, published.promotion(NIGHT, "a configuration", "candidate", {"scoring": artifact}, ("It is the best.",)))
    assert published.finished(store, NIGHT, "a configuration") is not None
    path = store.root / "promotions.jsonl"
    line = json.loads(path.read_text())
    line["artifacts"]["scoring"] |= OUTSIDE[name]
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(StoreError, match="is no reference to an artifact of"):
        published.finished(store, NIGHT, "a configuration")


@pytest.mark.parametrize("change", [{"artifacts": ["a"]}, {"artifacts": {"scoring": 7}}, {"as_of": "never"}, {"reasons": 7}, {"more": 1}])
def test_a_line_that_is_no_promotion_is_said(artifact: Artifact, tmp_path: Path, change: dict[str, Any]) -> None:
    store = Store(tmp_path / "store")
    published.publish(store, published.promotion(NIGHT, "a configuration", "candidate", {"scoring": artifact}, ("It is the best.",)))
    path = store.root / "promotions.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | change) + "\n")
    with pytest.raises(StoreError, match="line 1 is no promotion"):
        published.history(store)


def rewritten(artifact: Artifact, change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest that somebody made to fit: its digests are right."""
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    change(manifest)
    manifest["content"] = verification.digest.of_value({name: facts["sha256"] for name, facts in manifest["files"].items()})
    (artifact.path / "manifest.json").write_text(json.dumps(verification.sealed(manifest)))


@pytest.mark.parametrize("name", ["../../../../secret.txt", "{outside}", "sub/../../../../../secret.txt"])
def test_a_manifest_lists_no_file_of_elsewhere(artifact: Artifact, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("a secret")
    facts = {"bytes": outside.stat().st_size, "sha256": verification.digest.of_file(outside)}
    rewritten(artifact, lambda manifest: manifest["files"].update({name.format(outside=outside): facts}))
    with pytest.raises(StoreError, match="which is no file of its folder"):
        Store(tmp_path / "store").find("features") and Store(tmp_path / "store").verify(Store(tmp_path / "store").find("features"))


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_is_no_part_of_an_artifact(artifact: Artifact, tmp_path: Path, folder: bool) -> None:
    """Though its bytes are those that the manifest lists, whoever writes there later changes them."""
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (artifact.path / "table.txt").rename(outside / "table.txt")
    if folder:
        (artifact.path / "deeper").symlink_to(outside)
        rewritten(artifact, lambda manifest: manifest.update(files={"deeper/table.txt": manifest["files"]["table.txt"]}))
    else:
        (artifact.path / "table.txt").symlink_to(outside / "table.txt")
    with pytest.raises(StoreError, match="is a link to somewhere else"):
        Store(tmp_path / "store").verify(artifact)


def test_a_version_that_is_a_link_leads_out_of_the_store(artifact: Artifact, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    artifact.path.rename(outside)
    artifact.path.symlink_to(outside)
    with pytest.raises(StoreError, match="leads out of the store"):
        Store(tmp_path / "store").open(artifact.reference)


@pytest.mark.parametrize("change", [{"step": "../../elsewhere"}, {"version": "0123456789ab"}, {"moment": "2026-03-02T00:00:00+00:00"}])
def test_a_manifest_of_another_place_is_passed_over(artifact: Artifact, tmp_path: Path, change: dict[str, str]) -> None:
    """Its step and version are names of folders wherever the artifact is moved or removed."""
    rewritten(artifact, lambda manifest: manifest.update(change))
    assert Store(tmp_path / "store").artifacts() == []
    with pytest.raises(StoreError, match="is not what was written .it is that of"):
        verification.read_manifest(artifact.path)


EVIL = 'x"; drop table clicks; --'


def test_names_are_quoted_and_values_are_bound(tmp_path: Path) -> None:
    """Columns, folders and files may be called whatever somebody likes."""
    folder = tmp_path / "it's; select 1 --"
    folder.mkdir()
    quoted = EVIL.replace('"', '""')
    with duckdb.connect() as connection:
        connection.execute(f"""create table clicks as
            select 'u'' or 1=1 --' as "{quoted}", i as item_id, timestamp '2026-02-28' + to_hours(i)
            as "time'); drop table clicks; --", 'a''); drop' as "group by" from range(9) t (i)""")
        connection.table("clicks").write_parquet(str(folder / "a'b.parquet"))
    events = Events(path=str(folder / "a'b.parquet"), user=EVIL, time="time'); drop table clicks; --", categorical=("group by",))
    quiet = Features(min_day_volume=0, n_shards=1)
    made = build_features(Store(tmp_path / "store"), parse_as_of("2026-03-01"), Data(events=events), quiet)
    found = duckdb.read_parquet(str(made.path / "events.parquet")).select('user_id, "group by"').distinct().fetchall()
    assert found == [("u' or 1=1 --", "a'); drop")] and made.counts["events"] == 9
