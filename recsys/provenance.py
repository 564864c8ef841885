"""What a manifest says of an artifact's files, and run.json of the surroundings that it was made in."""

import getpass
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from recsys import digest


def facts(path: Path) -> dict[str, Any]:
    """Bytes and SHA-256 of a file, and rows and column types of a parquet file."""
    found: dict[str, Any] = {"bytes": path.stat().st_size, "sha256": digest.of_file(path)}
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            found["rows"] = file.metadata.num_rows
            found["schema"] = {column.name: str(column.type) for column in file.schema_arrow}
    return found


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The facts of every file of an artifact, by its name below the folder; without run.json."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / "run.json"]
    return {str(path.relative_to(folder)): facts(path) for path in paths}


def write_run(path: Path, started: float, notes: Mapping[str, Any]) -> None:
    """The run.json of what was begun at `started` (seconds since 1970) and ends now; `notes` are what else is known of it."""
    run = {
        "started_at": datetime.fromtimestamp(started, timezone.utc).isoformat(),
        "seconds": round(time.time() - started, 3),
        "peak_memory_bytes": _peak_memory(),
        **surroundings(),
        **notes,
    }
    path.write_text(json.dumps(run, indent=1, default=str))


def begin_peak_memory() -> None:
    """Forget how much memory the process had at most until now, where the kernel (Linux) can: what follows is measured by itself."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int:
    """Bytes that the process had at most since `begin_peak_memory`, or in its life where the kernel cannot tell."""
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@cache
def surroundings() -> dict[str, Any]:
    """Machine, commit and package versions: who built an artifact."""
    git = (
        subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
        if shutil.which("git")
        else None
    )
    packages = ("torch", "pytorch-lightning", "duckdb", "pandera", "pyarrow", "prefect", "numpy", "transformers")
    return {
        "commit": git.stdout.strip() or None if git else None,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "packages": {name: _installed(name) for name in packages},
    }


def person() -> str:
    """Who gave the command."""
    if behind := os.environ.get("SUDO_USER"):  # who called `sudo -u recsys recsys rollback`
        return behind
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
