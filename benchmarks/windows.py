"""Sessions of a news portal, hour by hour, by the protocol of Transformers4Rec (Moreira et al. 2021, RecSys, section 5).

    python -m benchmarks.windows --data data --folder windows                                  24 windows
    python -m benchmarks.windows --data data --folder windows --n-windows 380                   all
    python -m benchmarks.windows --data data --folder windows --first 2017-10-01T04 --n-windows 40   the first 40 of all
    python -m benchmarks.windows --data data --folder windows --models popular_6h sasrec        these; the results keep the others

A session counts in the hour in which it started. A model trains on the sessions of an hour, begins with what it learnt in the hour
before, and is asked for the last click of each session of the next hour, among all articles. Repeats of an article in a session and
sessions of one click are left out; of long ones the first 20 clicks count. A run that was stopped, as by `timeout 590`, goes on with the
same command, in a training after its last epoch; with `--so-far` added to it, it tells the windows that all models have finished.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from datetime import date, datetime, timedelta
from itertools import product, takewhile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks import report, vsknn
from benchmarks.sides import machine
from flows import deployments
from flows.contenders import contenders
from recsys.config import Backtest
from recsys.model.blocks import Blocks
from recsys.recipes import resolve
from recsys.store import Store

RESULTS = Path(__file__).parent / "results"
TITLE = "Sessions hour by hour: the protocol of Transformers4Rec on globo"
K = 20
SEED = 1
MAX_CLICKS = 20
FIRST = datetime(2017, 10, 10)  # the first window that is asked for: nine days of sessions lie before
ALL_FROM, ALL = datetime(2017, 10, 1, 4), 380  # the paper's windows: the events begin an hour earlier
PROTOCOL = ("first", "n_windows", "n_asked", "epochs")  # what rows of one table have in common
BEFORE = timedelta(days=1)  # what neighbours and popularity may look back on
SESSION = ("region", "country", "environment", "device_group", "os")
CONTEXT = [*SESSION, "hour", "weekday", "item_age_seconds"]  # as the paper has
NUMBERS = "[SoftOneHot(columns=['item_age_seconds'])]"
MODELS = {
    "popular_6h": 'popular_lately(window="6h")',
    "sasrec": "sasrec(width=128, max_events=20)",
    "xlnet_mlm": "xlnet_mlm()",
    "xlnet_rtd": "xlnet_rtd()",
    "xlnet_mlm_features": f"xlnet_mlm(inputs=Inputs(features={CONTEXT}))",
    "xlnet_mlm_soft_one_hot": f"xlnet_mlm(inputs=Inputs(features={CONTEXT}, embeddings={NUMBERS}))",
}
PUBLISHED = {  # mean over all 380 windows, of the paper: NDCG@20, HR@20
    "vsknn": (0.3511, 0.6601),
    "xlnet_mlm": (0.3607, 0.6605),
    "xlnet_rtd": (0.3609, 0.6611),
    "xlnet_mlm_features": (0.3652, 0.6714),
    "xlnet_mlm_soft_one_hot": (0.3675, 0.6721),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with globo/")
    parser.add_argument("--folder", type=Path, required=True, help="for the store and for what was measured")
    parser.add_argument("--n-windows", type=int, default=24, help=f"from {FIRST:%Y-%m-%d %H:%M} on; {ALL}: all of the paper's")
    parser.add_argument("--first", type=datetime.fromisoformat, help=f"window; all begin with {ALL_FROM:%Y-%m-%dT%H}")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--epochs", type=int, default=5, help="in each hour")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--so-far", action="store_true", help="train nothing: tell what the same command has finished before it was stopped"
    )
    given = parser.parse_args()
    first = given.first or (ALL_FROM if given.n_windows == ALL else FIRST)
    begun = f"{first:%m-%dT%H}"
    end = first + given.n_windows * timedelta(hours=1)
    given.folder.mkdir(parents=True, exist_ok=True)
    sessions = write_sessions(given.data, given.folder / f"sessions-{begun}-{given.n_windows}.parquet", first - BEFORE, end)
    found = so_far(sessions, given, end) if given.so_far else backtest(sessions, given, end)
    n_windows = min(map(len, found.values()))
    protocol = dict(zip(PROTOCOL, (first.isoformat(), n_windows, given.n_windows, given.epochs), strict=True))
    about = {**protocol, "measured_on": f"{date.today()}", **machine(), "threads": given.threads}
    found["vsknn"] = neighbours(sessions, first, n_windows, given.folder / f"vsknn-{begun}.json")
    rows = joined([{**about, "model": name, **window} for name, windows in found.items() for window in windows])
    print(section(rows))
    if set(MODELS) <= {row["model"] for row in rows}:
        RESULTS.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), RESULTS / "windows.parquet")
        report.put(RESULTS.with_name("results.md"), TITLE, section(rows))


def joined(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the rows of the results that are of other models, and of the same windows and epochs; in the order of the models."""
    file = RESULTS / "windows.parquet"
    earlier = pq.read_table(file).to_pylist() if file.exists() else []
    ours = {row["model"] for row in measured}
    alike = [row for row in earlier if row["model"] not in ours and all(row[of] == measured[0][of] for of in PROTOCOL)]
    order = [*MODELS, "vsknn"]
    return sorted([*alike, *measured], key=lambda row: order.index(row["model"]))


def write_sessions(data: Path, file: Path, begin: datetime, end: datetime) -> Path:
    """A row per click that counts: its session, article, place from 1, and when: all clicks of a session are of its first hour."""
    if not file.exists():
        duckdb.sql(f"""
            with clicks as (
                select * from read_parquet('{data}/globo/events/*/*.parquet')
                where session_started_at >= '{begin}' and session_started_at < '{end}'
                qualify row_number() over (partition by session_id, item_id order by clicked_at) = 1
            ),
            placed as (
                select *, row_number() over (partition by session_id order by clicked_at, item_id) as place,
                    count(*) over (partition by session_id) as n_clicks
                from clicks
            )
            select session_id, item_id, place, session_started_at::timestamp as started_at,
                session_started_at::timestamp + to_microseconds(place) as clicked_at,
                region, country, environment, device_group, os
            from placed where n_clicks > 1 and place <= {MAX_CLICKS}
            order by started_at, session_id, place
        """).write_parquet(f"{file}.part")
        Path(f"{file}.part").replace(file)
    return file


def backtest(sessions: Path, given: argparse.Namespace, end: datetime) -> dict[str, list[dict[str, Any]]]:
    """The models' results, window by window, from a backtest as a process of its own."""
    settings = given.folder / "backtest.yaml"
    settings.write_text(yaml.safe_dump(configuration(given.models, given.n_windows, given.epochs)))
    command: list[str | Path] = [Path(sys.executable).with_name("recsys"), "backtest", "--config", settings, "--csv", given.folder]
    command += ["--store", given.folder / "store", "--as-of", end.isoformat(), "--set", f"training.threads={given.threads}"]
    places = {"SESSIONS": str(sessions.resolve()), "OMP_NUM_THREADS": str(given.threads)}
    subprocess.run(command, check=True, env=os.environ | places)
    found: dict[str, list[dict[str, Any]]] = {}
    with (given.folder / "folds.csv").open() as lines:
        for row in csv.DictReader(lines):
            own = found.setdefault(row["model"], [])
            begin = end - (given.n_windows - len(own)) * timedelta(hours=1)
            metrics = {"ndcg_at_20": float(row[f"NDCG@{K}"]), "hit_rate_at_20": float(row[f"HitRate@{K}"])}
            own.append({"window": f"{begin}", **metrics, "sessions": int(row["n_users"])})
    return found


def configuration(models: list[str], n_windows: int, epochs: int) -> dict[str, Any]:
    """The protocol as a backtest. A session is what a user is elsewhere; nobody is too new, and nothing is left out of a list."""
    events = {"path": "${SESSIONS}", "user": "session_id", "item": "item_id", "time": "clicked_at", "categorical": list(SESSION)}
    return {
        "seed": SEED,
        "data": {"events": events, "history": "30d", "seen": "30d"},
        "features": {"max_age": "30d", "min_day_volume": 0},  # the last day may be an hour
        "training": {"max_epochs": epochs, "n_validation_users": 0, "users_per_batch": 128},
        "evaluation": {"k": [K], "metrics": ["NDCG", "HitRate"]},
        "scoring": {"k": K, "exclude_seen": False},
        "backtest": {
            "models": [f"{name}={MODELS[name]}" for name in models],
            "split": "1h",
            "n_folds": n_windows,
            "train_window": "1h",
            "continuing": True,
            "last_only": True,
            "cold_users": True,
            "cold_items": True,
        },
    }


def so_far(sessions: Path, given: argparse.Namespace, end: datetime) -> dict[str, list[dict[str, Any]]]:
    """The models' results in the first windows, as far as all of them have finished, from the lists in the store."""
    models = canonical(given, sessions)
    lists = lists_of(models, Store(given.folder / "store"), end)
    begins = [end - number * timedelta(hours=1) for number in range(given.n_windows, 0, -1)]
    finished = list(takewhile(lambda begin: all((name, begin) in lists for name in models), begins))
    if not finished:
        sys.exit(f"The first window is not finished by all of {', '.join(models)}: run the same command without --so-far first.")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
    for name, begin in product(models, finished):
        listed = duckdb.sql(f"select user_id as session_id, item_id, rank from read_parquet('{lists[name, begin]}')")
        found[name].append(measured(listed, sessions, begin, begin + timedelta(hours=1)))
    return found


def lists_of(models: dict[str, Any], store: Store, end: datetime) -> dict[tuple[str, datetime], Path]:
    """Files of lists by model and window, of the run that ends there."""
    trained = {one.version: one.manifest["config"] for one in store.artifacts("training") if one.as_of.replace(tzinfo=None) == end}
    found: dict[tuple[str, datetime], Path] = {}
    for one in store.artifacts("folds"):
        config, training = one.manifest["config"], one.manifest["inputs"].get("training")
        if one.as_of.replace(tzinfo=None) == end and (training is None or training["version"] in trained):
            of = config["window"] if training is None else told_of(trained[training["version"]])
            begin = datetime.fromisoformat(config["fold"]["start"]).replace(tzinfo=None)
            found |= {(name, begin): one.path / "lists.parquet" for name, model in models.items() if model == of}
    return found


def told_of(config: dict[str, Any]) -> list[Any]:
    """What tells trainings apart: the model, and for how long it learnt."""
    return [config["model"], config["training"]["max_epochs"]]


def canonical(given: argparse.Namespace, sessions: Path) -> dict[str, Any]:
    """By the models' names what a store says of them: as `told_of`, or the window of what was popular."""
    os.environ["SESSIONS"] = str(sessions.resolve())
    parameters = configuration(given.models, given.n_windows, given.epochs)
    asked, night = Backtest(**parameters["backtest"]), deployments.unpublished({**parameters, "store": str(given.folder / "store")})
    return {
        one.name: one.window
        if one.night is None
        else [Blocks.of(resolve(one.night.model)).in_canonical_text().versioned(), one.night.training.max_epochs]
        for one in contenders(asked, night)
    }


def neighbours(sessions: Path, first: datetime, n_windows: int, file: Path) -> list[dict[str, Any]]:
    """V-SkNN's results, window by window; those that are in the file, which may be of more windows, are not made again."""
    found = json.loads(file.read_text()) if file.exists() else []
    about = {"measured_on": f"{date.today()}", **machine()}
    for number in range(len(found), n_windows):
        begin, end = (first + timedelta(hours=hour) for hour in (number, number + 1))
        found.append({**about, **measured(vsknn.lists(sessions, f"{begin}", f"{end}", K), sessions, begin, end)})
        file.write_text(json.dumps(found))
    return found[:n_windows]


def measured(lists: duckdb.DuckDBPyRelation, sessions: Path, begin: datetime, end: datetime) -> dict[str, Any]:
    """Of lists `session_id, item_id, rank` of the sessions of a window: how often and how high their last clicks are on them."""
    listed = lists.to_arrow_table()  # noqa: F841 (the query reads it)
    ndcg, hits, n = duckdb.execute(f"""
        with last as (
            select session_id, arg_max(item_id, place) as item_id from read_parquet('{sessions}')
            where started_at >= '{begin}' and started_at < '{end}' group by session_id
        )
        select avg(coalesce(1 / log2(1 + rank), 0)), avg((rank is not null)::int), count(*)
        from last left join listed using (session_id, item_id)
    """).fetchone()  # type: ignore[misc]
    return {"window": f"{begin}", "ndcg_at_20": ndcg, "hit_rate_at_20": hits, "sessions": n}


def section(rows: list[dict[str, Any]]) -> str:
    """The means over the windows of one protocol as markdown."""
    lines = ["| model | NDCG@20 | HR@20 | of the paper, all windows |", "|---|---|---|---|"]
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        ndcg, hits = (statistics.fmean(row[metric] for row in own) for metric in ("ndcg_at_20", "hit_rate_at_20"))
        theirs = ", ".join(f"{value:.4f}" for value in PUBLISHED.get(name, ()))
        lines.append(f"| {name} | {ndcg:.4f} | {hits:.4f} | {theirs} |")
    n_windows, first = rows[0]["n_windows"], datetime.fromisoformat(rows[0]["first"])
    end = first + n_windows * timedelta(hours=1)
    sessions = sum(row["sessions"] for row in rows if row["model"] == rows[0]["model"])
    whole = (first, n_windows) == (ALL_FROM, ALL)
    n_asked, epochs = rows[0]["n_asked"], rows[0]["epochs"]
    begun = "" if first == (ALL_FROM if n_asked == ALL else FIRST) else f" --first {first:%Y-%m-%dT%H}"
    some = " --so-far" if n_windows < n_asked else ""
    command = f"python -m benchmarks.windows --data data --folder FOLDER{begun} --n-windows {n_asked} --epochs {epochs}{some}"
    told = [
        f"`{command}`; {report.about(rows)}; {report.versions(rows)}; seed {SEED}.",
        f"{n_windows} windows of an hour, {first:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}, {sessions:,} sessions; means over them.",
        *([] if whole else [f"**Not comparable with the paper's numbers**, which are means over {ALL} windows; these are {n_windows}."]),
    ]
    contenders = [f"* {name}: `{text}`" for name, text in MODELS.items()]
    contenders += [f"* vsknn: the {vsknn.N_NEAREST} most similar of the {vsknn.N_RECENT:,} newest sessions"]
    return "\n".join([*told, "", *lines, "", *contenders])


if __name__ == "__main__":
    main()
