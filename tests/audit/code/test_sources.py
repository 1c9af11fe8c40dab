"""What is read of a code base, and what is not."""

import os
from pathlib import Path

from session_exporter.audit.code.auditing import audit_code
from session_exporter.audit.code.sources import SourceLimits, SourceTree

FAULT = "from app.db import SessionLocal\n\n\nclass Service:\n    db = SessionLocal()\n"


def write(root, *names, text=FAULT):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def found(audit):
    return sorted(Path(fault.spot.path).name for fault in audit.faults)


def test_folders_of_other_programs_are_left_out(tmp_path) -> None:
    write(tmp_path, "app/a.py", ".venv/lib/b.py", "node_modules/c.py", "build/d.py", ".git/e.py", "app/notes.txt")
    assert found(audit_code([tmp_path])) == ["a.py"]


def test_globs_leave_out_folders_and_files_by_name_or_path(tmp_path) -> None:
    write(tmp_path, "app/a.py", "app/old/b.py", "app/c_pb2.py", "lib/d.py")
    tree = SourceTree(excluded=("old", "*_pb2.py", "lib/*"))
    assert found(audit_code([tmp_path], tree)) == ["a.py"]


def test_a_file_may_be_named_itself_and_is_read_once(tmp_path) -> None:
    write(tmp_path, "app/a.py")
    audit = audit_code([tmp_path / "app" / "a.py", tmp_path, tmp_path / "app"])
    assert (audit.files, found(audit)) == (1, ["a.py"])


def test_what_does_not_parse_is_named_and_the_rest_is_read(tmp_path) -> None:
    write(tmp_path, "a.py")
    write(tmp_path, "old.py", text="print 'no parentheses'\n")
    (tmp_path / "zero.py").write_bytes(b"a = 1\n\x00\n")
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: nonsense -*-\n")
    write(tmp_path, "deep.py", text="a = " + "-" * 20_000 + "1\n")
    audit = audit_code([tmp_path])
    assert found(audit) == ["a.py"]
    assert audit.files == 5
    names = {Path(path).name for path in audit.not_parsed}
    assert names == {"old.py", "zero.py", "latin.py", "deep.py"}
    assert "line 1" in audit.not_parsed[str(tmp_path / "old.py")]


def test_a_tree_nested_deeply_is_not_parsed_or_is_read(tmp_path) -> None:
    for depth in (100, 500, 900, 1500, 2500):
        chain = "user" + " | user" * depth
        text = (
            "from sqlalchemy.orm import Session\n_sessions = {}\n\n"
            f"class A:\n    _instance = None\n    def __init__(self, db: {chain}):\n        A._instance = self\n"
            f"        self.db = {' or '.join(['db'] * depth)} or ({'not ' * 50} db)\n"
            f"async def f():\n    if ({chain}) not in _sessions:\n"
            f"        _sessions[{chain}] = await create_session(user)\n"
        )
        write(tmp_path, f"deep{depth}.py", text=text)
    assert audit_code([tmp_path]).files == 5


def test_a_file_too_large_is_named_instead_of_read(tmp_path) -> None:
    write(tmp_path, "large.py", text="a = 1\n" * 1000)
    audit = audit_code([tmp_path], SourceTree(SourceLimits(file_bytes=100)))
    assert (audit.files, audit.not_parsed) == (0, {str(tmp_path / "large.py"): "larger than 100 bytes"})


def test_it_stops_at_its_limits_and_says_so(tmp_path) -> None:
    write(tmp_path, "a.py", "b.py", "c.py")
    audit = audit_code([tmp_path], SourceTree(SourceLimits(files=2)))
    assert (audit.files, audit.stopped) == (2, "after 2 files")
    audit = audit_code([tmp_path], SourceTree(SourceLimits(seconds=0.0)))
    assert (audit.files, audit.stopped) == (0, "after 0 s")


def test_links_to_folders_are_not_followed_and_pipes_not_opened(tmp_path) -> None:
    write(tmp_path, "app/a.py")
    (tmp_path / "app" / "again").symlink_to(tmp_path / "app")
    (tmp_path / "app" / "gone.py").symlink_to(tmp_path / "nowhere.py")
    os.mkfifo(tmp_path / "app" / "pipe.py")
    audit = audit_code([tmp_path])
    assert (audit.files, found(audit)) == (1, ["a.py"])


def test_a_comment_ignores_its_line_for_the_rules_it_names(tmp_path) -> None:
    lines = [f"    {name} = SessionLocal()" for name in "abcd"]
    comments = [
        "",
        "  # session-exporter: ignore[SE103]",
        "  # session-exporter: ignore",
        "  # session-exporter: ignore[SE101, SE104]",
    ]
    body = "\n".join(line + comment for line, comment in zip(lines, comments, strict=True))
    write(tmp_path, "a.py", text=f"from app.db import SessionLocal\nclass Service:\n{body}\n")
    audit = audit_code([tmp_path])
    assert ([fault.spot.line for fault in audit.faults], audit.ignored) == ([3, 6], 2)


def test_a_module_is_known_by_its_package_wherever_the_reading_begins(tmp_path) -> None:
    write(tmp_path, "app/__init__.py", "app/db/__init__.py", text="")
    write(tmp_path, "app/db/session.py", text="class Registry:\n    pass\n")
    write(tmp_path, "app/a.py", text="from app.db.session import Registry\n")
    write(tmp_path, "app/b.py", text="from db.session import Registry\n")
    for root in (tmp_path, tmp_path / "app"):
        assert [fault.rule for fault in audit_code([root]).faults] == ["SE102"]


def test_only_the_rules_that_were_asked_for_are_reported(tmp_path) -> None:
    write(tmp_path, "a.py")
    assert audit_code([tmp_path], rules={"SE104"}).faults == []
