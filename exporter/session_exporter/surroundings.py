"""Where something happened: captured when it happens, and reported with what came of it."""

from typing import Final, NamedTuple

from session_exporter.ambient import Request


class Surroundings(NamedTuple):
    """Where something happened, to be captured when it happens.

    Attributes:
        request: The request; its user may become known before the event is reported.
        trace: OpenTelemetry trace id, 16 bytes, empty when there is none.
        sites: Nearest application frames, innermost first.
    """

    request: Request | None = None
    trace: bytes = b""
    sites: tuple[str, ...] = ()

    @property
    def request_id(self) -> str:
        """The request's id, `""` when there is none."""
        return "" if self.request is None else self.request.request_id

    @property
    def user_id(self) -> str:
        """The request's user, `""` when not known."""
        return "" if self.request is None else self.request.find_user()


NOWHERE: Final = Surroundings()
