"""The secret under which ids become digests."""

import os
import secrets
from hashlib import blake2b
from pathlib import Path
from typing import Final

from session_exporter.errors import StateError

KEY_NAME: Final = "key"
KEY_BYTES: Final = 32
KEY_BYTES_MIN: Final = 16
KEY_BYTES_MAX: Final = 64
# What stands for the check value of the key where ids are no digests.
PLAIN_IDS: Final = "plain"


def read_or_make_key(directory: Path, key_file: Path | None) -> bytes:
    """The key: from `key_file` when one is configured, else from the state directory, where it is made once.

    Raises:
        StateError: It cannot be read or made, or has a length other than 16 to 64 bytes.
    """
    path = key_path(directory, key_file)
    try:
        if key_file is None and not path.exists():
            _make(path)
    except OSError as error:
        raise _unusable(path, error) from error
    return read_key(directory, key_file)


def read_key(directory: Path, key_file: Path | None) -> bytes:
    """The key, which must be there; raises as `read_or_make_key` does."""
    path = key_path(directory, key_file)
    try:
        key = path.read_bytes()
    except OSError as error:
        raise _unusable(path, error) from error
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise StateError(f"{path}: {len(key)} bytes; expected a key of {KEY_BYTES_MIN} to {KEY_BYTES_MAX}")
    return key


def check_value(key: bytes) -> str:
    """What tells keys apart without telling anything of them."""
    return blake2b(b"check", key=key, digest_size=8).hexdigest()


def key_path(directory: Path, key_file: Path | None) -> Path:
    """Where the key is."""
    return key_file or directory / KEY_NAME


def _unusable(path: Path, error: OSError) -> StateError:
    return StateError(f"{path}: {error.strerror}; expected the key of the ids' digests")


def _make(path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a start that was killed; in a container each has the same process id
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
    temporary.replace(path)
