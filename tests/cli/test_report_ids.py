"""What the report says of ids: nothing where none are checked, one line where they are."""

from typing import Any

import pytest

from session_exporter.cli.report import report
from session_exporter.errors import PeerError
from session_exporter.sidecar.compliance import ids_of


def lines_of(documents: Any, **counts: int) -> list[str]:
    """The lines that the counts of a window add to a report."""
    plain = documents.healthy()
    with_ids = plain | {"total": plain["total"] | ids_of({name.replace("__", ":"): n for name, n in counts.items()})}
    return [line for line in report(with_ids).splitlines() if line not in report(plain).splitlines()]


def test_where_no_id_is_checked_nothing_is_said(documents: Any) -> None:
    assert lines_of(documents) == []


def test_compliance_is_told_with_what_is_wrong_and_its_shapes(documents: Any) -> None:
    counts = {"ids:thread/canonical": 372, "ids:thread/invalid": 3, "shapes:thread/invalid/text(12)": 3}
    [line] = lines_of(documents, **counts)
    assert line == "Id Format Compliance:    99.20% (target 100%) thread: 3 invalid (text(12))"


def test_the_line_follows_the_five_figures(documents: Any) -> None:
    document = documents.healthy()
    document["total"] |= ids_of({"ids:run/canonical": 1})
    assert "Rapid Duplicate Creates: 0\nId Format Compliance:    100.00% (target 100%)\n\nHealth Status:" in report(
        document
    )


def test_kinds_formats_and_shapes_are_told_apart(documents: Any) -> None:
    counts = {
        "ids:session/canonical": 80,
        "ids:user/invalid": 9,
        "shapes:user/invalid/int": 1,
        "shapes:user/invalid/text(3)": 5,
        "shapes:user/invalid/text(4)": 1,
        "shapes:user/invalid/uuid4": 2,
        "ids:thread/legacy": 10,
        "shapes:thread/legacy/text(8)": 10,
        "ids:thread/invalid": 1,
        "shapes:thread/invalid/hex32": 1,
    }
    [line] = lines_of(documents, **counts)
    assert line == (
        "Id Format Compliance:    80.00% (target 100%) user: 9 invalid (text(3) 5, uuid4 2, int 1, 1 more); "
        "thread: 1 invalid (hex32), 10 legacy (text(8))"
    )


def test_one_wrong_id_of_a_million_is_not_rounded_away(documents: Any) -> None:
    [line] = lines_of(documents, **{"ids:session/canonical": 10**6, "ids:session/invalid": 1})
    assert line == "Id Format Compliance:    99.99% (target 100%) session: 1 invalid"


def test_ids_of_different_generations_are_told_whether_or_not_any_is_checked(documents: Any) -> None:
    assert lines_of(documents, id_mismatches=2) == ["Id Mismatches:           2"]


def test_ids_change_nothing_of_the_judgement(documents: Any) -> None:
    assert not any("✅" in line or "⚠" in line for line in lines_of(documents, **{"ids:user/invalid": 99}))


def test_what_a_stranger_answers_is_shown_inert(documents: Any) -> None:
    document = documents.healthy()
    document["total"] |= {
        "ids_checked": 1,
        "ids_by_kind": {"\x1b[31m": {"invalid": 1}, "run": {}},
        "id_compliance": 0.0,
    }
    document["total"]["id_shapes"] = {"\x1b[31m": {"invalid": {"\u202e": 1}}}
    assert r"0.00% (target 100%) \x1b[31m: 1 invalid (\u202e)" in report(document)


def test_counts_that_are_no_counts_are_a_peer_error(documents: Any) -> None:
    document = documents.healthy()
    document["total"] |= {"ids_by_kind": {"run": {"invalid": -1}}}
    with pytest.raises(PeerError, match="ids_by_kind"):
        report(document)
