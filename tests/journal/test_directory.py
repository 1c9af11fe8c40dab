import logging
import os
import tempfile
from pathlib import Path

import pytest

from session_exporter.errors import JournalUnavailable
from session_exporter.journal import find_directory


@pytest.fixture
def nowhere(tmp_path):
    return tmp_path / "missing" / "session-exporter"


def test_the_argument_comes_before_all(tmp_path):
    environ = {"SESSION_EXPORTER_DIR": "/from/environment"}
    assert find_directory(tmp_path, configured="/from/config", environ=environ) == tmp_path
    assert find_directory(str(tmp_path), environ=environ) == tmp_path


def test_the_environment_comes_before_the_configuration():
    assert find_directory(configured="/config", environ={"SESSION_EXPORTER_DIR": "/environment"}) == Path(
        "/environment"
    )
    assert find_directory(configured="/config", environ={}) == Path("/config")


def test_relative_paths_are_made_absolute():
    assert find_directory("journal", environ={}) == Path.cwd() / "journal"


def test_the_shared_directory_is_used_when_it_is_writable_or_can_be_made(tmp_path):
    shared = tmp_path / "shared"
    assert find_directory(environ={}, shared=shared) == shared
    shared.mkdir()
    assert find_directory(environ={}, shared=shared) == shared


def test_else_the_users_runtime_directory(tmp_path, nowhere):
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert find_directory(environ=environ, shared=nowhere) == tmp_path / "session-exporter"
    blocked = tmp_path / "file"
    blocked.touch()
    assert find_directory(environ=environ, shared=blocked) == tmp_path / "session-exporter"


def test_else_a_temporary_directory_of_the_users_own(tmp_path, nowhere, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    expected = tmp_path / f"session-exporter-{os.geteuid()}"
    assert find_directory(environ={"XDG_RUNTIME_DIR": "/missing"}, shared=nowhere) == expected
    expected.mkdir()
    assert find_directory(environ={}, shared=nowhere) == expected


def test_a_temporary_directory_that_somebody_else_made_is_refused(tmp_path, nowhere, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"session-exporter-{os.geteuid()}").symlink_to(tmp_path)
    with pytest.raises(JournalUnavailable, match=r"belongs to another user; set \$SESSION_EXPORTER_DIR"):
        find_directory(environ={}, shared=nowhere)


def test_the_directory_used_is_logged_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, "session_exporter.journal")
    find_directory(tmp_path)
    find_directory(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [f"journal directory: {tmp_path}"]


def test_nothing_is_created(nowhere, tmp_path):
    find_directory(environ={}, shared=tmp_path / "shared")
    assert list(tmp_path.iterdir()) == []
