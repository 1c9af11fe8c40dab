"""The reference of the hooks: its tables of options and words are those of the code."""

import dataclasses
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_exporter import SessionExporterMiddleware, instrument, map_table, watch_db_sessions
from session_exporter.core.scopes import DB_ERRORS, OUTCOMES, VIOLATIONS
from session_exporter.hooks import aiohttp, wsgi
from session_exporter.hooks.stores.commands import COMMANDS
from session_exporter.mappings import CALL_KINDS, FRAMEWORKS, CallMapping, MiddlewareMapping, StoreMapping, TableMapping

REFERENCE = (Path(__file__).resolve().parent.parent / "docs" / "hooks.md").read_text(encoding="utf-8")
CHAPTERS = dict(re.findall(r"^##+ ([^\n]+)\n(.*?)(?=^##|\Z)", REFERENCE, re.DOTALL | re.MULTILINE))


def rows_of(chapter: str) -> list[list[str]]:
    """The cells of a chapter's tables, without their heads."""
    lines = [line for line in CHAPTERS[chapter].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    heads = {number - 1 for number, row in enumerate(rows) if set("".join(row)) == {"-"}}
    return [row for number, row in enumerate(rows) if number not in heads | {head + 1 for head in heads}]


def words_of(cells: list[str]) -> list[str]:
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def options_shown(chapter: str) -> dict[str, str]:
    return {name.strip("`"): default for name, default, _ in rows_of(chapter)}


def options_of(function: Callable[..., Any]) -> dict[str, str]:
    """Names and defaults of what a function takes, as they are shown."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: shown(each.default) for each in parameters if each.name not in {"app", "tracker"}}


def shown(default: object) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    return f"`{json.dumps(default)}`" if isinstance(default, str) else f"`{default!r}`"


@pytest.mark.parametrize(
    ("chapter", "function"),
    [
        ("Options of tables", map_table),
        ("Options of calls", instrument),
        ("Options of stores", StoreMapping),
        ("Options of database sessions", watch_db_sessions),
        ("Options of middleware", SessionExporterMiddleware),
        ("Options of middleware", wsgi.Middleware),
        ("Options of middleware", aiohttp.middleware),
    ],
)
def test_the_options_of_a_hook_are_those_of_its_function(chapter, function) -> None:
    assert options_shown(chapter) == options_of(function)


@pytest.mark.parametrize(
    ("chapter", "mapping", "elsewhere"),
    [
        ("Options of tables", TableMapping, {"hook"}),
        ("Options of calls", CallMapping, set()),
        ("Options of stores", StoreMapping, set()),
        ("Options of middleware", MiddlewareMapping, {"framework"}),
    ],
)
def test_the_sections_of_the_configuration_have_the_same_options(chapter, mapping, elsewhere) -> None:
    assert options_shown(chapter).keys() == {field.name for field in dataclasses.fields(mapping)} - elsewhere


def test_every_kind_of_call_is_explained() -> None:
    assert words_of([row[0] for row in rows_of("Kinds of calls")]) == list(CALL_KINDS)


def test_every_command_of_a_store_is_named() -> None:
    assert sorted(words_of([row[0] for row in rows_of("Commands of stores")])) == sorted(map(str.upper, COMMANDS))[::2]


def test_every_outcome_error_and_violation_of_a_database_session_is_explained() -> None:
    assert sorted(words_of([row[0] for row in rows_of("Outcomes")])) == sorted(OUTCOMES)
    assert sorted(words_of([row[0] for row in rows_of("Kinds of errors")])) == sorted(DB_ERRORS)
    of_database_sessions = {kind for kind in VIOLATIONS if kind.startswith("db_session")}
    assert set(words_of([row[0] for row in rows_of("Violations")])) == of_database_sessions


def test_every_framework_has_a_middleware() -> None:
    assert sorted(words_of([row[2] for row in rows_of("Middleware")])) == sorted(FRAMEWORKS)
