"""What happened around incidents: collected in one pass over the events, then chosen for each incident."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from session_exporter.core import events as wire
from session_exporter.core.incidents import Incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.core.recollection import Remembered, is_noise

# One in so many events of a story is kept for what came after the incident.
AFTER_SHARE: Final = 4


class NearEvent(NamedTuple):
    """An event that an incident may be told with.

    Attributes:
        at_us: Event time.
        order: Its number among all that were ever added.
        user: Hash of its user's digest; 0 when not known.
    """

    at_us: int
    order: int
    user: int


NearEvents: TypeAlias = list[NearEvent]


class Vicinity:
    """Collects what happened around incidents.

    Args:
        incidents: All that are waiting to be told.
        events_per_user: Of each user of an incident, and of all others that had to do with its sessions, so many
            events are chosen.
        reach_us: Nothing is chosen that is further away from the incident; microseconds.

    Attributes:
        users: By the hash of a wanted user's digest, the user's events.
        sessions: By the hash of a wanted session's digest, the session's events.
    """

    def __init__(self, incidents: Iterable[Incident], events_per_user: int, reach_us: int) -> None:
        self._incidents = list(incidents)
        self._count = events_per_user
        self._reach_us = reach_us
        self.users: dict[int, NearEvents] = {hash(user): [] for each in self._incidents for user in each.users if user}
        self.sessions: dict[int, NearEvents] = {
            hash(session): [] for each in self._incidents for session in each.sessions if session
        }
        self._odd_ids = {
            (hash(user), each.at_us) for each in self._incidents if each.kind == "invalid_id" for user in each.users
        }

    def tells_of_user(self, event: wire.Event | Remembered, user: int) -> bool:
        """Whether an event of a wanted user, whose hash it is, tells anything: ids do where one of them is invalid."""
        is_odd = isinstance(event, wire.Identified) and (user, event.at_us) in self._odd_ids
        return is_odd or not is_noise(event)

    @staticmethod
    def tells_of_session(event: wire.Event | Remembered, _session: int) -> bool:
        """Whether an event of a wanted session tells anything: of a database session, where it was opened."""
        return isinstance(event, wire.DbSession) or not is_noise(event)

    def sort(self) -> None:
        """Bring what was collected into the order of time."""
        for hits in (*self.users.values(), *self.sessions.values()):
            hits.sort()

    def around(self, incident: Incident) -> list[int]:
        """The order numbers of the events to tell an incident with, in the order of time; after `sort`."""
        found: set[NearEvent] = set()
        for hits in self._hits_of(incident):
            found.update(around(hits, incident.at_us, self._count))
        own = {hash(user) for user in incident.users if user}
        groups: dict[int, NearEvents] = {}
        for hit in sorted(found):
            if abs(hit.at_us - incident.at_us) <= self._reach_us:
                groups.setdefault(hit.user if hit.user in own else 0, []).append(hit)
        chosen = [hit for group in groups.values() for hit in around(group, incident.at_us, self._count)]
        return [hit.order for hit in sorted(chosen)]

    def _hits_of(self, incident: Incident) -> Iterable[NearEvents]:
        yield from (self.users[hash(user)] for user in incident.users if user)
        yield from (self.sessions[hash(session)] for session in incident.sessions if session)


class Errors:
    """Collects database errors, and finds the one that came before an incident.

    Args:
        names: For the labels of requests.
        windows_us: By scope, for how long before an incident an error counts; microseconds.
        incidents: All that are waiting to be told; at least one.

    Attributes:
        span_us: From when to when an error can have come before any of the incidents.
        users: Hashes of the digests of their users.
        requests: Hashes of what their requests are called.
        traces: Their traces.
    """

    def __init__(self, names: Pseudonyms, windows_us: Mapping[str, int], incidents: Collection[Incident]) -> None:
        self._names = names
        self._windows_us = windows_us
        self._by_mark: dict[int | str, list[tuple[int, int, Remembered]]] = {}
        self.span_us = min(map(self._begin_us, incidents)), max(each.at_us for each in incidents)
        self.users = {hash(user) for each in incidents for user in each.users if user}
        self.requests = {hash(text) for each in incidents for text in _texts(each, "request")}
        self.traces = {bytes.fromhex(text) for each in incidents for text in _texts(each, "trace")}

    def add(self, order: int, event: Remembered) -> None:
        """Collect the error that is of this order among all events."""
        evidence = event.evidence
        for mark in (self._names.label("r", evidence.request), evidence.trace.hex(), hash(event.user)):
            if mark:
                self._by_mark.setdefault(mark, []).append((event.at_us, order, event))

    def sort(self) -> None:
        """Bring what was collected into the order of time."""
        for found in self._by_mark.values():
            found.sort(key=itemgetter(0, 1))

    def before(self, incident: Incident) -> Remembered | None:
        """The latest error of the same request, trace or user in the window before an incident; after `sort`."""
        newest = [
            found[index - 1]
            for mark in _marks(incident)
            if (found := self._by_mark.get(mark)) is not None
            and (index := bisect_right(found, incident.at_us, key=itemgetter(0)))
            and found[index - 1][0] >= self._begin_us(incident)
        ]
        return max(newest, key=itemgetter(0, 1))[2] if newest else None

    def _begin_us(self, incident: Incident) -> int:
        return incident.at_us - self._windows_us.get(incident.scope, 0)


def around(events: NearEvents, at_us: int, count: int) -> NearEvents:
    """The `count` events around a time: mostly what led to it, but of what came after it a quarter, if there is any.

    What one side does not need, the other gets.

    Args:
        events: In the order of time.
        at_us: That time.
        count: How many at most.
    """
    middle = bisect_right(events, at_us, key=itemgetter(0))
    after = min(len(events) - middle, max(count // AFTER_SHARE, count - middle))
    return events[max(middle + after - count, 0) : middle + after]


def _marks(incident: Incident) -> set[int | str]:
    """What tells the requests, traces and users of an incident: labels, hexadecimal texts, and hashes of digests."""
    texts = [*_texts(incident, "request"), *_texts(incident, "trace")]
    return {*texts, *(hash(user) for user in incident.users if user)}


def _texts(incident: Incident, name: str) -> list[str]:
    """What an incident, and each create that it tells, say by a name."""
    detail = incident.detail
    return [text for each in (detail, *detail.get("creates", ())) if (text := each.get(name, ""))]
