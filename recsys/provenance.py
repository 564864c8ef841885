"""What a manifest says of an artifact's files, and run.json of the surroundings that it was made in."""

import os
import platform
import shutil
import subprocess
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


def sync(path: Path) -> None:
    """Put a file or folder on the disk itself, so that a power cut after it takes nothing back."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


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


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
