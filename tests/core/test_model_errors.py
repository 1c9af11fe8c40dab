"""The error path cannot fail, and what it keeps is short, printable and no secret."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.model import BaseSessionMetrics, DatabaseSessionMetrics, SystemSessionMetrics

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
any_kind = pytest.mark.parametrize("kind", [BaseSessionMetrics, DatabaseSessionMetrics, SystemSessionMetrics])


def refuses_text(self: object) -> str:
    raise RuntimeError("no text")


class Unprintable(Exception):
    __str__ = __repr__ = refuses_text


class Misnamed(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # a metaclass that lies about names is what is tested
        raise RuntimeError("no name")


class Hostile(metaclass=Misnamed):
    __str__ = __repr__ = refuses_text

    @property
    def __class__(self) -> type:  # type: ignore[override]  # so is an object that lies about its class
        raise RuntimeError("no class")


class NoText:
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307 - a __str__ that is wrong is what is tested


class SlyText(str):
    __slots__ = ()

    __str__ = __getitem__ = strip = splitlines = refuses_text  # type: ignore[assignment]  # a text that is none


HOSTILE_ERRORS: list[Any] = [
    *(None, "", " \n ", "boom", b"boom", 7, True, object(), ValueError, ValueError(), ValueError("x" * 10_000)),
    *("x" * 10_000_000, "\ud800\x00\x1b[31m", Unprintable(), Hostile(), NoText(), SlyText("boom"), Misnamed, Hostile),
    *(ExceptionGroup("many", [ValueError("x")]), KeyboardInterrupt(), type("E" * 10_000, (Exception,), {})()),
]


def strictly_as_json(metrics: BaseSessionMetrics) -> Any:
    shown = metrics.to_dict()
    assert json.loads(msgspec.json.encode(shown)) == json.loads(json.dumps(shown, allow_nan=False)) == shown
    return shown


@any_kind
@pytest.mark.parametrize("number", range(len(HOSTILE_ERRORS)))  # pytest would ask the objects themselves for names
def test_any_object_can_be_recorded_as_an_error(kind: type[BaseSessionMetrics], number: int) -> None:
    metrics = kind(created_at=NOON)
    metrics.record_error(HOSTILE_ERRORS[number], now=NOON + SECOND)
    assert (metrics.error_count, metrics.last_activity_at) == (1, NOON + SECOND)
    assert metrics.last_error
    assert metrics.last_error.isprintable()
    assert len(metrics.last_error) <= 500
    strictly_as_json(metrics)


@given(st.text())
def test_any_text_can_be_recorded_as_an_error(text: str) -> None:
    for error in (text, ValueError(text), KeyError(text)):
        metrics = DatabaseSessionMetrics()
        metrics.record_error(error)
        strictly_as_json(metrics)


def test_an_error_keeps_its_class_and_text() -> None:
    cases: list[tuple[object, str]] = [
        ("boom", "boom"),
        (ValueError("boom"), "ValueError: boom"),
        (ValueError(), "ValueError"),
        (ValueError, "ValueError"),
        (None, "unknown error"),
        ("", "unknown error"),
        (Unprintable(), "Unprintable: (its text cannot be had)"),
        (Hostile(), "Hostile: (its text cannot be had)"),
        (NoText(), "NoText: (its text cannot be had)"),
        (SlyText("boom"), "boom"),
        ("a\x1bb", "a\N{REPLACEMENT CHARACTER}b"),
    ]
    for error, text in cases:
        metrics = BaseSessionMetrics()
        metrics.record_error(error)
        assert metrics.last_error == text


def test_what_a_driver_adds_below_its_message_is_not_kept() -> None:
    metrics = DatabaseSessionMetrics()
    metrics.record_error(RuntimeError("(UniqueViolation) duplicate key\nDETAIL: (email)=(a@b)\n[parameters: ('x',)]"))
    assert metrics.last_error == "RuntimeError: (UniqueViolation) duplicate key"


def test_an_error_given_to_the_constructor_or_set_later_is_bounded_too() -> None:
    assert DatabaseSessionMetrics(last_error="x" * 1_000).last_error == "x" * 500
    metrics = BaseSessionMetrics()
    metrics.last_error = ValueError("boom")  # type: ignore[assignment]  # what careless code does
    assert metrics.last_error == "ValueError: boom"
    metrics.last_error = None
    assert metrics.last_error is None
