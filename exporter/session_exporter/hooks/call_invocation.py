"""One call of a wrapped function: what it was given, what was seen while it ran, and how it is reported."""

from collections.abc import Mapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from session_exporter import pending
from session_exporter.ambient import current_request
from session_exporter.course import MISSED, TOUCHED
from session_exporter.failures import create_failure, is_conflict
from session_exporter.hooks.call_paths import PathError
from session_exporter.identity import SHORT_CHARS, canonical_id
from session_exporter.moments import moment_us
from session_exporter.reporter import LOOKED_UP, OBSERVED
from session_exporter.surroundings import Surroundings
from session_exporter.wrapped_calls import Call, call_of, current_call

if TYPE_CHECKING:
    from session_exporter.hooks.call_judgement import CallPlan

# Between the wrapped call and what reports of it: a judge, `finish`, and what runs the function.
_FRAMES: Final = 3
# What inner calls got and the outermost one has yet to report; beyond it each is reported at once.
SIGHTINGS_MAX: Final = 64
# Of these, the empty ones say that there is no session. Other objects might run code when asked.
_CONTAINERS: Final[frozenset[type]] = frozenset((dict, list, tuple, str, bytes, bool))


class Sighting(NamedTuple):
    """A session that a call got, whoever made it.

    Attributes:
        created_at_us: When the result says it was created; 0 when it does not say.
        user: Whose, as read from the call; None for the user of the request.
        key: The device, app or thread.
    """

    created_at_us: int
    user: Any
    key: str


class Invocation(Call):
    """One call of a wrapped function, for one plan.

    Between `enter` and one of `resumed`, `detach`, `fail` and `finish` it is the call that statements find around them.

    Args:
        plan: How it is judged.
        instance: The object or class of a method.
        args: By position, without the instance.
        kwargs: By name.

    Attributes:
        plan: As given.
        instance: As given.
        args: As given.
        kwargs: As given.
        user: Read from the call; None for the user of the request.
        key: Read from the call.
        outermost: The call of this scope that it was made in, and belongs to.
        sightings: By session, what inner calls got and this one is to report.
    """

    # As of its class: most calls change few of them.
    user: Any = None
    key = ""
    outermost: Call | None = None
    sightings: dict[str, Sighting] | None = None
    _where: Surroundings | None = None

    def __init__(self, plan: "CallPlan", instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.scope = plan.scope
        self.plan = plan
        self.instance: Any = instance
        self.args: Any = args
        self.kwargs: Any = kwargs
        self.started_ns = 0

    def enter(self) -> None:
        """Begin: from now on it is measured, and what happens belongs to it."""
        plan = self.plan
        if plan.early:
            self._read_owner(None)
        self.started_ns = perf_counter_ns()
        if plan.surrounds:
            if current_call.get() is None:
                self._token = current_call.set(self)  # all that `__enter__` does then
            else:
                self.outermost = call_of(self.scope)
                self.__enter__()

    def leave(self) -> None:
        """End it without a word."""
        if self.plan.surrounds:
            self.__exit__(None, None, None)

    def resumed(self) -> "Invocation":
        """Leave it for another one, which is to be entered when what the function has made begins to run."""
        self.leave()
        later = Invocation(self.plan, self.instance, self.args, self.kwargs)
        later._found, later._made, later.sightings = self._found, self._made, self.sightings
        return later

    def detach(self) -> None:
        """Leave it running on its own, in another task: what happens there still belongs to it."""
        self._where = self.plan.reporter.surroundings()
        self.leave()
        self.ended = False

    def finish(self, result: Any) -> None:
        """End it: the function returned, or yielded, this."""
        took_us = (perf_counter_ns() - self.started_ns) // 1000
        plan = self.plan
        if plan.surrounds:
            self.__exit__(None, None, None)
        if self.outermost is not None and self.outermost.ended:  # it has reported, and will not report for this one
            self.outermost = None
        if plan.late:
            self._read_owner(result)
        plan.judge(self, result, took_us)
        if self.sightings is not None:
            self._report_sightings()
        self.instance = self.args = self.kwargs = None  # a task in the background may keep this call for long

    def fail(self, error: BaseException) -> None:
        """End it: the function raised this."""
        self.leave()
        if self.sightings is not None:
            self._report_sightings()
        holder = self.outermost or self
        if self.plan.makes and isinstance(error, Exception) and not holder.failed:
            holder.failed = True
            self._report_failure(error)
        self.instance = self.args = self.kwargs = None

    def session(self, result: Any) -> str:
        """The session's id, `""` when there is none."""
        plan = self.plan
        if plan.session is None:
            return ""
        if result is not None and type(result) in _CONTAINERS and not result:
            result = None
        if result is None and plan.asks:
            return ""
        found = plan.session(self.instance, self.args, self.kwargs, result)
        if type(found) is str and found and len(found) <= SHORT_CHARS and found.isascii():
            return found
        session = canonical_id(found, "session")
        if not session:
            self._count_miss(result)
        return session

    @property
    def is_alone(self) -> bool:
        """Whether it belongs to no other call, and nothing was found or made inside of it."""
        return self.outermost is None and self._found is None and self._made is None and self.sightings is None

    def _count_miss(self, result: Any) -> None:
        """Count a result in which there is nothing where the path of the session leads.

        Not one that says None there, which is no session, nor one that has no id yet.
        """
        path, says_none = self.plan.mapping.session, self.plan.readers.no_session
        if not path or result is None or _is_new(result):
            return
        if not says_none(self.instance, self.args, self.kwargs, result):
            said = f"{self.plan.mapping.call}: session: {path!r} found nothing in a {type(result).__name__}"
            self.plan.reporter.count_failure(PathError(said))

    def surroundings(self) -> Surroundings:
        """Where it was called."""
        return self._where or self.plan.reporter.surroundings()

    def about(self) -> dict[str, Any]:
        """What every report of it says."""
        return {"scope": self.scope, "user": self.user, "key": self.key, "where": self.surroundings()}

    def looked_up(self, session: str, took_us: int, *, again: bool = False) -> None:
        """Report that the session was asked for."""
        reporter = self.plan.reporter
        asked, surely = ("", True) if session else self._asked()
        if self._where is None and surely:
            rest = (took_us, again, asked) if asked else (took_us, again)
            reporter.report_here(_FRAMES, LOOKED_UP, self.scope, session, self.user, self.key, *rest)
        else:
            about = self.about()
            reporter.looked_up(session, duration_us=took_us, again=again, asked=asked, surely=surely, **about)

    def note(self, session: str) -> None:
        """Have the request know what this call found, of which an outer one reports."""
        asked, surely = (session, True) if session else self._asked()
        if surely:
            self.plan.reporter.note(TOUCHED if session else MISSED, self.scope, asked)

    def _asked(self) -> tuple[str, bool]:
        """The id that was looked for in vain, `""` for the session of the user; and whether it is certain which."""
        plan = self.plan
        try:
            if plan.readers.asked is not None:
                asked = canonical_id(plan.readers.asked(self.instance, self.args, self.kwargs, None), "session")
                if asked:
                    return asked, True
            given = [str(each) for each in (*self.args, *self.kwargs.values()) if isinstance(each, str | int | UUID)]
            request = current_request() if given else None
            expected = "" if request is None else request.find_session()
            if expected and expected in given:
                return expected, True
            if expected and any(_is_alike(each, expected) for each in given if each not in {str(self.user), self.key}):
                return "", False  # it may have been asked for another session, and not for any of the user
        except Exception as error:  # noqa: BLE001 - counted; the lookup is worth recording without it
            plan.reporter.count_failure(error)
            return "", False
        # Given an id that is not known to be the user's, it may have been asked for any session.
        return "", plan.is_by_user or plan.readers.asked is not None or not given

    def observed(self, session: str, created_at_us: int, took_us: int) -> None:
        """Report that the session was got, whoever made it."""
        reporter = self.plan.reporter
        if self._where is None:
            reporter.report_here(_FRAMES, OBSERVED, self.scope, session, self.user, self.key, created_at_us, took_us)
        else:
            reporter.observed(session, created_at_us=created_at_us, duration_us=took_us, **self.about())

    def take(self, session: str) -> int | None:
        """Take over what an inner call got, and know of it; returns when the session was created, as that one read it.

        None when no inner call got this session.
        """
        seen = None if self.sightings is None else self.sightings.pop(session, None)
        if seen is None:
            return None
        self.user = seen.user if self.user is None else self.user
        self.key = self.key or seen.key
        return seen.created_at_us

    def pass_on(self, session: str, created_at_us: int) -> None:
        """Leave it to the outermost call to report what this one got."""
        holder = self.outermost
        if isinstance(holder, Invocation):
            if holder.sightings is None:
                holder.sightings = {}
            if session in holder.sightings or len(holder.sightings) < SIGHTINGS_MAX:
                holder.sightings[session] = Sighting(created_at_us, self.user, self.key)
                return
        self.observed(session, created_at_us, 0)

    def created_at_us(self, result: Any) -> int:
        """When the result says that it was created, 0 when it does not, or when the commit will tell."""
        read = self.plan.readers.created_at
        if read is None or pending.is_watched(self.scope):
            return 0
        try:
            return moment_us(read(self.instance, self.args, self.kwargs, result))
        except Exception as error:  # noqa: BLE001 - counted; the sighting is worth recording without it
            self.plan.reporter.count_failure(error)
        return 0

    def _report_sightings(self) -> None:
        """What inner calls got, and this one did not return."""
        sightings, self.sightings = self.sightings or {}, None
        for session, (created_at_us, user, key) in sightings.items():
            about = {**self.about(), "user": user, "key": key}
            self.plan.reporter.observed(session, created_at_us=created_at_us, **about)

    def _report_failure(self, error: Exception) -> None:
        if self.plan.late:
            self._read_owner(None)
        reporter = self.plan.reporter
        if is_conflict(error):
            reporter.conflicted(None, **self.about())
        else:
            reporter.create_failed(create_failure(error), **self.about())

    def _read_owner(self, result: Any) -> None:
        readers = self.plan.readers
        try:
            if readers.user is not None:
                self.user = readers.user(self.instance, self.args, self.kwargs, result)
            if readers.key is not None:
                self.key = canonical_id(readers.key(self.instance, self.args, self.kwargs, result), "key")
        except Exception as error:  # noqa: BLE001 - counted; the event is worth recording without it
            self.plan.reporter.count_failure(error)


def _is_alike(text: str, expected: str) -> bool:
    """Whether a text may be an id as well, if the expected one is: of the same length, with the same signs in it."""
    if expected.isdigit():
        return text.isdigit()
    return len(text) == len(expected) and all(
        one.isalnum() if other.isalnum() else one == other for one, other in zip(text, expected, strict=True)
    )


def _is_new(result: Any) -> bool:
    """Whether it is an object of SQLAlchemy without an identity: not flushed yet."""
    state = getattr(result, "_sa_instance_state", None)
    return state is not None and state.key is None
