"""s3:// through DuckDB's httpfs, on moto's server: parquet is read in parts, other days not at all."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from recsys.config import Data, Events
from recsys.errors import SourceError
from recsys.store import Artifact


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_s3(build: Callable[..., Artifact], bucket: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str) -> None:
    with duckdb.connect(config={"threads": 1}) as con:
        for day in ("09", "10", "11"):
            rows = f"select i as user_id, i as item_id, timestamp '2024-03-{day} 10:00' as event_at from range(4) t (i)"
            con.execute(f"copy ({rows}) to '{tmp_path}/{day}.{ending}' (format {ending.removesuffix('l')})")
            bucket.upload_file(f"{tmp_path}/{day}.{ending}", f"clicks/date=2024-03-{day}/part.{ending}")
    data = Data(events=Events(path=f"s3://shop/clicks/*/*.{ending}", time="event_at", partition="date"))
    caplog.set_level("INFO", "werkzeug")
    assert build(data).counts["events"] == 8 and build(data).reused
    asked = re.findall(r'"(?:GET|HEAD) /clicks/date(?:=|%3D)2024-03-(\d\d)/', caplog.text)
    assert set(asked) == {"09", "10"}


def test_a_bucket_without_files(build: Callable[..., Artifact], bucket: Any) -> None:
    with pytest.raises(SourceError, match="no file matches s3://shop/nothing/"):
        build(Data(events=Events(path="s3://shop/nothing/*.parquet", time="event_at")))


def test_a_secret_of_duckdb_says_where_too(
    build: Callable[..., Artifact], bucket: Any, tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a server of one's own, whose buckets are folders and no host names."""
    for name in s3.keys() - {"HOME"}:
        monkeypatch.delenv(name)
    endpoint = s3["DUCKDB_S3_ENDPOINT"].replace("localhost", "127.0.0.1")
    with duckdb.connect() as con:
        own = f"type s3, key_id 'key', secret 'secret', endpoint '{endpoint}', url_style 'path', use_ssl false"
        con.execute(f"create persistent secret shop ({own})")
        con.execute("copy (select 1 as user_id, 2 as item_id, timestamp '2024-03-10 10:00' as event_at) to 's3://shop/clicks.parquet'")
    try:
        assert build(Data(events=Events(path="s3://shop/*.parquet", time="event_at"))).counts["events"] == 1
    finally:
        with duckdb.connect() as con:
            con.execute("drop persistent secret shop")
