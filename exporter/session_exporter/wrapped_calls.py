"""The wrapped calls under way: what statements inside of them find belongs to the outermost one of its scope."""

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self


class Call:
    """A wrapped call under way: a context manager. What statements inside of it find belongs to it.

    Args:
        scope: Whose session it is about.

    Attributes:
        scope: As given.
        failed: Whether a statement inside of it has reported that its create failed.
        ended: Whether the block was left; what it has started in the background is then no longer in it.
    """

    # What most calls never change is kept by the class: some are made many times per request.
    failed = False
    ended = False
    _found: set[str] | None = None
    _made: set[str] | None = None
    _outer: "Call | None" = None
    _token: "Token[Call | None] | None" = None

    def __init__(self, scope: str) -> None:
        self.scope = scope

    def __enter__(self) -> Self:
        if self._token is not None or self.ended:  # once is all: around itself it would never end
            return self
        outer = current_call.get()
        while outer is not None and outer.ended:  # as a chain of jobs leaves behind that each began in the one before
            outer = outer._outer  # noqa: SLF001 - of the same class
        self._outer = outer
        self._token = current_call.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended = True
        token, self._token = self._token, None
        if token is not None:
            try:
                current_call.reset(token)
            except ValueError:
                # Left in another context than it was entered in, as a coroutine that is thrown away; in that one some
                # other call may be under way.
                if current_call.get() is self:
                    current_call.set(self._outer)

    @property
    def found(self) -> set[str]:
        """Ids of sessions that statements inside of it found."""
        if self._found is None:
            self._found = set()
        return self._found

    @property
    def made(self) -> set[str]:
        """Ids of sessions that statements inside of it created; the transaction may still be open."""
        if self._made is None:
            self._made = set()
        return self._made

    @property
    def outer(self) -> "Call | None":
        """The wrapped call that this one was made in."""
        return self._outer


current_call: ContextVar[Call | None] = ContextVar("session_exporter_call", default=None)


def call_of(scope: str) -> Call | None:
    """The outermost wrapped call that is about this scope and has not ended."""
    found, call = None, current_call.get()
    while call is not None:
        if call.scope == scope and not call.ended:
            found = call
        call = call.outer
    return found
