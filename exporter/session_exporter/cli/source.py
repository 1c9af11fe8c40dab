"""Where view-metrics gets its documents: a sidecar, or the state it left behind."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from session_exporter.cli.client import DEFAULT_URL, Sidecar, SilentPeerError
from session_exporter.core.plaintext import inert
from session_exporter.errors import StateError


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for; what is None does not choose.

    Attributes:
        since_s: How far back, seconds; counts only without `id` and `after`.
        scope: The scope's name.
        kind: Of incidents.
        cause: Of duplicates.
        reason: Of losses, or the kind of violations.
        limit: At most so many.
        id: An incident's id, or the beginning of one.
        user: Somebody's plain id.
        after: What an earlier answer called `next`.
    """

    since_s: float
    scope: str | None = None
    kind: str | None = None
    cause: str | None = None
    reason: str | None = None
    limit: int = 20
    id: str | None = None
    user: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class StateLocation:
    """Where a state is, and the key of its digests, when that is not beside it."""

    directory: Path
    key_file: Path | None = None


_Reader: TypeAlias = Callable[[StateLocation, Question], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A document, who gave it, and what a person should know about that (`""` when nothing)."""

    document: dict[str, Any]
    origin: str
    note: str = ""


class AnySource(Protocol):
    """Who is asked; all three raise a SessionExporterError that says why there is no answer."""

    def summary(self, question: Question) -> Answer:
        """Get the summary document."""
        ...

    def incidents(self, question: Question) -> Answer:
        """Get incidents, newest first; with `after` those that were committed since, the oldest first."""
        ...

    def lookups(self, question: Question) -> Answer:
        """Get where sessions were looked up."""
        ...


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """Who is asked, in order: the sidecar, then the state in its directory.

    Attributes:
        sidecar: The sidecar to ask; None to read the state at once.
        is_only: Nobody else is asked than the sidecar.
        state_directory: Where the state is; None for the configuration's, else the default directory.
        config_file: The configuration that names the state directory; None when there is none.
    """

    sidecar: Sidecar | None = field(default_factory=lambda: Sidecar.at(DEFAULT_URL))
    is_only: bool = False
    state_directory: Path | None = None
    config_file: Path | None = None

    def summary(self, question: Question) -> Answer:
        """Get the summary document.

        Raises:
            PeerError: The sidecar answered, but not as it should; or it did not, and is the only one to ask.
            StateError: The state cannot be read, or does not know the scope.
            ConfigError: The configuration cannot be read.
        """
        return self._first(_sidecar_summary, _state_summary, question)

    def incidents(self, question: Question) -> Answer:
        """Get the incidents, `{"incidents": [...], "next": "..."}`, newest first; raises as `summary` does.

        With `after` they are those that were committed since, the oldest first.
        """
        return self._first(_sidecar_incidents, _state_incidents, question)

    def lookups(self, question: Question) -> Answer:
        """Get where sessions were looked up; raises as `summary` does."""
        return self._first(_sidecar_lookups, _state_lookups, question)

    def _first(
        self,
        ask: Callable[[Sidecar, Question], dict[str, Any]],
        read: _Reader,
        question: Question,
    ) -> Answer:
        if self.sidecar is None:
            return self._from_state(read, question)
        try:
            return Answer(ask(self.sidecar, question), origin=self.sidecar.base_url)
        except SilentPeerError as exc:
            if self.is_only:
                raise
            return self._instead(exc, read, question)

    def _instead(self, absence: SilentPeerError, read: _Reader, question: Question) -> Answer:
        try:
            answer = self._from_state(read, question)
        except StateError as exc:
            raise StateError(f"{absence}; and {exc}") from exc
        return replace(answer, note=f"{absence}; this is {answer.origin}")

    def _from_state(self, read: _Reader, question: Question) -> Answer:
        with _sidecar_libraries():
            place = self._place()
        directory = place.directory
        try:
            with _sidecar_libraries():
                document = read(place, question)
        except KeyError as exc:
            if exc.args != (question.scope,):
                raise
            raise StateError(f"the state in {directory} knows no scope {inert(str(question.scope))!r}") from exc
        except OSError as exc:
            raise StateError(f"the state in {directory} cannot be read: {exc}") from exc
        return Answer(document, origin=f"the state in {directory}")

    def _place(self) -> StateLocation:
        directory, key_file = self.state_directory, None
        if self.config_file is not None:
            from session_exporter.config import load  # noqa: PLC0415 - brings PyYAML, which few calls need

            config = load(self.config_file)
            directory, key_file = directory or config.state.directory, config.privacy.key_file
        return StateLocation(directory or _default_directory(), key_file)


@contextmanager
def _sidecar_libraries() -> Iterator[None]:
    try:
        yield
    except ImportError as exc:
        needed = "pip install 'session-exporter[sidecar]'"
        raise StateError(f"the state cannot be read without the sidecar's libraries ({exc}): {needed}") from exc


def _default_directory() -> Path:
    from session_exporter.sidecar.state import default_directory  # noqa: PLC0415 - see _state_summary

    return default_directory()


def _sidecar_summary(sidecar: Sidecar, question: Question) -> dict[str, Any]:
    return sidecar.summary(since_s=question.since_s, scope=question.scope)


def _state_summary(place: StateLocation, question: Question) -> dict[str, Any]:
    # A sidecar that answers is the rule; its modules are loaded only when none does.
    from session_exporter.sidecar.summary import read_summary  # noqa: PLC0415

    return read_summary(place.directory, since_s=question.since_s, scope=question.scope, now_us=_now_us())


def _sidecar_incidents(sidecar: Sidecar, question: Question) -> dict[str, Any]:
    return sidecar.incidents(
        since_s=question.since_s,
        scope=question.scope,
        kind=question.kind,
        cause=question.cause,
        reason=question.reason,
        limit=question.limit,
        identifier=question.id,
        user=question.user,
        after=question.after,
    )


def _state_incidents(place: StateLocation, question: Question) -> dict[str, Any]:
    from session_exporter.sidecar.incidents import Wanted, label_in_state, read_incidents  # noqa: PLC0415 - as above

    user = question.user
    if user is not None:
        user = label_in_state(place.directory, place.key_file, user)
    wanted = Wanted(**asdict(replace(question, user=user)))
    return read_incidents(place.directory, wanted, now_us=_now_us())


def _sidecar_lookups(sidecar: Sidecar, question: Question) -> dict[str, Any]:
    return sidecar.lookups(since_s=question.since_s, scope=question.scope, limit=question.limit)


def _state_lookups(place: StateLocation, question: Question) -> dict[str, Any]:
    from session_exporter.sidecar.lookups import read_lookups  # noqa: PLC0415 - see _state_summary

    since_s, scope, limit = question.since_s, question.scope, question.limit
    return read_lookups(place.directory, since_s=since_s, scope=scope, limit=limit, now_us=_now_us())


def _now_us() -> int:
    return time.time_ns() // 1000
