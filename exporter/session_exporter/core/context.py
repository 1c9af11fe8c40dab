"""Who a unit of work belongs to: the record that hooks and applications pass along."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import uuid4

from session_exporter.core.carriers import REQUEST_KEY, carrier_of, said_ids
from session_exporter.core.fields import error_text
from session_exporter.core.idtext import required_id, shown
from session_exporter.core.readonly import read_only

_NO_METADATA: Final[Mapping[str, Any]] = read_only({})
_IDS: Final = ("user_id", "request_id", "thread_id", "run_id", "session_id")


def _new_request_id() -> str:
    # No unified id: it would seem to be of another generation than a thread id that was given.
    return str(uuid4())


def _no_metadata() -> Mapping[str, Any]:
    return _NO_METADATA


@dataclass(frozen=True)
class RequestContext:
    """Who a unit of work belongs to.

    Ids are free text, but never empty, blank or a placeholder such as "None" or "undefined"; ints and UUIDs become
    text, and None means "not known".

    Attributes:
        user_id: For whom the work is done.
        request_id: The unit of work; a random UUID when not given.
        thread_id: The conversation it belongs to.
        run_id: The run it belongs to.
        session_id: The session that it expects to get.
        metadata: Anything else; copied deeply when given, and read-only.

    Raises:
        ValueError: An id is none, or the metadata cannot be copied.
        TypeError: An id, or the metadata, has the wrong type.
    """

    user_id: str | None = None
    request_id: str = field(default_factory=_new_request_id)
    thread_id: str | None = None
    run_id: str | None = None
    session_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=_no_metadata, hash=False)

    def __post_init__(self) -> None:
        for name in _IDS:
            value = getattr(self, name)
            if value is None and name == "request_id":
                value = _new_request_id()
            if value is not None and (text := required_id(name, value)) is not value:
                object.__setattr__(self, name, text)
        if self.metadata is not _NO_METADATA:
            object.__setattr__(self, "metadata", _metadata(self.metadata))

    @classmethod
    def from_request(cls, request: Any, **given: Any) -> "RequestContext":
        """Give the context of a request of Starlette, Flask, Django or aiohttp, an ASGI scope or a WSGI environment.

        With the middleware this is the context that it made, with the user as far as known. Otherwise it is made from
        the headers `X-Request-ID`, `X-Thread-ID` and `X-Run-ID`; those that are no ids, which strangers may send, are
        passed over.

        Args:
            request: What the framework hands to the handler.
            given: Fields that are known better here.

        Raises:
            TypeError: The request is none of these, or a field is unknown or has the wrong type.
            ValueError: An id that was given is none.
        """
        carrier = carrier_of(request)
        noted = carrier.notes.get(REQUEST_KEY)
        context = getattr(noted, "innermost_context", None)
        if isinstance(context, RequestContext):
            return replace(context, **given) if given else context
        return cls(**{**said_ids(carrier), **given})

    def child(
        self,
        request_id: str | None = None,
        *,
        thread_id: str | None = None,
        run_id: str | None = None,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> "RequestContext":
        """Give the context of a unit of work begun by this one, such as a websocket message or a job.

        It has the same user, an id of its own, and whatever else is not given from here; its metadata also names
        `parent_request_id`.
        """
        given = {"thread_id": thread_id, "run_id": run_id, "session_id": session_id}
        return replace(
            self,
            request_id=_new_request_id() if request_id is None else request_id,
            metadata={**self.metadata, "parent_request_id": self.request_id, **_metadata(metadata)},
            **{name: value for name, value in given.items() if value is not None},
        )

    def with_user(self, user_id: str) -> "RequestContext":
        """Give the same context for a user, who has become known or has changed.

        Raises:
            ValueError: The user id is none.
        """
        return replace(self, user_id=required_id("user_id", user_id))


def _metadata(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if given is None or (type(given) is dict and not given):
        return _NO_METADATA
    if not isinstance(given, Mapping):
        raise TypeError(f"metadata must be a mapping, got {shown(given)}")
    try:
        copied: Mapping[str, Any] = read_only(given)
    except Exception as error:  # copying runs the code of whatever is in there
        raise ValueError(f"metadata cannot be copied: {error_text(error)}") from error
    return copied
