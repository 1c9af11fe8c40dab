"""session-exporter audit code, as it is typed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import session_exporter
from session_exporter.cli.session_exporter import main

FAULT = "from app.db import SessionLocal\n\n\nclass Service:\n    db = SessionLocal()\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "service.py").write_text(FAULT, encoding="utf-8")
    (tmp_path / "app" / "clean.py").write_text("a = 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, ["audit", "code", *arguments])


def test_a_finding_says_where_why_and_what_to_do_and_the_exit_code_is_1(project) -> None:
    result = run("app")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "SE103  A database session is kept on an object"
    assert lines[1].startswith("  why: A session belongs to one request")
    assert any(line.startswith("  do:  Open it where the work is done") for line in lines)
    place = "app/service.py:5:5: SE103 Service.db is one database session for all objects of the class"
    assert f"  {place}" in lines
    assert lines[-1] == "1 finding in 2 files"


def test_nothing_found_is_exit_code_0(project) -> None:
    result = run("app/clean.py")
    assert (result.exit_code, result.stdout) == (0, "0 findings in 1 file\n")


def test_the_document_has_everything(project) -> None:
    (project / "app" / "old.py").write_text("print 1\n", encoding="utf-8")
    result = run("app", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["version"] == 1
    assert (document["files"], document["complete"], document["ignored"]) == (3, True, 0)
    assert [each["path"] for each in document["not_read"]] == ["app/old.py"]
    [finding] = document["findings"]
    assert (finding["rule"], finding["path"], finding["line"], finding["column"]) == ("SE103", "app/service.py", 5, 5)
    assert set(document["rules"]) == {"SE103"}
    assert set(document["rules"]["SE103"]) == {"title", "why", "instead"}


def test_annotations_keep_to_their_line(project) -> None:
    (project / "app" / "a,b:c%.py").write_text(FAULT, encoding="utf-8")
    lines = run("app", "--format", "github").stdout.splitlines()
    assert lines[0].startswith("::warning file=app/a%2Cb%3Ac%25.py,line=5,col=5,title=SE103::Service.db is one")
    assert len(lines) == 2


def test_rules_are_selected_and_ignored(project) -> None:
    assert run("app", "--select", "SE104,SE105").exit_code == 0
    assert run("app", "--ignore", "SE103").exit_code == 0
    assert run("app", "--select", "SE103", "--exclude", "service.py").exit_code == 0
    result = run("app", "--select", "SE999")
    assert result.exit_code == 2
    assert "'SE999': expected SE101" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "does not exist"),
        ([], "Missing argument"),
        (["empty"], "empty: expected Python files"),
        (["app", "--max-files", "1"], "stopped after 1 files"),
    ],
)
def test_what_cannot_be_told_is_exit_code_2(project, arguments, said) -> None:
    (project / "empty").mkdir()
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_nothing_in_a_name_reaches_the_terminal_unescaped(project) -> None:
    (project / "app" / "\x1b[2J\u202e.py").write_text(FAULT, encoding="utf-8")
    assert "\x1b" not in run("app").stdout


@pytest.mark.integration
def test_it_needs_none_of_the_sidecars_libraries_and_imports_nothing_of_what_it_reads(project) -> None:
    (project / "app" / "loud.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    program = (
        "import sys\n"
        "from session_exporter.cli.session_exporter import main\n"
        "try:\n    main(['audit', 'code', 'app'])\n"
        "except SystemExit as end:\n    code = end.code\n"
        "missed = {'aiohttp', 'prometheus_client', 'sqlalchemy', 'rich', 'app'} & set(sys.modules)\n"
        "print(code, missed)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(session_exporter.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 set()"
