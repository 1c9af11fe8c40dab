"""Which keys are a session's, and whose id they hold."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from session_exporter.hooks.stores.commands import ONE, Command
from session_exporter.hooks.stores.contents import is_empty
from session_exporter.identity import canonical_id
from session_exporter.mappings import StoreMapping


class Hit(NamedTuple):
    """A key of a command that is a session's.

    Attributes:
        command: How to read it.
        at: The key's place among the arguments.
        store: The mapping's form.
        session: The session's id.
    """

    command: Command
    at: int
    store: "Store"
    session: str


NO_HITS: Final[tuple[Hit, ...]] = ()


class Store:
    """A mapping, ready to compare with keys.

    Attributes:
        scope: The kind of session.
        path: Where the user is in the value.
        reads_first: As in the mapping.
        empty_is_end: As in the mapping.
    """

    def __init__(self, mapping: StoreMapping) -> None:
        self.scope = mapping.scope
        self.path = tuple(mapping.user_path.split(".")) if mapping.user_path else ()
        self.reads_first = mapping.reads_first
        self.empty_is_end = mapping.empty_is_end
        self.prefix, _, self._suffix = mapping.pattern.partition("*")
        self._bytes = self.prefix.encode(), self._suffix.encode()

    def session_of(self, key: str | bytes) -> str:
        """The id that a key holds; `""` for the key of something else."""
        # Not by a pattern: everything but the one `*` stands for itself.
        prefix, suffix = (self.prefix, self._suffix) if isinstance(key, str) else self._bytes
        if not (key.startswith(prefix) and key.endswith(suffix)):  # type: ignore[arg-type]  # both are of the key's type
            return ""
        return canonical_id(key[len(prefix) : len(key) - len(suffix)], "session")

    def is_end(self, value: object) -> bool:
        """Whether there is no session while there is this value under its key."""
        return self.empty_is_end and is_empty(value)


class Finder:
    """Finds the sessions that a command is about.

    Args:
        mappings: The first one whose pattern fits a key is the key's.
    """

    def __init__(self, mappings: Sequence[StoreMapping]) -> None:
        self._stores = tuple(Store(mapping) for mapping in mappings)
        self._prefixes = tuple(store.prefix for store in self._stores)

    def find(self, command: Command, arguments: Sequence[Any]) -> tuple[Hit, ...]:
        """The keys that are sessions'; most commands have none, and are let through quickly."""
        if command.keys is ONE and len(arguments) > 1:
            hit = self._hit(command, 1, arguments[1])
            return NO_HITS if hit is None else (hit,)
        # A command may name a key twice.
        found: dict[tuple[Store, str], Hit] = {}
        for at in range(*command.keys.indices(len(arguments))):
            hit = self._hit(command, at, arguments[at])
            if hit is not None:
                found[hit.store, hit.session] = hit
        return tuple(found.values())

    def _hit(self, command: Command, at: int, key: object) -> Hit | None:
        if type(key) is str and not key.startswith(self._prefixes):
            return None
        given = _sent(key)
        for store in self._stores:
            session = store.session_of(given)
            if session:
                return Hit(command, at, store, session)
        return None


def _sent(key: object) -> str | bytes:
    """The key as the client sends it."""
    if isinstance(key, str | bytes):
        return key
    return bytes(key) if isinstance(key, memoryview) else str(key)
