"""Each rule finds its fault, where it is, and nothing in the repaired twin.

The sources are text: they are full of faults, and no part of the product or of its tests. A line of a faulty tree that
is to be reported says so in a comment (`# <- SE103`).
"""

import re
from pathlib import Path

import pytest

from session_exporter.audit.code.auditing import CodeAudit, audit_code
from session_exporter.audit.code.rules import RULES

SOURCES = Path(__file__).parent / "sources"
EXPECTED = re.compile(r"# <- (SE\d+)$")


def unpack(text: str, root: Path) -> dict[tuple[str, int], str]:
    """Write the files of a text below `root`; returns which lines expect which rule."""
    expected = {}
    for part in re.split(r"^--- ", text, flags=re.MULTILINE)[1:]:
        name, _, source = part.partition("\n")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        for number, line in enumerate(source.splitlines(), start=1):
            if found := EXPECTED.search(line):
                expected[name, number] = found[1]
    return expected


def places(audit: CodeAudit, root: Path) -> dict[tuple[str, int], str]:
    return {(Path(fault.spot.path).relative_to(root).as_posix(), fault.spot.line): fault.rule for fault in audit.faults}


def test_every_rule_has_a_faulty_tree_and_its_repaired_twin() -> None:
    names = {path.name for path in SOURCES.iterdir()}
    assert names == {f"{rule}.{kind}.txt" for rule in RULES for kind in ("fault", "repaired")}


@pytest.mark.parametrize("rule", RULES)
def test_a_fault_is_found_where_it_is(rule, tmp_path) -> None:
    expected = unpack((SOURCES / f"{rule}.fault.txt").read_text(encoding="utf-8"), tmp_path)
    assert rule in expected.values()
    assert places(audit_code([tmp_path]), tmp_path) == expected


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_found_once_it_is_repaired(rule, tmp_path) -> None:
    unpack((SOURCES / f"{rule}.repaired.txt").read_text(encoding="utf-8"), tmp_path)
    assert places(audit_code([tmp_path]), tmp_path) == {}
