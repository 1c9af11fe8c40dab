"""The key under which ids become digests: made once, for its owner alone, or configured."""

import os
import stat
from pathlib import Path

import pytest

from session_exporter.errors import StateError
from session_exporter.sidecar.secrets import KEY_BYTES, KEY_NAME, read_or_make_key


def test_a_key_is_made_on_the_first_start_and_read_on_every_other(tmp_path: Path) -> None:
    key = read_or_make_key(tmp_path, None)
    assert len(key) == KEY_BYTES
    assert read_or_make_key(tmp_path, None) == key
    assert [path.name for path in tmp_path.iterdir()] == [KEY_NAME]


def test_each_state_has_a_key_of_its_own(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    assert read_or_make_key(tmp_path / "one", None) != read_or_make_key(tmp_path / "other", None)


def test_nobody_else_can_read_the_key(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        read_or_make_key(tmp_path, None)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / KEY_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_configured_key_is_used_and_none_is_made(tmp_path: Path, size: int) -> None:
    shared = tmp_path / "shared.key"
    shared.write_bytes(b"k" * size)
    (tmp_path / "state").mkdir()
    assert read_or_make_key(tmp_path / "state", shared) == b"k" * size
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize("size", [0, 15, 65, 1000])
def test_a_key_of_a_wrong_length_is_refused_without_being_shown(tmp_path: Path, size: int) -> None:
    shared = tmp_path / "shared.key"
    shared.write_bytes(b"k" * size)
    with pytest.raises(StateError, match=f"shared.key: {size} bytes; expected a key of 16 to 64$"):
        read_or_make_key(tmp_path, shared)


def test_a_damaged_key_of_a_state_is_refused_and_not_made_anew(tmp_path: Path) -> None:
    (tmp_path / KEY_NAME).write_bytes(b"")
    with pytest.raises(StateError, match=r"key: 0 bytes"):
        read_or_make_key(tmp_path, None)


def test_a_configured_key_that_is_missing_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"shared.key: No such file or directory; expected the key"):
        read_or_make_key(tmp_path, tmp_path / "shared.key")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_start_left_behind_does_not_hinder_the_next_one(tmp_path: Path) -> None:
    (tmp_path / f".{KEY_NAME}.{os.getpid()}").write_bytes(b"half")
    assert len(read_or_make_key(tmp_path, None)) == KEY_BYTES
