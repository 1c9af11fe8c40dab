"""view-metrics incidents and view-metrics explain: what went wrong, to whom, why, and what to change."""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import click

from session_exporter.cli.asking import (
    DAY_S,
    LIMIT_MAX,
    Asked,
    CannotTell,
    emit,
    question_of,
    read_interval,
    shared_options,
)
from session_exporter.cli.documents import incidents_of
from session_exporter.cli.following import follow
from session_exporter.cli.plain import window_text
from session_exporter.cli.source import Answer, Question
from session_exporter.cli.stories import brief, stories
from session_exporter.core.documents import ask_others
from session_exporter.core.incidents import INCIDENT_KINDS
from session_exporter.core.plaintext import inert
from session_exporter.core.scopes import CAUSES, LOSS_REASONS, VIOLATIONS
from session_exporter.core.storytelling import COLUMNS, tell_story

CANDIDATES_SHOWN: Final = 20
COLUMNS_MIN: Final = 40
_BETWEEN: Final = "\n\n" + "-" * 70 + "\n\n"


@click.command()
@shared_options
@click.option("--kind", type=click.Choice(INCIDENT_KINDS), help="This kind only.")
@click.option("--cause", type=click.Choice(CAUSES), help="Duplicates of this cause only.")
@click.option("--reason", type=click.Choice((*LOSS_REASONS, *VIOLATIONS)), help="Such losses or violations only.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=20, show_default=True, help="The newest so many.")
@click.option("--follow", "is_followed", is_flag=True, help="Print new ones as they come, a line each, until Ctrl-C.")
@click.option(
    "--interval", default="1s", show_default=True, metavar="SPAN", callback=read_interval, help="With --follow."
)
@click.pass_context
def incidents(ctx: click.Context, /, *, limit: int, is_followed: bool, interval: float, **options: Any) -> None:
    """List incidents with their call sites.

    Those of the last day, the newest first.
    Exit code 0 when it could be asked, also when there was none; 2 otherwise.
    """
    filters = {name: options.pop(name) for name in ("kind", "cause", "reason")}
    asked = Asked(**options).over(ctx.obj)
    question = question_of(asked, DAY_S, limit=limit, **filters)
    if is_followed:
        _follow(asked, question, interval)
        return
    answer = asked.source("incidents").incidents(question)
    found = incidents_of(answer.document)
    with suppress(BrokenPipeError):
        _remark(answer.note)
        if asked.as_json:
            emit(json.dumps(answer.document, indent=2))
        elif found:
            emit(f"{stories(answer.document)}\n\nThe whole story of one: {_next(asked, found[0].id)}")
        else:
            such = "such " if any(filters.values()) or asked.scope else ""
            emit(f"No {such}incidents in the last {window_text(question.since_s)}")


@click.command()
@shared_options
@click.argument("identifier", metavar="[ID]", required=False)
@click.option("--user", metavar="ID", help="All incidents of this user, by the id that the application reports.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=20, show_default=True, help="The newest so many.")
@click.pass_context
def explain(ctx: click.Context, /, *, identifier: str | None, user: str | None, limit: int, **shared: Any) -> None:
    """Tell why an incident happened, and what to change.

    ID is that of the incident, or its beginning, however long ago it was: view-metrics incidents lists them. With
    --user: all of the last day. Exit code 0 when it was told; 2 when there is no such incident, or nobody to ask.
    """
    if (identifier is None) == (user is None):
        raise click.UsageError("expected either the ID of an incident (view-metrics incidents lists them) or --user ID")
    asked = Asked(**shared).over(ctx.obj)
    if identifier is not None:
        answer = asked.source("incidents").incidents(question_of(asked, DAY_S, id=identifier, limit=CANDIDATES_SHOWN))
        found = [_only(answer, identifier)]
    else:
        question = question_of(asked, DAY_S, user=user, limit=limit)
        answer = asked.source("incidents").incidents(question)
        found = _documents(answer)[::-1]
    with suppress(BrokenPipeError):
        _remark(answer.note)
        _tell(asked, found, one=identifier is not None, nobody=ask_others(answer.document))


def _follow(asked: Asked, question: Question, interval_s: float) -> None:
    source = asked.source("incidents")

    def show(incident: Mapping[str, Any]) -> None:
        emit(json.dumps(incident) if asked.as_json else f"{brief(incident)}  # {_next(asked, str(incident.get('id')))}")

    def ask(after: str | None) -> Answer:
        return source.incidents(replace(question, after=after))

    follow(ask, show, _remark, limit=question.limit, interval_s=interval_s)


def _documents(answer: Answer) -> list[dict[str, Any]]:
    incidents_of(answer.document)  # raises for what is no list of incidents
    documents: list[dict[str, Any]] = answer.document["incidents"]
    return documents


def _only(answer: Answer, identifier: str) -> dict[str, Any]:
    found = _documents(answer)
    if not found:
        unknown = f"no incident of {answer.origin} has the id {inert(identifier)}, or one that begins like it"
        raise CannotTell(unknown + ask_others(answer.document))
    if len(found) > 1:
        candidates = "\n".join(f"  {brief(each)}" for each in found)
        more = " and more" if len(found) == CANDIDATES_SHOWN else ""
        raise CannotTell(f"{inert(identifier)} is the beginning of {len(found)} ids{more}:\n{candidates}")
    return found[0]


def _tell(asked: Asked, found: list[dict[str, Any]], *, one: bool, nobody: str) -> None:
    if asked.as_json:
        emit(json.dumps(found[0] if one else {"incidents": found}, indent=2))
    elif found:
        columns = _columns()
        emit(_BETWEEN.join(tell_story(each, columns=columns) for each in found))
    else:
        emit(f"No incidents of this user in the last {window_text(question_of(asked, DAY_S).since_s)}{inert(nobody)}")


def _columns() -> int:
    """How wide a story may be: no wider than the terminal, where there is one."""
    if sys.stdout is None or not sys.stdout.isatty():
        return COLUMNS
    return max(COLUMNS_MIN, min(COLUMNS, shutil.get_terminal_size().columns))


def explaining(asked: Asked, identifier: str) -> list[str]:
    """What to type to be told all of an incident."""
    return ["view-metrics", "explain", *replace(asked, scope=None).arguments(), identifier]


def _next(asked: Asked, identifier: str) -> str:
    return inert(shlex.join(explaining(asked, identifier)), 2000)


def _remark(note: str) -> None:
    if note:
        emit(f"note: {note}", err=True)
