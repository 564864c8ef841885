"""Copies in a bucket of S3, on moto's server: the mark names a whole object, whatever becomes of the one that is written."""

import json
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pytest

from recsys import published
from recsys.config import Export
from recsys.errors import ExportError
from recsys.publishing.exports import export
from recsys.publishing.files import Bucket
from recsys.store import Store

FORMATS = ["parquet", "csv", "jsonl"]


def wanted(format: str) -> list[Export]:
    return [Export(format=format, path="s3://shop/lists/")]


def mark(bucket: Any, format: str) -> dict[str, str]:
    return json.loads(bucket.Object(f"lists/recommendations.{format}.json").get()["Body"].read())


def read(bucket: Any, format: str) -> list[tuple[Any, ...]]:
    """As a reader does: the object that the mark names."""
    reader = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}[format]
    with duckdb.connect() as connection:
        return connection.execute(f"select * from {reader}($1)", [f"s3://shop/lists/{mark(bucket, format)['file']}"]).fetchall()


def keys(bucket: Any) -> list[str]:
    return [object.key for object in bucket.objects.all()]


@pytest.mark.parametrize("format", FORMATS)
def test_a_copy_is_what_was_published(store: Store, nights: list[datetime], shop: Any, bucket: Any, format: str) -> None:
    done = shop.promoted(store, nights[0])
    assert export(store, done, wanted(format)) == [f"s3://shop/lists/recommendations.{format}.json"]
    assert read(bucket, format) == shop.values()
    assert mark(bucket, format) == {
        "promotion": done.id, "as_of": nights[0].isoformat(), "source": "candidate", "file": f"recommendations-1.{format}",
    }  # fmt: skip


def test_two_objects_in_turn_and_only_when_they_are_due(store: Store, nights: list[datetime], shop: Any, bucket: Any) -> None:
    first = shop.promoted(store, nights[0])
    assert export(store, first, wanted("csv")) and not export(store, first, wanted("csv"))
    assert export(store, shop.promoted(store, nights[1], shop.rows()[:6]), wanted("csv")) and len(read(bucket, "csv")) == 6
    assert keys(bucket) == [f"lists/recommendations{end}" for end in ("-1.csv", "-2.csv", ".csv.json")]
    assert export(store, published.rollback(store, "bad lists"), wanted("csv")) and len(read(bucket, "csv")) == len(shop.rows())
    assert mark(bucket, "csv")["file"] == "recommendations-1.csv"
    bucket.Object("lists/recommendations-1.csv").delete()
    assert export(store, first, wanted("csv")) and read(bucket, "csv") == shop.values()
    bucket.Object("lists/recommendations.csv.json").put(Body=b"mine")
    assert export(store, first, wanted("csv")) and len(keys(bucket)) == 3


def test_a_copy_that_is_cut_short_is_never_named(store: Store, nights: list[datetime], shop: Any, bucket: Any, tmp_path: Path) -> None:
    export(store, shop.promoted(store, nights[0]), wanted("csv"))
    duckdb.execute(
        f"copy (select range as user_id, 1 as rank, 1 as item_id, 1.0 as score, '' as source from range(500000)) to '{tmp_path}/0.parquet'"
    )
    (tmp_path / "1.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(duckdb.Error):
        Bucket("s3://shop/lists", "csv").write(f"{tmp_path}/*.parquet", {"promotion": "x", "as_of": "", "source": ""})
    assert read(bucket, "csv") == shop.values()
    assert export(store, shop.promoted(store, nights[1], shop.rows()[:6]), wanted("csv")) and len(read(bucket, "csv")) == 6


def test_readers_see_one_whole_night_or_the_other(store: Store, nights: list[datetime], shop: Any, bucket: Any) -> None:
    versions = [[{**row, "score": score} for row in shop.rows()] for score in (0.25, 0.5)]
    export(store, shop.promoted(store, nights[0], versions[0]), wanted("jsonl"))
    seen: set[tuple[float, ...]] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.add(tuple(score for _, _, _, score, _ in read(bucket, "jsonl")))

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for turn in range(4):
            export(store, shop.promoted(store, nights[1], versions[turn % 2]), wanted("jsonl"))
    finally:
        stop.set()
        reader.join()
    assert seen and seen <= {tuple(score for _ in shop.rows()) for score in (0.25, 0.5)}


class Forbidding(BaseHTTPRequestHandler):
    """S3, to a role without s3:ListBucket, of every object that is not there."""

    def answer(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Not to the terminal."""


def test_a_first_copy_that_is_forbidden_names_the_permissions(
    store: Store, nights: list[datetime], shop: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DUCKDB_S3_ENDPOINT", f"localhost:{server.server_port}")
        with pytest.raises(
            ExportError, match="recommendations.csv.json: .*403.* needs s3:GetObject .* s3:ListBucket on the bucket"
        ) as caught:
            export(store, shop.promoted(store, nights[0]), wanted("csv"))
        server.shutdown()
    assert not caught.value.may_pass and "secret" not in str(caught.value)


def test_errors_say_what_and_where(store: Store, nights: list[datetime], shop: Any, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = shop.promoted(store, nights[0])
    with pytest.raises(ExportError, match="s3://nothing/lists/recommendations.csv.json: .*The specified bucket does not exist") as caught:
        export(store, done, [Export(format="csv", path="s3://nothing/lists")])
    assert not caught.value.may_pass
    monkeypatch.setenv("DUCKDB_S3_ENDPOINT", "localhost:1")
    with pytest.raises(ExportError, match="s3://shop/lists/recommendations.csv.json: IO Error") as caught:
        export(store, done, wanted("csv"))
    assert caught.value.may_pass and "secret" not in str(caught.value)
