"""What a configuration file must not say, and the words in which each mistake is named."""

import pytest

from session_exporter.config import parse
from session_exporter.core.scopes import END_REASONS
from session_exporter.errors import ConfigError
from session_exporter.quantities import DURATION_FORM, SIZE_FORM

SECTIONS = (
    "expected one of audit_trail, calls, db_sessions, journal, lateness, limits, middleware, per_user, privacy, "
    "replica, scopes, state, stores, stream, tables, watch"
)
URL_EXPECTED = "expected a URL that begins with redis://, rediss://, unix:// or ${VARIABLE}"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yml")
    return str(caught.value).splitlines()


ONE_PROBLEM = {
    "unknown key": ("jurnal: {}", "f.yml:1: jurnal: unknown key: did you mean journal?"),
    "unknown key, nothing near": ("\nxyzzy: 1", f"f.yml:2: xyzzy: unknown key: {SECTIONS}"),
    "unknown key of a scope": (
        "scopes:\n  chat:\n    duplicate_windw: 3s",
        "f.yml:3: scopes.chat.duplicate_windw: unknown key: did you mean duplicate_window?",
    ),
    "key on the wrong level": (
        "idle_timeout: 5m",
        "f.yml:1: idle_timeout: unknown key: did you mean scopes.<name>.idle_timeout?",
    ),
    "dotted key": ("journal.directory: /x", f"f.yml:1: journal.directory: unknown key: {SECTIONS}"),
    "pattern as key": (
        "'scopes.<name>.idle_timeout': 5m",
        f"f.yml:1: scopes.<name>.idle_timeout: unknown key: {SECTIONS}",
    ),
    "unprintable key": ('"a\\nb": 1', rf"f.yml:1: 'a\nb': unknown key: {SECTIONS}"),
    "key that is no text": (
        "scopes: {on: {}}",
        "f.yml:1: scopes.on: expected a text as key (put quotes around it; merge keys are not read)",
    ),
    "merge key": (
        "scopes: {a: &a {}, b: {<<: *a}}",
        "f.yml:1: scopes.b.<<: expected a text as key (put quotes around it; merge keys are not read)",
    ),
    "duplicate key": (
        "lateness: 1s\nreplica: a\nlateness: 2s",
        "f.yml:3: lateness: duplicate key: expected once, but line 1 has it too",
    ),
    "duplicate scope": (
        "scopes:\n  chat: {}\n  web: {}\n  chat: {}",
        "f.yml:4: scopes.chat: duplicate key: expected once, but line 2 has it too",
    ),
    "reserved scope": (
        "scopes: {other: {}}",
        "f.yml:1: scopes.other: a reserved name: sessions of undeclared scopes are counted there",
    ),
    "scope name": (
        "scopes: {Web-Chat: {}}",
        "f.yml:1: scopes.Web-Chat: not a scope name: expected a name of 1 to 64 of a-z, 0-9 and _, a letter first",
    ),
    "too many scopes": (
        "scopes:\n" + "".join(f"  s{i}:\n" for i in range(103)),
        "f.yml:102: scopes: too many scopes: expected at most 100",
    ),
    "document of another type": ("[1, 2]", "f.yml:1: the document: value a list: expected a mapping of keys to values"),
    "section of another type": ("limits: 5", "f.yml:1: limits: value 5: expected a mapping of keys to values"),
    "scope of another type": (
        "scopes: {a: [one]}",
        "f.yml:1: scopes.a: value a list: expected a mapping of keys to values",
    ),
    "duration without unit": ("lateness: 10", f"f.yml:1: lateness: value 10: expected {DURATION_FORM}"),
    "duration with a wrong unit": ("lateness: 2 s", f"f.yml:1: lateness: value 2 s: expected {DURATION_FORM}"),
    "duration as a mapping": ("lateness: {s: 2}", f"f.yml:1: lateness: value a mapping: expected {DURATION_FORM}"),
    "duration null": ("lateness:", f"f.yml:1: lateness: value null: expected {DURATION_FORM}"),
    "duration too long": ("lateness: 2m", "f.yml:1: lateness: value 2m: expected a duration from 100ms to 1m"),
    "duration too short": (
        "scopes: {a: {duplicate_window: 99ms}}",
        "f.yml:1: scopes.a.duplicate_window: value 99ms: expected a duration from 100ms to 1h",
    ),
    "idle timeout too long": (
        "scopes: {a: {idle_timeout: 31d}}",
        "f.yml:1: scopes.a.idle_timeout: value 31d: expected a duration from 200ms to 30d",
    ),
    "size without unit": (
        "journal: {worker_limit: 16}",
        f"f.yml:1: journal.worker_limit: value 16: expected {SIZE_FORM}",
    ),
    "size with half a unit": (
        "journal: {worker_limit: 16M}",
        f"f.yml:1: journal.worker_limit: value 16M: expected {SIZE_FORM}",
    ),
    "size too small": (
        "journal: {worker_limit: 511KiB}",
        "f.yml:1: journal.worker_limit: value 511KiB: expected a size from 512KiB to 16GiB",
    ),
    "whole number, octal": (
        "limits: {max_incidents: 010}",
        "f.yml:1: limits.max_incidents: value 010: expected a whole number from 1 to 1000000",
    ),
    "whole number, quoted": (
        "limits: {max_incidents: '10'}",
        "f.yml:1: limits.max_incidents: value '10': expected a whole number from 1 to 1000000",
    ),
    "whole number, zero": (
        "limits: {known_ids: {max: 0}}",
        "f.yml:1: limits.known_ids.max: value 0: expected a whole number from 1 to 1000000000",
    ),
    "whole number, endless": (
        f"limits: {{max_incidents: {'9' * 5000}}}",
        f"f.yml:1: limits.max_incidents: value {'9' * 60}…: expected a whole number from 1 to 1000000",
    ),
    "ratio in percent": (
        "scopes: {a: {reuse_target: 95%}}",
        "f.yml:1: scopes.a.reuse_target: value 95%: expected a number from 0 to 1",
    ),
    "ratio above 1": (
        "scopes: {a: {reuse_target: 1.01}}",
        "f.yml:1: scopes.a.reuse_target: value 1.01: expected a number from 0 to 1",
    ),
    "ratio that is no number": (
        "scopes: {a: {reuse_target: .nan}}",
        "f.yml:1: scopes.a.reuse_target: value .nan: expected a number from 0 to 1",
    ),
    "boolean in quotes": (
        "privacy: {show_ids: 'true'}",
        "f.yml:1: privacy.show_ids: value 'true': expected true or false, without quotes",
    ),
    "number as boolean": (
        "privacy: {show_ids: 1}",
        "f.yml:1: privacy.show_ids: value 1: expected true or false, without quotes",
    ),
    "text that YAML takes for a number": (
        "replica: 007",
        "f.yml:1: replica: value 007: expected a text of 1 to 253 characters (put quotes around it)",
    ),
    "empty text": ("replica: ''", "f.yml:1: replica: value '': expected a text of 1 to 253 characters, all printable"),
    "unprintable text": (
        'replica: "a\\u0007"',
        r"f.yml:1: replica: value 'a\x07': expected a text of 1 to 253 characters, all printable",
    ),
    "tagged value": (
        "replica: !!python/name:os.system x",
        "f.yml:1: replica: value x: expected a text of 1 to 253 characters (put quotes around it)",
    ),
    "tag that belies its value": ("scopes: !!map x", "f.yml:1: scopes: value x: expected a mapping of keys to values"),
    "relative path": (
        "state: {directory: ./state}",
        "f.yml:1: state.directory: value ./state: expected an absolute path, such as /run/session-exporter",
    ),
    "path with a null character": (
        'privacy: {key_file: "/a\\0b"}',
        r"f.yml:1: privacy.key_file: value '/a\x00b': expected an absolute path, such as /run/session-exporter",
    ),
    "text from a list": (
        "replica: [a]",
        "f.yml:1: replica: value a list: expected a text of 1 to 253 characters (put quotes around it)",
    ),
    "unknown choice": (
        "scopes: {a: {sessions_per_user: two}}",
        "f.yml:1: scopes.a.sessions_per_user: value two: expected one or many",
    ),
    "reasons that are no list": (
        "scopes: {a: {end_reasons: completed}}",
        f"f.yml:1: scopes.a.end_reasons: value completed: expected a list of {', '.join(END_REASONS)}",
    ),
    "unknown reason": (
        "scopes:\n  a:\n    end_reasons:\n      - completed\n      - done",
        f"f.yml:5: scopes.a.end_reasons[1]: value done: expected one of {', '.join(END_REASONS)}",
    ),
    "repeated reason": (
        "scopes: {a: {end_reasons: [other, other]}}",
        "f.yml:1: scopes.a.end_reasons[1]: value other: expected each word once",
    ),
    "idle timeout below window and lateness": (
        "scopes:\n  a:\n    idle_timeout: 11s",
        "f.yml:3: scopes.a.idle_timeout: value 11s: expected at least duplicate_window + lateness, 12s",
    ),
    "window above the default idle timeout": (
        "scopes:\n  a:\n    duplicate_window: 1h",
        "f.yml:3: scopes.a.idle_timeout: value 30m (the default): expected at least duplicate_window + lateness, 1h2s",
    ),
    "directory limit below worker limit": (
        "journal: {worker_limit: 1GiB}",
        "f.yml:1: journal.directory_limit: value 256MiB (the default): expected at least journal.worker_limit, 1GiB",
    ),
    "URL of something else": (
        "stream: {url: 'http://:hunter2@host'}",
        f"f.yml:1: stream.url: value (not shown): {URL_EXPECTED}",
    ),
    "URL that is no text": (
        "stream: {url: [redis://]}",
        f"f.yml:1: stream.url: value (not shown): {URL_EXPECTED}",
    ),
    "URL where a section belongs": (
        "stream: redis://user:hunter2@host/0",
        "f.yml:1: stream: value redis://***@host/0: expected a mapping of keys to values",
    ),
    "URL and file of a URL": (
        "stream:\n  url: redis://:hunter2@host\n  url_file: /etc/url",
        "f.yml:3: stream.url_file: expected either this or stream.url, not both",
    ),
    "no partition": (
        "stream: {partitions: 0}",
        "f.yml:1: stream.partitions: value 0: expected a whole number from 1 to 1024",
    ),
    "more users than can be shown": (
        "per_user: {top: 1001}",
        "f.yml:1: per_user.top: value 1001: expected a whole number from 0 to 1000",
    ),
    "several documents": ("lateness: 1s\n---\nlateness: 2s", "f.yml:2: several documents: expected one"),
    "control character": ("a: 1\nb: \x01", r"f.yml:2: not valid YAML: the character '\x01' is not allowed"),
    "lone surrogate": ("a: \ud800", r"f.yml:1: not valid YAML: the character '\ud800' is not allowed"),
}


@pytest.mark.parametrize(("text", "problem"), ONE_PROBLEM.values(), ids=ONE_PROBLEM.keys())
def test_a_mistake_is_named_with_file_line_key_and_what_was_expected(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_all_mistakes_are_reported_together_in_the_order_of_the_file() -> None:
    text = "lateness: 3\njurnal: {}\nscopes:\n  a: {idle_timeout: 1s}\n  b: {reuse_target: 2}\nwatch: [a]"
    starts = [problem.split(": ")[:2] for problem in problems(text.replace("lateness: 3", "replica: 3"))]
    assert starts == [
        ["f.yml:1", "replica"],
        ["f.yml:2", "jurnal"],
        ["f.yml:4", "scopes.a.idle_timeout"],
        ["f.yml:5", "scopes.b.reuse_target"],
        ["f.yml:6", "watch[0]"],
    ]


def test_a_sum_is_not_checked_when_one_of_its_terms_is_already_wrong() -> None:
    assert len(problems("lateness: 3\nscopes: {a: {idle_timeout: 1s}}")) == 1


def test_after_twenty_mistakes_the_rest_is_counted() -> None:
    found = problems("".join(f"key{i}: 1\n" for i in range(23)))
    assert len(found) == 21
    assert found[-1] == "f.yml: further problems: 3"
