"""Ids against the formats that their scope declares, by the last who has them: only digests travel."""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from session_exporter.core import events as wire
from session_exporter.core.ids import IdFormat, shape_of
from session_exporter.stream.bounded import BoundedDict

# Some 300 bytes each. One that is forgotten is compared, and told, once more.
CHECKED_MAX: Final = 1 << 16
# What is no session of the application's: what a stranger may have written, or the id of a use of a database session.
_WITHOUT_SESSION: Final = (wire.Unmet, wire.Violated)

# A scope, a kind of id and an id of it.
Known: TypeAlias = tuple[str, str, str]


class Checks(BoundedDict[Known, None]):
    """The ids that were compared, and their verdicts sent."""

    def __init__(self) -> None:
        super().__init__(CHECKED_MAX)

    def of(
        self, event: wire.Event, told: wire.Event, formats: Mapping[str, IdFormat]
    ) -> Iterator[tuple[Known, wire.Checked]]:
        """Compare those ids of an event that are new.

        Args:
            event: As the worker wrote it.
            told: The same, as it travels.
            formats: What its scope declares, by kind of id.

        Yields:
            By what it is to be kept once it is sent, what is to be told of each.
        """
        if isinstance(event, wire.DbSession):
            return
        for kind, declared in formats.items():
            id_ = getattr(event, kind, "")
            known = (event.scope, kind, id_)
            if not id_ or known in self or (kind == "session" and isinstance(event, _WITHOUT_SESSION)):
                continue
            base = (told.at_us, told.scope, told.session, told.user, told.key, told.request, told.trace)
            yield known, wire.Checked(*base, getattr(told, kind), kind, declared.classify(id_), shape_of(id_))
