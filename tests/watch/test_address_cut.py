"""The URL of a database whose password may be of any characters."""

from pathlib import Path

import pytest

from session_exporter.errors import ConfigError
from session_exporter.watch.address import database_url


def test_a_password_that_cuts_a_url_is_neither_shown_nor_taken_for_a_host() -> None:
    with pytest.raises(ConfigError, match="--url: not a URL; expected %40") as refused:
        database_url("postgresql://me:p@hunter2/x@localhost/app", None, {}, "--url")
    assert "hunter2" not in str(refused.value)


def test_a_variable_stands_for_a_password_as_it_is() -> None:
    found = database_url("postgresql://me:${PASSWORD}@localhost/app", None, {"PASSWORD": "p@hunter2/x"}, "--url")
    assert (found.password, found.host) == ("p@hunter2/x", "localhost")


def test_the_file_is_called_as_whoever_named_it_calls_it() -> None:
    missing = Path("/nowhere/url")
    for key, name in (("--url", "--url-file"), ("watch[0].url", "watch[0].url_file")):
        with pytest.raises(ConfigError) as refused:
            database_url("", missing, {}, key)
        assert str(refused.value).startswith(f"{name}: /nowhere/url: ")
