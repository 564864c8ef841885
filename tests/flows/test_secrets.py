"""A known secret is looked for in everything that a night leaves: the store, the log, the terminal and Prefect's database."""

import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret
from prefect.logging.handlers import APILogHandler
from prefect.settings import get_current_settings

from flows import secrets
from flows.nightly import nightly
from recsys import redaction
from recsys.config import Data, Export, Night, Publishing, Shop
from recsys.demo import prepare
from recsys.errors import ConfigError
from tests.flows.test_nightly import FIRST, TINY

pytestmark = pytest.mark.usefixtures("prefect_server")

IN_ENVIRONMENT, IN_BLOCK = "kept-in-the-environment-7f3a", "kept-in-a-block-91cc"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_hidden", {})
    monkeypatch.setattr("recsys.config.groups._provided", {})
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


def database() -> list[Path]:
    """The files of the test server's database."""
    file = Path(str(get_current_settings().server.database.connection_url.get_secret_value()).partition("///")[2])  # type: ignore[union-attr]
    return list(file.parent.glob(f"{file.name}*"))


def files_with(secret: str, *places: Path) -> list[Path]:
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*")) if file.is_file()]
    assert len(files) >= len(places)
    return [file for file in files if secret.encode() in file.read_bytes() or secret in str(file)]


def settings(folder: Path) -> dict[str, Any]:
    """A night whose source and whose copy lie in folders that are told to nobody."""
    shop = prepare(Data(demo=Shop(n_users=150, n_items=50)), FIRST, folder / IN_ENVIRONMENT)
    path = str(shop.events.path).replace(IN_ENVIRONMENT, "${NIGHT_TOKEN}") if shop.events else ""
    data = Data(events=shop.events and shop.events.model_copy(update={"path": path, "label": ()}), history=shop.history, seen=shop.seen)
    copies = Publishing(exports=(Export(format="csv", path=str(folder / "out" / "${block:copies}")),))
    return {**TINY, "as_of": FIRST, "store": str(folder / "shop"), "data": data, "publishing": copies}


def test_a_night_and_one_that_fails_leave_no_trace_of_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NIGHT_TOKEN", IN_ENVIRONMENT)
    Secret(value=IN_BLOCK).save("copies", overwrite=True)
    asked = settings(tmp_path)
    with caplog.at_level(logging.DEBUG):
        assert nightly(**asked, return_state=True).is_completed()
        nowhere = asked["data"].events.model_copy(update={"path": f"{tmp_path}/${{NIGHT_TOKEN}}/absent/*.parquet"})
        failed = nightly(**{**asked, "data": Data(events=nowhere)}, rebuild=True, return_state=True)
    assert failed.is_failed() and f"no file matches {tmp_path}/${{NIGHT_TOKEN}}/absent/*.parquet" in str(failed.message)
    assert (tmp_path / "out" / IN_BLOCK / "recommendations.csv").exists(), "the secrets were used"
    assert "${block:copies}/recommendations.csv" in caplog.text
    APILogHandler().flush()
    time.sleep(1)  # the server writes what it was sent
    said = capfd.readouterr()
    for secret in (IN_ENVIRONMENT, IN_BLOCK):
        assert secret not in caplog.text and secret not in said.out + said.err
        assert files_with(secret, tmp_path / "shop", *database()) == []


def test_log_records_and_their_tracebacks_tell_no_secret() -> None:
    redaction.hide("TOKEN", "s3cr3t")
    secrets.keep_out_of_logs()
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    log = logging.Logger("somebody else's")
    log.addHandler(handler)
    try:
        raise ValueError("no access with s3cr3t")
    except ValueError:
        log.exception("failed with %s", "s3cr3t")
    assert "failed with ${TOKEN}\nTraceback" in written.getvalue() and "ValueError: no access with ${TOKEN}" in written.getvalue()
    assert "s3cr3t" not in written.getvalue()


def test_a_log_call_of_a_library_that_is_wrong_raises_nothing_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    secrets.keep_out_of_logs()
    log = logging.Logger("somebody else's")
    log.addHandler(logging.StreamHandler())
    log.warning("%d of them", "x")
    assert "--- Logging error ---" in capsys.readouterr().err, "as it is without us"


def test_a_block_that_is_not_there(tmp_path: Path) -> None:
    copies = Publishing(exports=(Export(format="csv", path="${block:no-such-block}/out"),))
    with pytest.raises(ConfigError, match="has no Secret block 'no-such-block'"):
        secrets.provide_blocks(Night(data=Data(demo=Shop()), publishing=copies))
