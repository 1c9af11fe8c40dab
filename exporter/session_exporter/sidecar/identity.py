"""Whose state it is, and whether it is the one that has read the journal so far."""

import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import structs

from session_exporter.config import Config
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.errors import StateIncompatible
from session_exporter.sidecar.records import Identity
from session_exporter.sidecar.secrets import PLAIN_IDS, check_value, read_or_make_key
from session_exporter.sidecar.state import State

if TYPE_CHECKING:
    from session_exporter.sidecar.intake import Intake

logger = logging.getLogger(__name__)

MARK_NAME: Final = ".state"


def identify(state: State, ids: str, source: str, *, now_us: int) -> Identity:
    """The identity of a state from now on, new for a new one.

    A new identity is stored with the first commit, so that a start that was killed before has never been. When its
    `ids` are not those that are stored, what the state knows by its old ids has to be forgotten.

    Args:
        state: Open.
        ids: How ids are written from now on: the check value of the key, or `PLAIN_IDS`.
        source: What is counted.
        now_us: When a new state is made.

    Raises:
        StateIncompatible: The state is of another source.
    """
    identity = state.identity()
    if identity is None:
        return Identity(secrets.token_hex(16), ids, now_us, source)
    if identity.source != source:
        raise StateIncompatible(
            f"{state.directory}: a state of the {identity.source}; expected one of the {source}: "
            "start with --source and --stream.partitions as before, or with another --state.directory"
        )
    if identity.ids != ids:
        logger.warning("ids are written in a new way: sessions and incidents so far are forgotten, counts stay")
    return structs.replace(identity, ids=ids)


def open_ids(state: State, config: Config, intake: "Intake") -> tuple[Identity, Pseudonyms]:
    """The identity of a state as `identify` has it, and the digests of ids under the key in force.

    Raises:
        StateIncompatible: The state is of another source than the intake.
        StateError: The key cannot be read or made.
    """
    privacy = config.privacy
    key = read_or_make_key(state.directory, privacy.key_file)
    ids = PLAIN_IDS if privacy.show_ids else check_value(key)
    identity = identify(state, ids, intake.source(config), now_us=intake.now_us())
    return identity, intake.names(key, config)


class JournalMark:
    """Which state has read a journal, written into its directory.

    Args:
        directory: The journal's.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / MARK_NAME
        self._written = ""

    def names_another(self, identity: Identity) -> bool:
        """Whether another state, which must be lost, has read this journal before."""
        try:
            return self._path.read_text("ascii", "replace").strip() not in {"", identity.id}
        except OSError:
            return False

    def write(self, identity: Identity) -> None:
        """Name this state, once; a directory that cannot be written now is tried again the next time."""
        if self._written == identity.id:
            return
        try:
            self._path.unlink(missing_ok=True)
            self._path.write_text(f"{identity.id}\n", "ascii")
            self._written = identity.id
        except OSError as error:
            logger.debug("%s: %s", self._path, error.strerror)
