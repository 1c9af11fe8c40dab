"""Events as they travel between machines: with digests for ids, and times of one clock."""

from binascii import a2b_base64
from typing import Any, Final, TypeVar

from msgspec import structs

from session_exporter.core import events as wire
from session_exporter.core.ids import generations_of
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.travelling import MARK, text_of
from session_exporter.stream.bounded import BoundedDict

E = TypeVar("E", bound=wire.Event)

# Some 250 bytes each.
TEXTS_MAX: Final = 1 << 16

# An id is digested; a time is of the worker's clock, and 0 stands for none; what is plain names nobody.
ID: Final = "id"
TIME: Final = "time"
PLAIN: Final = "plain"
# What each field of an event is, of whatever kind. `created_at_us` is of the database's clock.
FIELDS: Final = {
    "at_us": TIME,
    "since_us": TIME,
    "opened_at_us": TIME,
    "last_activity_us": TIME,
    "session": ID,
    "user": ID,
    "key": ID,
    "request": ID,
    "generation": ID,
    "expected": ID,
    "actual": ID,
    "asked": ID,
    "other_user": ID,
    "other_request": ID,
    "thread": ID,
    "run": ID,
    "id": ID,
    "scope": PLAIN,
    "trace": PLAIN,
    "sites": PLAIN,
    "reason": PLAIN,
    "kind": PLAIN,
    "outcome": PLAIN,
    "state": PLAIN,
    "errors": PLAIN,
    "last_error": PLAIN,
    "again": PLAIN,
    "origin": PLAIN,
    "missed": PLAIN,
    "shared": PLAIN,
    "kept": PLAIN,
    "halved": PLAIN,
    "of": PLAIN,
    "mismatched": PLAIN,
    "id_kind": PLAIN,
    "form": PLAIN,
    "shape": PLAIN,
    "duration_us": PLAIN,
    "created_at_us": PLAIN,
    "total_time_us": PLAIN,
    "queries": PLAIN,
    "transactions": PLAIN,
}


def _places(kind: Any, what: str) -> tuple[int, ...]:
    return tuple(place for place, name in enumerate(kind.__struct_fields__) if FIELDS[name] == what)


# By kind: the places of ids, and of times.
_PLACES: Final = {kind: (_places(kind, ID), _places(kind, TIME)) for kind in wire.KINDS}


def digest_in(text: str) -> bytes:
    """The digest that a travelling text stands for; empty for `""`."""
    return a2b_base64(text[len(MARK) :])


class Texts(BoundedDict[str, str]):
    """From an id to the text that travels for it, computed when first asked for and remembered for a while.

    Args:
        names: Digests of ids.

    Raises:
        ValueError: `names` shows ids.
    """

    def __init__(self, names: Pseudonyms) -> None:
        super().__init__(TEXTS_MAX)
        if names.show_ids:
            raise ValueError("names must digest ids, got names that show them: ids do not travel")
        self._digest = names.digest

    def __missing__(self, identifier: str) -> str:
        text = text_of(self._digest(identifier))
        if len(self) >= TEXTS_MAX:
            self._make_room()
        self[identifier] = text
        return text


class Rewriter:
    """Makes events of a worker into what may travel; one thread at a time.

    Args:
        names: Digests of ids, under the key that all machines share.
        shift_us: How far the common clock is ahead of the workers'; microseconds, below 0 when it is behind.

    Attributes:
        texts: What travels for an id.
        shift_us: As given; to be set when the clock was measured anew.
    """

    def __init__(self, names: Pseudonyms, *, shift_us: int = 0) -> None:
        self.texts = Texts(names)
        self.shift_us = shift_us

    def rewrite(self, event: E) -> E:
        """The event with the text of its digest for each id, and the common clock's time for each time.

        Of thread, run and request, it is told whether they were made together: afterwards nobody could tell.
        """
        kind: Any = type(event)
        values: list[Any] = list(structs.astuple(event))
        ids, times = _PLACES[kind]
        for place in ids:
            if values[place]:
                values[place] = self.texts[values[place]]
        if self.shift_us:
            for place in times:
                values[place] = self.shifted(values[place])
        told: E = kind(*values)
        if isinstance(event, wire.Identified) and len(generations_of(event.thread, event.run, event.request)) > 1:
            return structs.replace(told, mismatched=True)
        return told

    def shifted(self, at_us: int) -> int:
        """A time of the common clock, for one of the workers'; within what an event can hold. 0 stays 0."""
        return min(max(at_us + self.shift_us, 0), wire.TIME_MAX_US) if at_us else 0
