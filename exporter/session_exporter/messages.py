"""The messages of a websocket connection: each is a request of its own, begun by the connection's.

A message is current in the task that received it, from then until that task asks for the next one, and in every task
and thread that was begun meanwhile, for as long as the connection lasts: several messages may be worked on at once, and
nothing tells when the work on one of them is done. Between messages the connection's request is current.

A message that was received in a task made for it (as `asyncio.wait_for` does before Python 3.12) is current in the task
that serves the connection as well. A task that reads one message after the other keeps them to itself.
"""

import sys
from asyncio import Future, Task, current_task, get_running_loop
from collections.abc import Callable
from contextvars import Context
from typing import Any
from weakref import ref

from session_exporter.ambient import OnFailure, Request, current, current_request


class MessageRequest(Request):
    """One message; over when its connection is.

    Args:
        connection: The connection's request.
        on_failure: Told what goes wrong.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Request, on_failure: OnFailure) -> None:
        self._connection = connection
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
            current.set(self._surroundings())
            message = MessageRequest(self._request, self._on_failure)
            current.set(message)
            self._tell_server(message)
        except Exception as error:  # noqa: BLE001 - counted
            self._on_failure(error)

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
