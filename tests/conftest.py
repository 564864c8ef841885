"""What all tests share: one thread each, nobody's own Prefect settings, and real data where there is any."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: small tensors, and several test processes at once
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="recsys-tests-prefect-")
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
os.environ.pop("PREFECT_API_URL", None)

import hypothesis
import pytest

# A background job of a shell is born ignoring Ctrl-C, and so would be every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("recsys", deadline=None)  # a busy machine has slow moments
hypothesis.settings.load_profile("recsys")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the public data sets (globo, ml-100k, ml-1m): RECSYS_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("RECSYS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no public data sets in {folder}: set RECSYS_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """moto's server in the place of S3, and DuckDB's extension from its wheel: the environment in which both are found."""
    import duckdb
    from duckdb_extensions import import_extension
    from moto.server import ThreadedMotoServer

    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, duckdb.connect() as connection:
        patch.setenv("HOME", str(home))
        import_extension("httpfs", con=connection)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    _, port = server.get_host_and_port()
    yield {
        "HOME": str(home), "DUCKDB_S3_ENDPOINT": f"localhost:{port}", "DUCKDB_S3_USE_SSL": "false",
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-central-1",
    }  # fmt: skip
    server.stop()


@pytest.fixture
def bucket(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The empty bucket `shop`, as boto3 sees it; DuckDB finds it at s3://shop."""
    import boto3

    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    resource = boto3.resource("s3", endpoint_url=f"http://{s3['DUCKDB_S3_ENDPOINT']}", region_name=s3["AWS_REGION"])
    empty = resource.Bucket("shop")
    empty.create(CreateBucketConfiguration={"LocationConstraint": s3["AWS_REGION"]})
    yield empty
    empty.objects.all().delete()
    empty.delete()
