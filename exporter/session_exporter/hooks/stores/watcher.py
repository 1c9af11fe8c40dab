"""What is reported of the commands that are about sessions."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from session_exporter.course import SWEPT
from session_exporter.failures import create_failure
from session_exporter.hooks.stores.commands import COMMANDS, KeyOutcome, KeyReading, may_create
from session_exporter.hooks.stores.contents import user_in
from session_exporter.hooks.stores.keys import NO_HITS, Finder, Hit
from session_exporter.hooks.stores.memory import KnownSession, StoreMemory
from session_exporter.hooks.stores.uses import Exchange, KeyUse
from session_exporter.mappings import StoreMapping
from session_exporter.reporter import Reporter
from session_exporter.wrapped_calls import call_of

_MEANINGS: Final[Mapping[KeyOutcome, Callable[[KeyUse, KeyReading], KnownSession | None]]] = {
    KeyOutcome.FOUND: KeyUse.looked_up,
    KeyOutcome.MISSED: KeyUse.looked_up,
    KeyOutcome.NO_FIELD: KeyUse.looked_up,
    KeyOutcome.MADE: KeyUse.written,
    KeyOutcome.CHANGED: KeyUse.written,
    KeyOutcome.WROTE: KeyUse.written,
    KeyOutcome.REMOVED: KeyUse.removed,
    KeyOutcome.TOUCHED: KeyUse.touched,
    KeyOutcome.PRESENT: KeyUse.present,
    KeyOutcome.ABSENT: KeyUse.absent,
}

_logger = logging.getLogger("session_exporter")


class Staged(NamedTuple):
    """A command of a pipeline that is about sessions.

    Attributes:
        place: Its place among the commands, and that of its reply among the replies.
        arguments: Its own.
        hits: The sessions.
    """

    place: int
    arguments: Sequence[Any]
    hits: tuple[Hit, ...]


class StoreWatcher:
    """Reports what commands do to sessions. No call raises an Exception.

    Args:
        mappings: Which keys are sessions.
        reporter: Where to.

    Attributes:
        active: False to let everything pass.
    """

    def __init__(self, mappings: Sequence[StoreMapping], reporter: Reporter) -> None:
        self.active = True
        self._finder = Finder(mappings)
        self._reporter = reporter
        self._memory = StoreMemory()
        self._said = False

    def count_failure(self, error: Exception) -> None:
        """Count a failure of the hook."""
        self._reporter.count_failure(error)

    def find(self, arguments: Sequence[Any]) -> tuple[Hit, ...]:
        """The sessions that a command is about."""
        try:
            command = COMMANDS.get(arguments[0])
            return self._finder.find(command, arguments) if command is not None and self.active else NO_HITS
        except Exception as error:  # noqa: BLE001 - counted
            self._reporter.count_failure(error)
            return NO_HITS

    def find_all(self, commands: Sequence[tuple[Sequence[Any], object]]) -> list[Staged]:
        """The commands of a pipeline, as the client keeps them, that are about sessions."""
        try:
            found = (Staged(place, each[0], self.find(each[0])) for place, each in enumerate(commands))
            return [staged for staged in found if staged.hits]
        except Exception as error:  # noqa: BLE001 - counted
            self._reporter.count_failure(error)
            return []

    def replied(self, hits: tuple[Hit, ...], arguments: Sequence[Any], reply: Any, duration_us: int) -> None:
        """Report a command that took `duration_us` microseconds."""
        try:
            exchange = Exchange(self._reporter)
            self._read(hits, arguments, reply, exchange, duration_us if len(hits) == 1 else 0)
        except Exception as error:  # noqa: BLE001 - counted
            self._reporter.count_failure(error)

    def replied_all(self, commands: list[Staged], replies: Sequence[Any]) -> None:
        """Report the commands of a pipeline; a reply may be the error of its command."""
        try:
            exchange = Exchange(self._reporter)
            for place, arguments, hits in commands:
                if isinstance(replies[place], Exception):
                    self._fail(hits, arguments, replies[place], exchange)
                else:
                    self._read(hits, arguments, replies[place], exchange)
        except Exception as error:  # noqa: BLE001 - counted
            self._reporter.count_failure(error)

    def failed(self, commands: list[Staged], failure: Exception) -> None:
        """Report commands that were not carried out, as far as the client can tell."""
        try:
            exchange = Exchange(self._reporter)
            for _, arguments, hits in commands:
                self._fail(hits, arguments, failure, exchange)
        except Exception as error:  # noqa: BLE001 - counted
            self._reporter.count_failure(error)

    def _fail(self, hits: tuple[Hit, ...], arguments: Sequence[Any], failure: Exception, exchange: Exchange) -> None:
        for command, at, store, session in hits:
            known = self._memory.get(store.scope, session)
            if command.written is None or not may_create(command, arguments) or (known is not None and known.alive):
                continue
            value = command.written(arguments, at)
            if store.is_end(value):
                continue
            user = user_in(value, store.path) or None
            self._reporter.create_failed(create_failure(failure), scope=store.scope, user=user, where=exchange.where)
            call = call_of(store.scope)
            if call is not None:
                call.failed = True

    def _read(
        self, hits: tuple[Hit, ...], arguments: Sequence[Any], reply: Any, exchange: Exchange, duration_us: int = 0
    ) -> None:
        for command, at, store, session in hits:
            reading = command.read(arguments, at, reply)
            again = (store.scope, session) in exchange.met
            exchange.met.add((store.scope, session))
            known = self._memory.get(store.scope, session)
            use = KeyUse(self._reporter, store, session, known, exchange, duration_us, again)
            then = self._take(use, reading)
            if then is None:
                self._memory.forget(store.scope, session)
            elif then is not known:
                self._memory.put(store.scope, session, then)

    def _take(self, use: KeyUse, reading: KeyReading) -> KnownSession | None:
        """Report one reading; returns what is known from now on."""
        if reading.outcome is KeyOutcome.UNTOLD:
            self._say()
            self._reporter.note(SWEPT, use.store.scope, use.session)
            return None
        meaning = _MEANINGS.get(reading.outcome)
        return use.known if meaning is None else meaning(use, reading)

    def _say(self) -> None:
        if not self._said:
            self._said = True
            _logger.info("hook redis: a reply for several keys told only how many there were; no session is reported")
