"""Formats of ids in the configuration: what must not be declared, and the words in which each mistake is named."""

import re
import subprocess
import sys

import pytest

from session_exporter.config import parse
from session_exporter.core.ids import IdFormat
from session_exporter.errors import ConfigError

FORMATS = "expected a mapping of kinds of id to uuid, unified or a regular expression, such as {session: uuid}"
PATTERN = "expected uuid, unified or a regular expression"
TEXT = f"{PATTERN}, a text of 1 to 200 characters, all printable (put quotes around it)"
NOT_IN_RE2 = "unknown to RE2, which has no look-around, back-references, atomic groups or counts above 1000"

MISTAKES = {
    "no mapping": ("uuid", "id_format", f"value uuid: {FORMATS}"),
    "legacy without kinds": ("{thread: uuid, legacy: '^t-'}", "id_format.legacy", f"value '^t-': {FORMATS}"),
    "unknown kind": (
        "{thraed: uuid}",
        "id_format.thraed",
        "value uuid: expected its key to be one of session, user, thread, run, request, legacy",
    ),
    "unknown kind of legacy": (
        "{thread: uuid, legacy: {legacy: uuid}}",
        "id_format.legacy.legacy",
        "value uuid: expected its key to be one of session, user, thread, run, request",
    ),
    "the same kind twice": (
        "{run: uuid, run: uuid}",
        "id_format.run",
        "value uuid: duplicate key: expected once, but line 3 has it too",
    ),
    "legacy alone": (
        "{session: uuid, legacy: {thread: '^t-'}}",
        "id_format.legacy.thread",
        "value '^t-': expected a format for thread beside the legacy one",
    ),
    "legacy beside null": (
        "{thread: null, legacy: {thread: '^t-'}}",
        "id_format.legacy.thread",
        "value '^t-': expected a format for thread beside the legacy one",
    ),
    "number": ("{session: 5}", "id_format.session", f"value 5: {TEXT}"),
    "mapping": ("{session: {a: b}}", "id_format.session", f"value a mapping: {TEXT}"),
    "empty": ("{session: ''}", "id_format.session", f"value '': {TEXT}"),
    "unprintable": ('{session: "^a\\n"}', "id_format.session", rf"value '^a\n': {TEXT}"),
    "too long": (f"{{session: '{'-' * 201}'}}", "id_format.session", f"value '{'-' * 60}…': {TEXT}"),
    "misspelt preset": (
        "{session: uid}",
        "id_format.session",
        f"value uid: {PATTERN}; this one is neither a preset (uuid, unified) nor an expression",
    ),
    "no expression": (
        "{session: '^(u-'}",
        "id_format.session",
        f"value '^(u-': {PATTERN}; this one is no regular expression: missing ), unterminated subpattern at position 1",
    ),
    "no expression for ASCII": (
        "{session: '(?u)^u-'}",
        "id_format.session",
        f"value '(?u)^u-': {PATTERN}; this one is no regular expression: ASCII and UNICODE flags are incompatible",
    ),
    "no legacy expression": (
        "{session: uuid, legacy: {session: '*'}}",
        "id_format.legacy.session",
        f"value '*': {PATTERN}; this one is no regular expression: nothing to repeat at position 0",
    ),
    "ambiguous expression": (
        "{session: '^[[a]'}",
        "id_format.session",
        f"value '^[[a]': {PATTERN}; this one is ambiguous: Possible nested set at position 2",
    ),
    "look-around": (
        "{session: '^(?!t-)'}",
        "id_format.session",
        f"value '^(?!t-)': {PATTERN}; this one is {NOT_IN_RE2}: invalid perl operator: (?!",
    ),
    "back-reference": (
        r"{session: uuid, legacy: {session: '^(a+)-\1$'}}",
        "id_format.legacy.session",
        rf"value '^(a+)-\\1$': {PATTERN}; this one is {NOT_IN_RE2}: invalid escape sequence: \1",
    ),
}


@pytest.mark.parametrize(("formats", "path", "problem"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_with_file_line_key_and_what_was_expected(formats: str, path: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(f'f.yml:3: scopes.a.{path}: {problem}')}$"):
        parse(f"scopes:\n  a:\n    id_format: {formats}", "f.yml")


@pytest.mark.parametrize("pattern", ["uuid", "unified", "^u-[0-9]+$", "it's", "- x", "no-", "{a}", r"^\d{3}:\S"])
def test_what_is_described_can_be_read_again(pattern: str) -> None:
    quoted = "'" + pattern.replace("'", "''") + "'"
    rules = parse(f"scopes: {{a: {{id_format: {{run: {quoted}, legacy: {{run: {quoted}}}}}}}}}", "f.yml").scopes["a"]
    assert rules.id_formats == {"run": IdFormat(pattern, legacy=pattern, kind="run")}
    config = parse(f"scopes: {{a: {{id_format: {{run: {quoted}, legacy: {{run: {quoted}}}}}}}}}", "f.yml")
    [described] = [line for line in config.describe() if line.startswith("scopes.a.id_format: ")]
    assert parse(f"scopes: {{a: {{{described.removeprefix('scopes.a.')}}}}}", "f.yml").scopes["a"] == rules


@pytest.mark.parametrize("pattern", ["^(?!t-)", r"^(a+)-\1$", "^(a+)+$"])
def test_an_application_without_the_sidecars_libraries_accepts_what_it_does_not_search_for(tmp_path, pattern) -> None:
    file = tmp_path / "f.yml"
    file.write_text(f"scopes: {{a: {{id_format: {{session: '{pattern}'}}}}}}")
    program = (
        "import sys; sys.modules['re2'] = None\n"
        "from session_exporter.cli.session_exporter import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "check-config", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{file}: correct\n")
