"""s3:// through DuckDB's httpfs, where the extension can be had: parquet is read in parts, other days not at all."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import duckdb
import pytest

from recsys.config import Data, Events
from recsys.errors import SourceError
from recsys.store import Artifact


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """A folder served as the bucket `shop`, and the paths that were asked for."""
    extensions = pytest.importorskip(
        "duckdb_extensions", reason="httpfs comes with `pip install duckdb-extensions duckdb-extension-httpfs`"
    )
    root, asked = tmp_path / "bucket", list[str]()

    class Bucket(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlparse(self.path)
            asked.append(unquote(url.path))
            if "list-type" in (query := parse_qs(url.query)):
                names = (str(file.relative_to(root)) for file in sorted(root.rglob("*")) if file.is_file())
                found = "".join(
                    f"<Contents><Key>{name}</Key><Size>1</Size><LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
                    for name in names
                    if name.startswith(query["prefix"][0])
                )
                self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode())
                return
            content = (root / unquote(url.path).lstrip("/")).read_bytes()
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            self.answer(206 if part else 200, content[int(part[1]) : int(part[2]) + 1] if part else content)

        do_HEAD = do_GET

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "HOME": str(tmp_path), "DUCKDB_S3_ENDPOINT": f"localhost:{server.server_port}", "DUCKDB_S3_USE_SSL": "false",
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-central-1",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    extensions.import_extension("httpfs")
    yield root, asked
    server.shutdown()


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_s3(build: Callable[..., Artifact], bucket: tuple[Path, list[str]], ending: str) -> None:
    root, asked = bucket
    with duckdb.connect(config={"threads": 1}) as con:
        for day in ("09", "10", "11"):
            (root / f"clicks/date=2024-03-{day}").mkdir(parents=True)
            rows = f"select i as user_id, i as item_id, timestamp '2024-03-{day} 10:00' as event_at from range(4) t (i)"
            con.execute(f"copy ({rows}) to '{root}/clicks/date=2024-03-{day}/part.{ending}'")
    data = Data(events=Events(path=f"s3://shop/clicks/*/*.{ending}", time="event_at", partition="date"))
    assert build(data).counts["events"] == 8 and build(data).reused
    assert not [path for path in asked if "2024-03-11" in path]


def test_a_bucket_without_files(build: Callable[..., Artifact], bucket: tuple[Path, list[str]]) -> None:
    with pytest.raises(SourceError, match="no file matches s3://shop/nothing/"):
        build(Data(events=Events(path="s3://shop/nothing/*.parquet", time="event_at")))
