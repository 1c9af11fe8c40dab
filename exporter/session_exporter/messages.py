"""The messages of a websocket connection: each is a request of its own, begun by the connection's.

A message is current in the task that received it, from then until that task asks for the next one, and in every task
and thread that was begun meanwhile, for as long as the connection lasts: several messages may be worked on at once, and
nothing tells when the work on one of them is done. Between messages the connection's request is current.

A message that was received in a task made for it (as `asyncio.wait_for` does before Python 3.12) is current in the task
that serves the connection as well. A task that reads one message after the other keeps them to itself.

Whether a message got the session that it expected is judged once: when the task that received it asks for the next one,
or, where other tasks have worked on it, when the last of them is done; at the latest when the connection ends. Where
each is received in a task of its own, it is judged when the next one has come.
"""

import sys
from asyncio import Future, Task, current_task, get_running_loop
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final
from weakref import WeakSet, ref

from session_exporter.ambient import Request, Verdict, current, current_request
from session_exporter.patches import OnFailure
from session_exporter.shortfalls import Teller

# Of one message, the tasks that are waited for; one that has more is judged when the connection ends.
WORKERS_MAX: Final = 64


class MessageRequest(Request):
    """One message; over when its connection is.

    Args:
        connection: The connection's request.
        on_failure: Told what goes wrong.
        readers: The tasks that receive messages, and serve the connection: nobody waits for their end.
    """

    __slots__ = ("_connection", "_is_left", "_is_open", "_readers", "_workers")

    def __init__(
        self, connection: Request, on_failure: OnFailure, readers: "tuple[Callable[[], object], ...]" = ()
    ) -> None:
        self._connection = connection
        self._readers = readers
        self._workers: WeakSet[Task[Any]] | None = None
        self._is_open = self._is_left = False
        super().__init__({}, on_failure)

    @property
    def ended(self) -> bool:
        """Whether the connection's request has ended."""
        return self._connection.ended

    @ended.setter
    def ended(self, value: bool) -> None:
        """A message does not end by itself."""

    def bind_user(self, user: object) -> None:
        """Name the user, who is from now on the connection's too, if nobody is yet: a message may bring the token."""
        super().bind_user(user)
        if self.user_id and not self._connection.user_id:
            self._connection.bind_user(self.user_id)

    def when_ended(self, act: Callable[[Request], None]) -> None:
        """Have something done when the connection's request ends, and this one with it."""
        super().when_ended(act)
        self._connection.when_ended(self._end)

    def forget(self, act: Callable[[Request], None]) -> None:
        """Take `when_ended` back; the connection does not hold on to messages that nobody waits for."""
        super().forget(act)
        if not self._when_ended:
            self._connection.forget(self._end)

    def _end(self, _connection: Request) -> None:
        self._tell_ended()

    def note(  # noqa: PLR0917 - as the other one
        self,
        teller: Teller,
        how: int,
        scope: str,
        session: str,
        at_us: int,
        user: str,
        trace: bytes,
        sites: tuple[str, ...] | None = None,
    ) -> None:
        """Take note of what is done with a session, and of the task that does it."""
        super().note(teller, how, scope, session, at_us, user, trace, sites)
        self._follow()

    def is_read_by(self, task: object) -> bool:
        """Whether it was received in this task."""
        return bool(self._readers) and self._readers[0]() is task

    def leave(self) -> None:
        """Judge it, as its reader is done with it; later, while other tasks are at work, or have not begun."""
        self._is_left = True
        if self._is_open and not self._workers:
            self._judge()

    def _hold(self, verdicts: list[Verdict]) -> None:
        super()._hold(verdicts)
        self._follow()

    def _follow(self) -> None:
        if self.course.over:
            return
        if not self._is_open:
            self._is_open = True
            self._connection.when_ended(self._judge_at_last)
        task = _running_task()
        if task is None or any(reader() is task for reader in self._readers):
            return
        if self._workers is None:
            self._workers = WeakSet()
        if task not in self._workers and len(self._workers) <= WORKERS_MAX:
            self._workers.add(task)
            if len(self._workers) <= WORKERS_MAX:
                task.add_done_callback(self._work_done)

    def _work_done(self, task: "Task[Any]") -> None:
        try:
            if self._workers is not None:
                self._workers.discard(task)
            if self._is_left and not self._workers:
                self._judge()
        except Exception as error:  # noqa: BLE001 - counted
            self._on_failure(error)

    def _judge(self) -> None:
        self._connection.forget(self._judge_at_last)
        super()._judge()

    def _judge_at_last(self, _connection: Request) -> None:
        super()._judge()

    def _judged_with(self) -> Request | None:
        """Nothing else: that the connection got a session when it began is no news of this message."""
        return None


class Connection:
    """Makes requests of the messages of one connection; no call raises an Exception.

    Args:
        request: The connection's.
        on_failure: Told what goes wrong.
    """

    def __init__(self, request: Request, on_failure: OnFailure) -> None:
        self._request = request
        self._on_failure = on_failure
        self._context: Context | None = None
        self._server: Callable[[], object] = _nobody
        self._reader: Callable[[], object] = _nobody
        self._first: MessageRequest | None = None
        self._last: MessageRequest | None = None

    async def prepare(self) -> None:
        """Get to know the task that serves the connection, which has to call this."""
        try:
            task = current_task()
        except RuntimeError:  # the event loop is none of asyncio's
            return
        try:
            if task is not None:
                self._server = ref(task)
                self._context = await _context_of(task)
        except Exception as error:  # noqa: BLE001 - counted
            self._on_failure(error)

    def ask(self) -> None:
        """Note that the caller's task is done with its message and asks for the next one."""
        try:
            self._leave_message()
            current.set(self._surroundings())
            first = self._first
            if first is not None and self._context is not None and self._reader() is current_task():
                self._first = None
                get_running_loop().call_soon(_leave, first, self._request, context=self._context)
        except Exception as error:  # noqa: BLE001 - counted
            self._on_failure(error)

    def receive(self) -> None:
        """Begin the request of a message that the caller's task has just received."""
        try:
            last, self._last = self._last, None
            if last is not None:
                last.leave()
            current.set(self._surroundings())
            task = current_task()
            readers = (_nobody if task is None else ref(task), self._server)
            message = MessageRequest(self._request, self._on_failure, readers)
            current.set(message)
            self._tell_server(message)
        except Exception as error:  # noqa: BLE001 - counted
            self._on_failure(error)

    def _leave_message(self) -> None:
        """Have the message that the caller's task has worked on judged, now or when there is another one."""
        message = current_request()
        while message is not None and not isinstance(message, MessageRequest):
            message = message.outer
        if message is None:
            return
        if message.is_read_by(current_task()):
            message.leave()
        else:
            self._last = message  # who serves the connection may still be at work on it

    def _tell_server(self, message: MessageRequest) -> None:
        if self._context is None:
            return
        task = current_task()
        if task is not None and task not in (self._server(), self._reader()):
            self._reader, self._first = ref(task), message
            # Not at once: a task that is run eagerly runs while the context of its maker is in use.
            get_running_loop().call_soon(current.set, message, context=self._context)

    def _surroundings(self) -> Request:
        """What the message is begun in: a request that the application began for the connection, or the connection."""
        innermost = current_request()
        while isinstance(innermost, MessageRequest):
            innermost = innermost.outer
        request = innermost
        while request is not None and request is not self._request:
            request = request.outer
        return self._request if innermost is None or request is None else innermost


def _leave(message: Request, connection: Request) -> None:
    if current.get() is message:
        current.set(connection)


def _nobody() -> None:
    return None


def _running_task() -> "Task[Any] | None":
    try:
        return current_task()
    except RuntimeError:  # a thread, which somebody waits for, or nobody knows of
        return None


async def _context_of(task: "Task[Any]") -> Context | None:
    if sys.version_info >= (3, 12):
        return task.get_context()
    probe = _Probe()
    get_running_loop().call_soon(probe.finish)
    await probe
    return probe.context


class _Probe(Future[None]):
    """Is told the context of the task that waits for it, which Python 3.11 tells nobody else."""

    context: Context | None = None

    def finish(self) -> None:
        """Let the task go on, unless it was cancelled meanwhile."""
        if not self.done():
            self.set_result(None)

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: Context | None = None) -> None:
        self.context = context
        super().add_done_callback(fn, context=context)
