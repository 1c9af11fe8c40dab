"""Asking a Prometheus, or what answers like one: bounded, and every failure is a `PeerError` that names the culprit."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Annotated, ClassVar, Final, Literal, Self

import msgspec

from session_exporter.cli.client import Peer, RefusingPeerError
from session_exporter.core.plaintext import inert
from session_exporter.errors import PeerError

# A query over a week of many instances takes seconds; Prometheus itself gives up after 2 minutes.
QUERY_TIMEOUT_S: Final = 60.0
SERIES_MAX: Final = 200_000
NUMBER_MAX: Final = 1e18
WARNINGS_MAX: Final = 8
_REFUSED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_SMALLER: Final = "ask about less: a shorter --since, one --scope, or a --selector"

Point = tuple[float, Annotated[str, msgspec.Meta(max_length=64)]]


class Series(msgspec.Struct, frozen=True):
    """One series of an answer: its labels, and its value or values, each with its time in seconds since the epoch."""

    metric: dict[str, str] = {}
    value: Point | None = None
    values: list[Point] = []

    @property
    def number(self) -> float:
        """The value of an instant query."""
        return number(self.value[1]) if self.value else 0.0


class _Data(msgspec.Struct, frozen=True):
    resultType: Literal["vector", "matrix"]  # noqa: N815 - as the API calls it
    result: list[Series]


class _Answer(msgspec.Struct, frozen=True):
    status: Literal["success", "error"]
    data: _Data | None = None
    error: str = ""
    warnings: list[str] = []


@dataclass(frozen=True, slots=True)
class Prometheus(Peer):
    """A Prometheus's web address.

    Attributes:
        until_s: When all questions have to be answered, on the monotonic clock; seconds.
        warnings: What the server remarked upon its answers, such as that some of the data is missing.
    """

    kind: ClassVar[str] = "Prometheus"
    timeout_s: float = QUERY_TIMEOUT_S
    until_s: float = math.inf
    warnings: dict[str, None] = field(default_factory=dict, compare=False)

    def within(self, seconds: float) -> Self:
        """The same server, which has so many seconds from now to answer everything it is asked."""
        return replace(self, until_s=time.monotonic() + seconds, warnings={})

    def now_s(self) -> float:
        """Its clock, by which samples are dated; seconds since the epoch. Raises as `instant` does."""
        for series in self._asked("query", {"query": "vector(1)"}):
            if series.value:
                return series.value[0]
        raise PeerError(f"{self.base_url} is no Prometheus: it answered vector(1) with nothing")

    def instant(self, expression: str, *, at_s: float) -> list[Series]:
        """Evaluate an expression at one time, seconds since the epoch.

        Raises:
            SilentPeerError: Nothing listens there, or it kept silent.
            PeerError: It refuses, does not understand, answers with too much, or is no Prometheus.
        """
        return self._asked("query", {"query": expression, "time": seconds_text(at_s)})

    def ranged(self, expression: str, *, from_s: float, to_s: float, step_s: float) -> list[Series]:
        """Evaluate an expression every `step_s` seconds; raises as `instant` does."""
        span = {"start": seconds_text(from_s), "end": seconds_text(to_s), "step": seconds_text(step_s)}
        return self._asked("query_range", {"query": expression, **span})

    def _asked(self, path: str, parameters: Mapping[str, str]) -> list[Series]:
        left_s = min(self.timeout_s, self.until_s - time.monotonic())
        if left_s <= 0:
            raise PeerError(f"{self.base_url} took too long to answer: {_SMALLER}")
        # It need not go on with what nobody waits for any more.
        asked = {**parameters, "timeout": f"{math.ceil(left_s)}s"}
        try:
            body = replace(self, timeout_s=round(left_s, 3)).get(f"/api/v1/{path}", asked)
        except RefusingPeerError as exc:
            raise PeerError(f"{exc}{_advice(exc.status, parameters['query'])}") from exc
        return self._read(body)

    def _read(self, body: bytes) -> list[Series]:
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            raise PeerError(f"{self.base_url} is no Prometheus: {inert(str(exc))}") from exc
        if answer.data is None:
            raise PeerError(f"{self.base_url} answered with an error: {inert(answer.error) or 'it says no more'}")
        if len(answer.data.result) > SERIES_MAX:
            raise PeerError(f"{self.base_url} answered with more than {SERIES_MAX} series: {_SMALLER}")
        self.warnings.update(dict.fromkeys(map(inert, answer.warnings[:WARNINGS_MAX])))
        return answer.data.result


def number(text: str) -> float:
    """Read a sample's value.

    Raises:
        PeerError: It is no number, or one that nobody counts to.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= NUMBER_MAX:
        raise PeerError(f"a sample has the value {inert(text)!r}: expected a number up to {NUMBER_MAX:g}")
    return value


def seconds_text(seconds: float) -> str:
    """Write seconds to the millisecond, which is what a Prometheus keeps."""
    return f"{seconds:.3f}"


def _advice(status: int, expression: str) -> str:
    if status in _REFUSED:
        return "; user and password go into the address, http://USER:PASSWORD@HOST:9090"
    if status == HTTPStatus.NOT_FOUND:
        return "; expected the address of a Prometheus, with its path if it has one: http://HOST:9090/PATH"
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        return f"; asked for {inert(expression)}"
    return ""
