"""What a name of the environment stands for is used, and not told."""

from pathlib import Path

import pytest

from recsys import redaction
from recsys.config import Features, expand, provide
from recsys.errors import ConfigError, SourceError
from recsys.sql import connect


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_hidden", {})


def test_an_error_says_the_name_of_what_was_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSN", "postgresql://bob:p@ss word/db")
    assert expand("${DSN}?x=1") == "postgresql://bob:p@ss word/db?x=1"
    assert str(ConfigError("no server at postgresql://bob:p@ss word/db")) == "no server at ${DSN}"
    assert redaction.redacted("as an address: postgresql%3A%2F%2Fbob%3Ap%40ss%20word%2Fdb") == "as an address: ${DSN}"


def test_paths_of_this_machine_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for path in ("/srv/data", "data"):
        monkeypatch.setenv("WHERE", path)
        expand("${WHERE}/events.parquet")
        assert str(SourceError(f"no file {path}/events.parquet")) == f"no file {path}/events.parquet"


def test_words_that_only_contain_it_stay_and_the_longest_name_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGE", "prod")
    monkeypatch.setenv("KEY", "prod-k3y")
    expand("${STAGE} ${KEY}")
    assert redaction.redacted("the products of prod, for prod-k3y") == "the products of ${STAGE}, for ${KEY}"


def test_errors_of_other_libraries_and_what_led_to_them_are_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB names the address that it cannot read, Python the file; Prefect logs the whole chain."""
    monkeypatch.setenv("TOKEN", "s3cr3t")
    address = expand("/no/such/folder/${TOKEN}.parquet")
    with pytest.raises(OSError) as caught, connect(Features()) as con:
        try:
            con.execute(f"from read_parquet('{address}')")
        except Exception as error:
            raise FileNotFoundError(2, "No such file", address) from error
    assert "${TOKEN}.parquet" in str(caught.value) and "${TOKEN}.parquet" in str(caught.value.__cause__)
    assert "s3cr3t" not in f"{caught.value!s} {caught.value!r} {caught.value.__cause__!s}"


def test_a_block_that_nobody_provided_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="needs a Secret block of Prefect, .* The folder of a store is written out"):
        expand("s3://bucket/${block:no-such-block}")
    monkeypatch.setattr("recsys.config.groups._provided", {})
    provide("block:bucket-key", "s3cr3t")
    assert expand("s3://bucket/${block:bucket-key}") == "s3://bucket/s3cr3t"
    assert redaction.redacted("s3cr3t") == "${block:bucket-key}"


@pytest.mark.parametrize("secret", ["/kX9+abc", "data"])
def test_what_a_block_holds_is_never_told_though_it_looks_like_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secret: str) -> None:
    monkeypatch.setattr("recsys.config.groups._provided", {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    provide("block:key", secret)
    assert expand("${block:key}") == secret
    assert str(SourceError(f"refused: {secret}")) == "refused: ${block:key}"


@pytest.mark.parametrize(
    ("text", "is_hidden"),
    [
        ("https://host/lists.parquet?sig=${KEY}", True),
        ("s3://bucket/a?s3_access_key_id=me&s3_secret_access_key=${KEY}", True),
        ("https://me:${KEY}@host/lists.parquet", True),
        ("https://${KEY}@host", True),
        ("${KEY}/events.parquet", False),
        ("${KEY}/day-?/events.parquet", False),
        ("https://host${KEY}/a@b", False),
    ],
)
def test_what_stands_where_credentials_do_is_never_told_though_it_looks_like_a_path(
    monkeypatch: pytest.MonkeyPatch, text: str, is_hidden: bool
) -> None:
    monkeypatch.setenv("KEY", "/kX9+abc")
    assert expand(text) == text.replace("${KEY}", "/kX9+abc")
    assert redaction.redacted("refused: /kX9+abc") == ("refused: ${KEY}" if is_hidden else "refused: /kX9+abc")


def test_a_password_of_a_database_is_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys.publishing.postgres import Postgres

    texts = {"ONE": "postgresql://me:${ONE}@db/shop", "TWO": "host=db password='${TWO}'", "THREE": "host=db user=${THREE}"}
    for name, text in texts.items():
        monkeypatch.setenv(name, f"/kX9+{name}")
        Postgres.at(text, "public", "lists")
        assert redaction.redacted(f"refused: /kX9+{name}") == f"refused: ${{{name}}}"


def test_what_begins_or_ends_with_a_sign_is_found_beside_words_too() -> None:
    redaction.hide("KEY", "/kX9+abc=")
    assert redaction.redacted("at https://host/kX9+abc=us and none of database") == "at https://host${KEY}us and none of database"
