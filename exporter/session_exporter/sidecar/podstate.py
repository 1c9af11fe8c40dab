"""What a forwarder keeps over its restarts: counts that must not fall, and who it was. Where it is, consumers know."""

import logging
import os
import secrets
from pathlib import Path

import msgspec

from session_exporter.errors import StateError, StateIncompatible
from session_exporter.journal.ownership import Ownership
from session_exporter.sidecar.records import ExporterState, Identity
from session_exporter.sidecar.schema import DATABASE_NAME, POD_FILE_NAME
from session_exporter.sidecar.state import LOCK_NAME
from session_exporter.stream.collecting import Tallies

logger = logging.getLogger(__name__)


class PodState(msgspec.Struct):
    """All of it.

    Attributes:
        identity: Of this state, and since when it counts.
        exporter: What the workers of this host or pod counted.
        tallies: What was sent.
        forwarder: The id of the forwarder that ran last; `""` for none.
        is_new: Whether it was made just now.
    """

    identity: Identity
    exporter: ExporterState = msgspec.field(default_factory=ExporterState)
    tallies: Tallies = msgspec.field(default_factory=Tallies)
    forwarder: str = ""
    is_new: bool = False


class PodFile:
    """The file that it is kept in; owned by one process at a time.

    A host that crashes may lose it, and then counting begins anew; a process that is killed loses nothing.

    Args:
        directory: Made, for its owner only, when it is missing.

    Raises:
        StateLocked: Another process owns it; the message names it.
        StateError: The directory cannot be made or written.
        StateIncompatible: A sidecar keeps its state there.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / POD_FILE_NAME
        if (directory / DATABASE_NAME).exists():
            raise StateIncompatible(f"{directory}: the state of a sidecar; expected a directory of the forwarder's own")
        self._ownership = Ownership(directory, LOCK_NAME, StateError)
        self._ownership.take()
        self._written = b""

    def load(self, *, ids: str, now_us: int) -> PodState:
        """What was saved last, or a new one when there is nothing that can be read."""
        new = PodState(Identity(secrets.token_hex(16), ids, now_us), is_new=True)
        try:
            self._written = self._path.read_bytes()
            return msgspec.msgpack.decode(self._written, type=PodState)
        except FileNotFoundError:
            return new
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            logger.warning("%s cannot be read, so counting begins anew: %s", self._path, error)
            return new

    def save(self, state: PodState) -> bool:
        """Save it, when it has changed; False when that is not possible now."""
        state.is_new = False
        raw = msgspec.msgpack.encode(state)
        if raw == self._written:
            return True
        temporary = self._path.with_name(f".{POD_FILE_NAME}.{os.getpid()}")
        try:
            temporary.write_bytes(raw)
            temporary.chmod(0o600)
            temporary.replace(self._path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._path, error.strerror)
            return False
        self._written = raw
        return True

    def close(self) -> None:
        """Give the lock back."""
        self._ownership.give_up()
