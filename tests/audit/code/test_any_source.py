"""No source makes an audit fail: files of installed packages, and what hypothesis makes of them."""

import sysconfig
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_exporter.audit.code.auditing import audit_code
from session_exporter.audit.code.parsed import NotParsed, parse_module

PACKAGES = Path(sysconfig.get_paths()["purelib"])
SOURCES = Path(__file__).parent / "sources"
LINES = [line for path in sorted(SOURCES.iterdir()) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_every_installed_package_can_be_read() -> None:
    audit = audit_code([PACKAGES])
    assert audit.files > 1000
    assert not audit.stopped


def test_nothing_is_found_in_frameworks_that_keep_no_session() -> None:
    audit = audit_code([PACKAGES / "flask", PACKAGES / "starlette", PACKAGES / "fastapi"])
    assert audit.files > 50
    assert audit.faults == []


@given(st.lists(st.sampled_from(LINES), max_size=40), st.sampled_from(["", "async def f(user_id, session_id):\n"]))
@settings(max_examples=150)
def test_lines_in_any_order_can_be_read(tmp_path_factory, lines, head) -> None:
    indent = "    " if head else ""
    path = tmp_path_factory.mktemp("any") / "a.py"
    path.write_text(head + "".join(f"{indent}{line}\n" for line in lines), encoding="utf-8")
    audit = audit_code([path])
    assert audit.files == 1


@given(st.binary(max_size=200))
def test_bytes_are_a_module_or_not_parsed(source) -> None:
    with suppress(NotParsed):
        assert parse_module(source, "a.py", "a.py").source == source
