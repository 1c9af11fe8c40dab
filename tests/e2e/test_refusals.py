"""What a sidecar cannot start with: exit code 2 and one clear message, without a traceback."""

import re
import sqlite3
from urllib.parse import urlsplit

import pytest
from sidecar_process import Sidecar

from session_exporter.sidecar.schema import DATABASE_NAME, VERSION

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def running(tmp_path):
    home = tmp_path / "first"
    home.mkdir()
    with Sidecar(home) as sidecar:
        sidecar.start().scrape()
        yield sidecar


def refused(sidecar):
    """The one message of a sidecar that does not start."""
    assert sidecar.start().wait() == 2, sidecar.log
    assert "Traceback" not in sidecar.log
    *before, message = sidecar.log.splitlines()
    assert not [line for line in before if not re.match(r"ts=\S+ level=info ", line)]
    assert message.startswith("session-exporter: ")
    return message


def test_missing_directories_are_made(tmp_path):
    with Sidecar(tmp_path, journal=tmp_path / "a" / "journal", state=tmp_path / "b" / "state") as sidecar:
        sidecar.start().scrape()
        assert sidecar.stop() == 0


@pytest.mark.parametrize("which", ["journal", "state"])
def test_a_directory_that_cannot_be_written_is_refused(tmp_path, unwritable, which):
    with Sidecar(tmp_path, **{which: unwritable}) as sidecar:
        assert re.search(rf"{unwritable}.*: expected|{unwritable}.*; expected", refused(sidecar))


@pytest.mark.parametrize("which", ["journal", "state"])
def test_a_directory_that_cannot_be_made_is_refused(tmp_path, which):
    file = tmp_path / "a file"
    file.write_bytes(b"")
    with Sidecar(tmp_path, **{which: file / "below"}) as sidecar:
        message = refused(sidecar)
        assert str(file / "below") in message
        assert "Not a directory" in message


@pytest.mark.parametrize("which", ["journal", "state"])
def test_a_second_sidecar_names_the_first(tmp_path, running, which):
    with Sidecar(tmp_path, **{which: getattr(running, which)}) as second:
        message = refused(second)
        assert str(getattr(running, which)) in message
        assert f"process {running.process.pid} " in message
    running.scrape()


def test_an_address_in_use_is_refused(tmp_path, running):
    with Sidecar(tmp_path) as second:
        second.listen = urlsplit(running.url).netloc
        message = refused(second)
        assert second.listen in message
        assert "in use" in message


def test_a_state_of_a_newer_version_is_refused_and_left_alone(running):
    assert running.stop() == 0
    path = running.state / DATABASE_NAME
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    message = refused(running)
    assert f"{path}: state version 99; expected {VERSION}" in message
    assert path.read_bytes() == before


def test_a_state_that_is_none_is_refused_and_left_alone(running):
    assert running.stop() == 0
    path = running.state / DATABASE_NAME
    path.write_bytes(b"rubbish" * 10_000)
    assert f"{path}: not a database; expected a state of session-exporter" in refused(running)
    assert path.read_bytes() == b"rubbish" * 10_000


def test_a_database_of_another_program_is_refused_and_left_alone(running):
    assert running.stop() == 0
    path = running.state / DATABASE_NAME
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE somebody (elses TEXT)")
    connection.close()
    before = path.read_bytes()
    assert f"{path}: application id 0x0; expected a state of session-exporter" in refused(running)
    assert path.read_bytes() == before


@pytest.mark.parametrize("offset_pages", [1, 3])
def test_a_state_with_rubbish_inside_is_refused(running, offset_pages):
    assert running.stop() == 0
    path = running.state / DATABASE_NAME
    raw = bytearray(path.read_bytes())
    raw[offset_pages * 4096 :] = b"\xff" * (len(raw) - offset_pages * 4096)
    path.write_bytes(raw)
    assert str(running.state) in refused(running)


def test_a_state_whose_records_are_rubbish_is_refused(running):
    assert running.stop() == 0
    connection = sqlite3.connect(running.state / DATABASE_NAME)
    connection.execute("UPDATE meta SET value = x'c1' WHERE name = 'totals'")
    connection.commit()
    connection.close()
    assert str(running.state) in refused(running)


def test_a_key_of_the_wrong_length_is_refused(running):
    assert running.stop() == 0
    (running.state / "key").write_bytes(b"short")
    assert "expected a key of 16 to 64" in refused(running)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("scopes:\n  chat:\n    colour: green\n", ":3: scopes.chat.colour: unknown key"),
        ("\nlateness: soon\n", ":2: lateness: value soon: expected"),
        ("scopes:\n  chat: {}\n  web: {}\n  chat: {}\n", ":4: scopes.chat: "),
        ("scopes: [\n", ":2: "),
    ],
    ids=["unknown key", "wrong type", "duplicate scope", "no YAML"],
)
def test_a_wrong_configuration_is_refused_with_file_line_and_key(tmp_path, config, problem):
    with Sidecar(tmp_path, config) as sidecar:
        assert f"session-exporter: {sidecar.config_file}{problem}" in refused(sidecar)
    assert not sidecar.state.exists()


def test_a_configuration_that_is_missing_is_refused(tmp_path):
    with Sidecar(tmp_path) as sidecar:
        sidecar.config_file.unlink()
        assert f"{sidecar.config_file}: cannot be read: No such file" in refused(sidecar)
