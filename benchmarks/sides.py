"""The two sides of a comparison as processes of their own, each in its environment, and the machine they run on."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.measuring import Task
from recsys.provenance import surroundings

ROOT = Path(__file__).parents[1]
PEER = Path(__file__).parent / "peers" / "rectools"
# For its own processes: each side has the settings that it comes with.
SET_BY_RECSYS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
MODULES = {"ours": "benchmarks.ours", "RecTools": "benchmarks.peers.rectools.run"}


@dataclass(frozen=True)
class Failed(Exception):
    """A process that ended without a measurement."""

    command: str
    output: str

    def __str__(self) -> str:
        return f"{self.command}\n{self.output}"


def measured(side: str, task: Task, at_most: float | None = None) -> dict[str, Any]:
    """What a process of that side says of the task: seconds, peak_gib, versions, and what else the work counts.

    Failed where it ends without, or goes on for more than `at_most` seconds.
    """
    command = [str(python(side)), "-m", MODULES[side], *task.arguments()]
    threads = str(task.threads)
    inherited = {name: value for name, value in os.environ.items() if name not in SET_BY_RECSYS}
    environment = inherited | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=at_most)
    except subprocess.TimeoutExpired as expired:
        raise Failed(" ".join(command), f"there were {max(expired.timeout, 0):.0f} seconds left for it") from None
    if done.returncode:
        raise Failed(" ".join(command), done.stderr[-3000:])
    line = done.stdout.splitlines()[-1]
    return json.loads(line[line.index("{") :])  # after what is left of a progress bar


def tried(side: str, task: Task, at_most: float | None = None) -> dict[str, Any]:
    """The same, or as `error` why the process did not measure it."""
    try:
        return measured(side, task, at_most)
    except Failed as failure:
        return {"error": str(failure)}


def python(side: str) -> Path:
    """The interpreter of a side: theirs is RECTOOLS_PYTHON, or what `make bench-peers` makes."""
    if side == "ours":
        return Path(sys.executable)
    found = Path(os.environ.get("RECTOOLS_PYTHON", PEER / ".venv" / "bin" / "python"))
    if not found.exists():
        raise SystemExit(f"{found} is missing: run `make bench-peers`, or set RECTOOLS_PYTHON to a python with {PEER}/requirements.txt.")
    return found


def machine() -> dict[str, Any]:
    """CPU model, cores, memory, versions and commit, with a word behind it where files have changed since."""
    model = platform.processor() or platform.machine()
    if (cpus := Path("/proc/cpuinfo")).exists():
        model = next((line.split(":", 1)[1].strip() for line in cpus.read_text().splitlines() if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    around = surroundings()
    commit = around["commit"]  # none where there is no git
    if commit and subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "*.py", "*.sql"], cwd=ROOT).returncode:
        commit = f"{commit} and changes"
    packages = {"Python": around["python"], **around["packages"]}
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)  # without those not installed
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "commit": commit, "versions": versions}


def ndcg_at_10(lists: Path, last: Path) -> float:
    """Mean over the users of `last` (user_id, item_id) of 1 / log2(1 + rank) of that item in their list, 0 where it is not in it."""
    query = f"""
        select avg(coalesce(1 / log2(1 + lists.rank), 0))
        from read_parquet('{last}') as held_out
        left join read_parquet('{lists}') as lists using (user_id, item_id)
    """
    ((value,),) = duckdb.sql(query).fetchall()
    return value
