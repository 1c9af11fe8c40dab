"""What `audit db` prints: its document as text. Pure."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from session_exporter.cli.plain import EMOJI, Marks
from session_exporter.cli.report import RULE, aligned
from session_exporter.core.plaintext import inert
from session_exporter.core.stories.wording import gap_text, moment_text, moment_us
from session_exporter.quantities import format_duration

_WIDTH: Final = 78
_BAR_CHARS: Final = 30
_DAYS_MAX: Final = 14
# A UUID is shown whole.
_NAME_CHARS_MAX: Final = 40
_KEY_CHARS_MAX: Final = 14
_SESSIONS_MAX: Final = 3
_Document = Mapping[str, Any]


def audit_text(document: _Document, marks: Marks = EMOJI) -> str:
    """Write the document of an audit as the report that people read.

    Returns:
        Lines, without a newline at the end.
    """
    head = [RULE, "SESSION DATABASE AUDIT", RULE, "", f"{'Database:':<24} {inert(document['database'])}"]
    head.append(f"{'Audited:':<24} {_moment(document['at'])}")
    if document["since"]:
        head.append(f"{'History since:':<24} {_moment(document['since'])}")
    if document["ids"] != "plain":
        head.append(f"{'Ids:':<24} pseudonyms; --show-ids shows them as they are")
    blocks = ["\n".join(head), *(block for table in document["tables"] for block in _table(table, marks))]
    return "\n\n".join(blocks)


def _table(table: _Document, marks: Marks) -> Iterable[str]:
    title = f"Table {inert(table['table'])} (scope {inert(table['scope'])})"
    if table["problem"]:
        yield "\n".join([title, "-" * len(RULE), *_wrapped(f"{marks.unknown} {inert(table['problem'], 500)}")])
        return
    yield "\n".join([title, "-" * len(RULE), *_figures(table)])
    yield "\n".join(line for verdict in _verdicts(table, marks) for line in _wrapped(verdict))
    blocks = [_crowds(table["active"]), *_histories(table["history"], marks)]
    yield from ("\n".join(block) for block in blocks if block)
    yield from _sql(table["sql"])


def _figures(table: _Document) -> Iterable[str]:
    active, history = table["active"], table["history"]
    parts = [f"{active['rows']:,} active"] if active else []
    parts += [f"{table['rows_without_user']:,} without a user"] if table["rows_without_user"] else []
    parts += [f"{table['rows_without_created_at']:,} without a time"] if table["rows_without_created_at"] else []
    remarks = f" ({', '.join(parts)})" if parts else ""
    yield f"{'Rows:':<24} {table['rows']:,}{remarks}"
    if history:
        span = f", {history['first_at'][:10]} to {history['last_at'][:10]}" if history["creates"] else ""
        yield f"{'Creates:':<24} {history['creates']:,}{span}"
        yield f"{'Rapid Duplicate Creates:':<24} {history['rapid_duplicates']:,}"
    if active:
        yield f"{'Duplicate Active Users:':<24} {active['duplicate_users']:,}"


def _verdicts(table: _Document, marks: Marks) -> Iterable[str]:
    active, history = table["active"], table["history"]
    if active and active["duplicate_users"]:
        users = _many(active["duplicate_users"], "user")
        yield f"{marks.warning} {users} with more than one active session; {active['surplus_rows']:,} too many in all"
    elif active:
        yield f"{marks.healthy} No duplicate active sessions found"
    if history:
        yield _history_verdict(history, _span(table["duplicate_window_seconds"]), marks)
    for sentence in table["not_told"]:
        yield f"{marks.unknown} {inert(sentence, 500)}"
    yield from _index_verdicts(table, marks)


def _history_verdict(history: _Document, window: str, marks: Marks) -> str:
    if not history["rapid_duplicates"]:
        return f"{marks.healthy} No session was created less than {window} after another of its user"
    creates = _many(history["rapid_duplicates"], "create")
    return f"{marks.warning} {creates} less than {window} after another, of {_many(history['users'], 'user')}"


def _index_verdicts(table: _Document, marks: Marks) -> Iterable[str]:
    indexes = table["indexes"]
    if not indexes:
        return
    if indexes["unique"]:
        yield f"{marks.healthy} Index {inert(indexes['unique'])} refuses a second active session of a user"
    elif table["active"]:
        yield f"{marks.warning} No unique index refuses a second active session of a user"
    if indexes["invalid_unique"]:
        yield f"{marks.warning} Index {inert(indexes['invalid_unique'])} would, but it is not valid"
    if table["history"] and indexes["created_at"]:
        yield f"{marks.healthy} Index {inert(indexes['created_at'])} finds new sessions by their time"
    elif table["history"]:
        yield f"{marks.unknown} No index begins with the time of creation: a watch would read the whole table"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else noun + 's'}"


def _crowds(active: _Document | None) -> list[str]:
    if not active or not active["worst"]:
        return []
    lines = ["Duplicate active sessions now, the newest first (UTC):"]
    for each in active["worst"]:
        key = f" {inert(each['key'], _KEY_CHARS_MAX)}" if each["key"] else ""
        lines.append(f"  {_name(each['user'])}{key}: {each['rows']} active sessions")
        sessions = each["sessions"][:_SESSIONS_MAX]
        lines += [f"    {_name(one['session'])}  {_moment(one['created_at'])}" for one in sessions]
        if each["rows"] > len(sessions):
            lines.append(f"    and {each['rows'] - len(sessions):,} more")
    more = active["duplicate_users"] - len(active["worst"])
    return [*lines, f"  and {_many(more, 'more user')}"] if more > 0 else lines


def _histories(history: _Document | None, marks: Marks) -> Iterable[list[str]]:
    if not history or not history["creates"]:
        return
    if history["rapid_duplicates"]:
        yield _days(history["days"], marks)
        yield _worst(history["worst"])
        yield _smallest(history["smallest_gaps"])
    yield _intervals(history["intervals"], marks)


def _days(days: Sequence[_Document], marks: Marks) -> list[str]:
    shown = days[-_DAYS_MAX:]
    most = max(day["duplicates"] for day in shown)
    rows = [("Day", "Duplicates", "Users")]
    rows += [(day["day"], f"{day['duplicates']:,}", f"{day['users']:,}") for day in shown]
    bars = ["", *(_bar(day["duplicates"], most, marks) for day in shown)]
    lines = [f"  {line}  {bar}".rstrip() for line, bar in zip(aligned(rows), bars, strict=True)]
    earlier = days[:-_DAYS_MAX]
    if earlier:
        total = sum(day["duplicates"] for day in earlier)
        lines.append(f"  and {total:,} on {_many(len(earlier), 'day')} before")
    return ["Rapid duplicates by day (UTC):", *lines]


def _worst(users: Sequence[_Document]) -> list[str]:
    rows = [("User", "Duplicates", "Smallest gap")]
    rows += [(_name(u["user"]), f"{u['rapid_duplicates']:,}", _gap(u["smallest_gap_seconds"])) for u in users]
    return ["Users with the most rapid duplicates:", *(f"  {line}" for line in aligned(rows))]


def _smallest(pairs: Sequence[_Document]) -> list[str]:
    lines = ["Smallest gaps between two creates of one user (UTC):"]
    for pair in pairs:
        first, second = pair["sessions"]
        lines.append(f"  {_gap(pair['gap_seconds']):>9}  {_name(pair['user'])}  {_moment(second['created_at'])}")
        names = _name(second["session"]), f"after {_name(first['session'])}"
        joined = " ".join(names)
        lines += [f"{'':13}{line}" for line in ([joined] if len(joined) < _WIDTH - 13 else names)]
    return lines


def _intervals(intervals: Sequence[_Document], marks: Marks) -> list[str]:
    most = max(each["count"] for each in intervals)
    if not most:
        return []
    names = [f"up to {_span(each['at_most_seconds'])}" for each in intervals[:-1]]
    names.append(f"over {_span(intervals[-2]['at_most_seconds'])}")
    rows = [(name, f"{each['count']:,}") for name, each in zip(names, intervals, strict=True)]
    bars = [_bar(each["count"], most, marks) for each in intervals]
    lines = [f"  {line}  {bar}".rstrip() for line, bar in zip(aligned(rows), bars, strict=True)]
    return ["Intervals between two creates of one user:", *lines]


def _span(seconds: float) -> str:
    return format_duration(round(seconds * 1e6))


def _gap(seconds: float) -> str:
    return gap_text(seconds * 1e6)


def _bar(count: int, most: int, marks: Marks) -> str:
    """A bar whose length says what part of the most it is; what is not nothing is seen."""
    return marks.sparks[-1] * max(round(count / most * _BAR_CHARS), 1) if count else ""


def _name(text: str) -> str:
    return inert(text, _NAME_CHARS_MAX)


def _moment(text: str | None) -> str:
    return moment_text(moment_us(text)) if text else "time not known"


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(f"  {line}", _WIDTH, subsequent_indent="     ", break_long_words=False)


def _sql(sql: _Document | None) -> Iterable[str]:
    if not sql:
        return
    steps = (
        ("What would be ended, to look at first:", sql["look"]),
        ("Ends all but the newest active session of each user:", sql["clean_up"]),
        (
            "Refuses a second one; if it fails, one has come meanwhile: begin again.",
            sql["index"],
        ),
    )
    yield "SQL for you to judge and run (nothing of it was run):"
    for number, (title, text) in enumerate(((title, text) for title, text in steps if text), start=1):
        yield "\n".join([f"-- {number}. {title}", text])
    if sql["notes"]:
        yield "\n".join(f"-- {line}" for note in sql["notes"] for line in textwrap.wrap(note, _WIDTH))
