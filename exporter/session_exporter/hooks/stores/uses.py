"""What one command's work on one session means: an event or none, and what is known from then on."""

from dataclasses import dataclass

from session_exporter.core.events import UPSERT
from session_exporter.course import MISSED, TOUCHED
from session_exporter.hooks.stores.commands import KeyOutcome, KeyReading
from session_exporter.hooks.stores.contents import user_in
from session_exporter.hooks.stores.keys import Store
from session_exporter.hooks.stores.memory import TRUSTED_US, KnownSession
from session_exporter.reporter import Reporter
from session_exporter.surroundings import Surroundings
from session_exporter.wrapped_calls import Call, call_of


class Exchange:
    """What commands have in common that were sent at once, and have just returned.

    Args:
        reporter: Where their surroundings and the time are known.

    Attributes:
        at_us: When they returned; microseconds since the epoch.
        met: The sessions they have been about so far, with their scopes.
    """

    __slots__ = ("_reporter", "_where", "at_us", "met")

    def __init__(self, reporter: Reporter) -> None:
        self.at_us = reporter.now_us()
        self.met: set[tuple[str, str]] = set()
        self._reporter = reporter
        self._where: Surroundings | None = None

    @property
    def where(self) -> Surroundings:
        """What surrounds them; not asked for where nothing is reported, as it takes longer than everything else."""
        if self._where is None:
            self._where = self._reporter.surroundings()
        return self._where


@dataclass(slots=True)
class KeyUse:
    """One command's work on one session.

    The methods report what a reading of its reply says, and return what is known of the session from now on; None for
    nothing.

    Attributes:
        reporter: Where to.
        store: Where the session is.
        session: Its id.
        known: What was known of it before.
        exchange: What surrounds it.
        duration_us: How long the command took; 0 when it was one of several.
        again: Whether a command sent with it has been about this session before.
    """

    reporter: Reporter
    store: Store
    session: str
    known: KnownSession | None
    exchange: Exchange
    duration_us: int
    again: bool

    def looked_up(self, reading: KeyReading) -> KnownSession | None:
        """Somebody asked for it."""
        emptied = self._is_empty(reading.value)
        if reading.outcome is KeyOutcome.FOUND and not emptied:
            found = self._found(user_in(reading.value, self.store.path))
            return self.known if self._may_be_empty(reading.value) else found
        if reading.outcome is KeyOutcome.NO_FIELD and self._is_trusted:
            return self._found("")
        is_missed = reading.outcome is not KeyOutcome.NO_FIELD
        if self._call is None:
            self._report_lookup("", self._user, surely=is_missed)
        elif is_missed:
            self.reporter.note(MISSED, self.store.scope, self.session)
        return None if reading.outcome is KeyOutcome.NO_FIELD else self._gone(emptied=emptied)

    def written(self, reading: KeyReading) -> KnownSession:
        """Something was written under its key."""
        made = self._is_new(reading)
        if self.store.is_end(reading.value):
            return self._gone(emptied=True) if made else self._ended(emptied=True)
        user = user_in(reading.value, self.store.path)
        if not made and (reading.outcome is KeyOutcome.CHANGED or self._is_trusted):
            return self._goes_on(user)
        report = self._report_create if made else self._report_sighting
        report(user)
        if self._call is not None:
            self._call.made.add(self.session)
        return KnownSession(alive=True, user=user, at_us=self.exchange.at_us)

    def removed(self, reading: KeyReading) -> KnownSession:
        """Its key was there, and is gone."""
        return self._gone() if self._is_empty(reading.held) else self._ended()

    def touched(self, reading: KeyReading) -> KnownSession | None:
        """Its key was there, and stays there for longer."""
        return self.known if self._may_be_empty(reading.value) else self._goes_on("")

    def present(self, reading: KeyReading) -> KnownSession | None:
        """Its key is there, which is nothing to report."""
        if self.store.is_end(reading.value):
            return self._gone(emptied=True)
        return self.known if self._may_be_empty(reading.value) else self._there("")

    def absent(self, _: KeyReading) -> KnownSession:
        """Its key is not there, which is nothing to report."""
        return self._gone()

    def _is_new(self, reading: KeyReading) -> bool:
        """Whether what was written was not there before."""
        if reading.held is not None:
            return self.store.is_end(reading.held)
        if reading.outcome is KeyOutcome.WROTE:
            return self.store.reads_first if self.known is None else not self.known.alive
        return reading.outcome is KeyOutcome.MADE or (self.known is not None and self.known.emptied)

    def _is_empty(self, value: object) -> bool:
        """Whether an empty value is, or was, under its key; one that was not seen is taken to be what it was."""
        return self.store.is_end(value) if value is not None else self.known is not None and self.known.emptied

    def _may_be_empty(self, value: object) -> bool:
        return self.store.empty_is_end and value is None and not self._is_trusted

    @property
    def _user(self) -> str:
        return "" if self.known is None else self.known.user

    @property
    def _is_trusted(self) -> bool:
        """Whether it is there, as far as this process has heard lately."""
        known = self.known
        return known is not None and known.alive and self.exchange.at_us - known.at_us < TRUSTED_US

    @property
    def _call(self) -> Call | None:
        return call_of(self.store.scope)

    def _found(self, user: str) -> KnownSession:
        call = self._call
        if call is None:
            self._report_lookup(self.session, user)
            return KnownSession(alive=True, user=user or self._user, at_us=self.exchange.at_us)
        call.found.add(self.session)
        # Whose a session is that is new to this process, the call says.
        return self._goes_on(user) if self.known is not None else self._there(user)

    def _goes_on(self, user: str) -> KnownSession:
        """It was there, and is; `user` is what its value says. There is no event for activity alone."""
        news = bool(user) and user != self._user
        if self._is_trusted and not news:
            return self._there(user)
        whose = user or self._user or self.exchange.where.user_id
        if not whose:
            return self._there(user)
        self.reporter.attributed(self.session, scope=self.store.scope, user=whose, where=self.exchange.where)
        return KnownSession(alive=True, user=user or self._user, at_us=self.exchange.at_us)

    def _there(self, user: str) -> KnownSession:
        self.reporter.note(TOUCHED, self.store.scope, self.session)
        at_us = self.known.at_us if self.known is not None and self._is_trusted else self.exchange.at_us
        return KnownSession(alive=True, user=user or self._user, at_us=at_us)

    def _gone(self, *, emptied: bool = False) -> KnownSession:
        return KnownSession(alive=False, user="", at_us=self.exchange.at_us, emptied=emptied)

    def _ended(self, *, emptied: bool = False) -> KnownSession:
        user, where = self._user or None, self.exchange.where
        self.reporter.ended(self.session, scope=self.store.scope, user=user, where=where, reason="deleted")
        return self._gone(emptied=emptied)

    def _report_lookup(self, session: str, user: str, *, surely: bool = True) -> None:
        self.reporter.looked_up(
            session,
            asked="" if session else self.session,
            surely=surely,
            scope=self.store.scope,
            user=user or None,
            where=self.exchange.where,
            duration_us=self.duration_us,
            again=self.again,
        )

    def _report_create(self, user: str) -> None:
        self.reporter.created(self.session, scope=self.store.scope, user=user or None, where=self.exchange.where)

    def _report_sighting(self, user: str) -> None:
        where = self.exchange.where
        self.reporter.observed(self.session, scope=self.store.scope, user=user or None, where=where, origin=UPSERT)
