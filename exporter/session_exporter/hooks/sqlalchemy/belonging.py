"""Whose a use of a database session is, and which borders it crosses.

It belongs to the request it began in: to the outermost one, so that the messages of one websocket connection, or the
steps of one job, may share a session. It may be passed from task to task and from thread to thread, one after another.

After its request it is not to be used any more. A middleware around the one that began the request may still commit and
close it, for as long as `GRACE_NS`. And a task that the request has started may go on with a session that it opened
itself, which is nobody else's.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from weakref import ReferenceType, ref

from session_exporter.ambient import Request, current, current_request
from session_exporter.hooks.sqlalchemy.actors import current_actor, current_task

GRACE_NS: Final = 1_000_000_000
# More than anybody nests; and somebody's own kind of request may be its own outer one.
_OUTER_MAX: Final = 64

OTHER_REQUEST: Final = "db_session_crossed_requests"
OTHER_USER: Final = "db_session_of_two_users"
OTHER_TASK: Final = "db_session_crossed_tasks"
OUTLIVED: Final = "db_session_outlived_request"


class Crossing(NamedTuple):
    """A border that was crossed.

    Attributes:
        kind: One of `VIOLATIONS`.
        user: For whom the session was used at last, `""` when not known.
        other_user: For whom it was used before, when that is another one.
        other_request: In which request it was used before.
    """

    kind: str
    user: str
    other_user: str = ""
    other_request: str = ""


class Belonging:
    """Whose one use is.

    Args:
        ended: Called when a request ends that it was used in.

    Attributes:
        user: For whom it was used first, `""` while not known.
        request_id: In which request it was used first; of an outer and an inner one this is the inner one's.
        over_ns: When that request ended, by the monotonic clock; 0 before.
        private: Whether it belongs to a task that the request has started rather than to the request.
    """

    __slots__ = (
        "_ended",
        "_maker",
        "_opener",
        "_root",
        "_root_id",
        "_seen_id",
        "_seen_user",
        "over_ns",
        "private",
        "request_id",
        "user",
    )

    def __init__(self, ended: Callable[[Request], None]) -> None:
        self._ended = ended
        self.user = ""
        self.request_id = ""
        self.over_ns = 0
        self.private = False
        # Weak, because whoever is to be asked for the user may hold the session.
        self._root: ReferenceType[Request] | None = None
        self._root_id = ""
        self._seen_id = self._seen_user = ""
        task: Any = current_task()
        self._maker: ReferenceType[Any] | None = None if task is None else ref(task)
        self._opener = current_actor()

    def is_known(self, innermost: Request | None) -> bool:
        """Whether a visit from there would be nothing new."""
        if innermost is None:
            return not self.over_ns
        return innermost.request_id == self._seen_id and innermost.user_id == self._seen_user and not innermost.ended

    def visit(self, innermost: Request | None, now_ns: int) -> Iterator[Crossing]:
        """Take note of a use in the request whose context variables the caller runs in, which may have ended."""
        request = current_request()
        if self.over_ns and self._is_strange(innermost, request, now_ns):
            yield Crossing(OUTLIVED, self.user, other_request=self.request_id)
        if request is None:
            return
        root = _root_of(request)
        user = request.find_user()
        if not self._root_id:
            self._root, self._root_id, self.request_id = ref(root), root.request_id, request.request_id
        elif root.request_id != self._root_id:
            yield Crossing(OTHER_REQUEST, user, _other(self.user, user), self.request_id)
        yield from self._meet(user, root.request_id == self._root_id)
        root.when_ended(self._ended)
        self._seen_id, self._seen_user = request.request_id, request.user_id

    def leave(self, request: Request, now_ns: int) -> Iterator[Crossing]:
        """Take note of the end of a request that it was used in, whose user may have become known meanwhile."""
        yield from self._meet(request.find_user(), request.request_id == self._root_id)
        if request.request_id == self._root_id:
            self.over_ns = now_ns
            maker = None if self._maker is None else self._maker()
            self.private = maker is not None and maker is not current_task() and not maker.done()

    def settle(self) -> None:
        """Take note of the end of the use, and ask for its user once more."""
        innermost = current.get()
        if self.over_ns and innermost is not None and innermost.ended and self._is_opener():
            self.private = True
        root = None if self._root is None else self._root()
        if root is not None:
            root.forget(self._ended)
            self.user = self.user or root.find_user()

    def is_overdue(self, now_ns: int) -> bool:
        """Whether its request ended so long ago that nobody is cleaning up any more."""
        return bool(self.over_ns) and not self.private and now_ns - self.over_ns > GRACE_NS

    def _meet(self, user: str, at_home: bool) -> Iterator[Crossing]:  # noqa: FBT001 - private
        if user and self.user and user != self.user:
            yield Crossing(OTHER_USER, user, self.user, "" if at_home else self.request_id)
        elif at_home and not self.user:
            self.user = user

    def _is_strange(self, innermost: Request | None, request: Request | None, now_ns: int) -> bool:
        """Whether a use after the end of its request is none of the exceptions."""
        if request is not None:
            return _root_of(request).request_id != self._root_id
        if innermost is None:
            return self.is_overdue(now_ns)
        # In what the request has left behind: its own opener goes on, or somebody that it was given to.
        if not self._is_opener():
            return True
        self.private = True
        return False

    def _is_opener(self) -> bool:
        return current_actor() == self._opener and (self._maker is None or self._maker() is current_task())


def _root_of(request: Request) -> Request:
    for _ in range(_OUTER_MAX):
        outer = request.outer
        if outer is None or outer.ended:
            break
        request = outer
    return request


def _other(before: str, now: str) -> str:
    return before if before != now else ""
