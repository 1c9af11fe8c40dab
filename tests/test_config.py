"""The configuration file: what it accepts, how it is read and described, and that its reference is complete."""

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter import config as config_module
from session_exporter.config import (
    Config,
    JournalSettings,
    PrivacySettings,
    StateSettings,
    StreamSettings,
    default_text,
    load,
    parse,
)
from session_exporter.configschema import SCHEMA
from session_exporter.core.ids import IdFormat, generate_context_ids
from session_exporter.core.scopes import Limits, ScopeRules
from session_exporter.errors import ConfigError
from session_exporter.mappinglists import LISTS

REFERENCE = Path(__file__).parent.parent / "docs" / "configuration.md"


# What is accepted.


@pytest.mark.parametrize(
    "text", ["", "\n", "# nothing\n", "---\n", "scopes:\n", "{}", "scopes: {}\nlimits: ~\njournal:\n"]
)
def test_a_file_that_says_nothing_gives_the_defaults(text: str) -> None:
    assert parse(text, "f.yml") == Config()


def test_the_default_scope_exists_though_nobody_names_it() -> None:
    assert dict(Config().scopes) == {"default": ScopeRules()}
    assert set(parse("scopes: {chat: {}}", "f.yml").scopes) == {"default", "chat"}


def test_the_rules_of_the_default_scope_can_be_changed() -> None:
    assert parse("scopes: {default: {sessions_per_user: many}}", "f.yml").scopes["default"].sessions_per_user == "many"


def test_every_key_arrives_where_it_belongs() -> None:
    config = parse(
        dedent("""\
            journal: {directory: /run/a, worker_limit: 1MiB, directory_limit: 10MB}
            state: {directory: /var/b}
            lateness: 500ms
            scopes:
              chat:
                sessions_per_user: many
                duplicate_window: 3s
                idle_timeout: 1h30m
                reuse_target: 0.5
                end_reasons: [rotated, completed]
                id_format: {session: uuid, thread: unified, user: '^u-[0-9]+$', legacy: {thread: '^t-'}}
              empty:
            limits:
              max_tracked_sessions: 1_000
              max_incidents: 5
              known_ids: {retention: 2d, max: 7}
              max_db_session_lifetime: 1m
              incident_retention: 3d
            audit_trail: {events_per_user: 0, retention: 5m}
            per_user: {top: 50}
            privacy: {show_ids: true, key_file: /etc/key}
            stream:
              {url: "unix://${X}", url_file: null, partitions: 64, send_every: 1s,
               max_entries: 1_000, tail: 5m, patience: 30s}
            replica: pod-3
            """),
        "f.yml",
    )
    assert config == Config(
        journal=JournalSettings(Path("/run/a"), 1 << 20, 10_000_000),
        state=StateSettings(Path("/var/b")),
        lateness_us=500_000,
        scopes={
            "chat": ScopeRules(
                "chat",
                sessions_per_user="many",
                duplicate_window_us=3_000_000,
                idle_timeout_us=5_400_000_000,
                reuse_target=0.5,
                end_reasons=frozenset({"rotated", "completed"}),
                id_formats={
                    "session": IdFormat("uuid"),
                    "user": IdFormat("^u-[0-9]+$"),
                    "thread": IdFormat("unified", legacy="^t-", kind="thread"),
                },
            ),
            "empty": ScopeRules("empty"),
        },
        limits=Limits(
            max_tracked_sessions=1000,
            max_incidents=5,
            incident_retention_us=3 * 86_400_000_000,
            known_ids_max=7,
            known_ids_retention_us=2 * 86_400_000_000,
            max_db_session_lifetime_us=60_000_000,
            trail_events_per_user=0,
            trail_retention_us=300_000_000,
            top_users=50,
        ),
        privacy=PrivacySettings(show_ids=True, key_file=Path("/etc/key")),
        stream=StreamSettings("unix://${X}", None, 64, 1_000_000, 1000, 300_000_000, 30_000_000),
        replica="pod-3",
    )


@pytest.mark.parametrize("kind", ["thread", "run", "request"])
def test_a_unified_id_of_a_kind_begins_with_the_word_of_the_kind(kind: str) -> None:
    format_ = parse(f"scopes: {{a: {{id_format: {{{kind}: unified}}}}}}", "f.yml").scopes["a"].id_formats[kind]
    ids = dict(zip(("thread", "run", "request"), generate_context_ids("u1"), strict=True))
    assert [each for each, id_ in ids.items() if format_.classify(id_) == "canonical"] == [kind]


@pytest.mark.parametrize("kind", ["session", "user"])
def test_a_unified_id_of_a_session_or_user_begins_with_any_word(kind: str) -> None:
    format_ = parse(f"scopes: {{a: {{id_format: {{{kind}: unified}}}}}}", "f.yml").scopes["a"].id_formats[kind]
    assert {format_.classify(id_) for id_ in generate_context_ids("u1")} == {"canonical"}


@pytest.mark.parametrize("text", ["", "{}", "{session: null}", "{legacy: null}", "{legacy: {thread: null}}"])
def test_a_format_that_is_null_is_none(text: str) -> None:
    assert parse(f"scopes: {{a: {{id_format: {text}}}}}", "f.yml").scopes["a"].id_formats == {}


def test_scopes_may_share_a_block_through_an_alias() -> None:
    config = parse("scopes: {a: &rules {duplicate_window: 3s}, b: *rules}", "f.yml")
    assert config.scopes["b"] == ScopeRules("b", duplicate_window_us=3_000_000)


@pytest.mark.parametrize("ratio", ["0", "1", "0.95", ".5", "1.0"])
def test_a_ratio_is_any_decimal_from_0_to_1(ratio: str) -> None:
    rules = parse(f"scopes: {{a: {{reuse_target: {ratio}}}}}", "f.yml").scopes["a"]
    assert rules.reuse_target == float(ratio)


def test_the_scopes_of_a_configuration_are_read_only() -> None:
    with pytest.raises(TypeError):
        Config().scopes["x"] = ScopeRules("x")  # type: ignore[index]  # that it cannot be done is the point


def test_a_hundred_scopes_are_accepted() -> None:
    assert len(parse("scopes:\n" + "".join(f"  s{i}:\n" for i in range(100)), "f.yml").scopes) == 101


# Files.


def test_a_file_is_read_as_utf8_with_or_without_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_bytes(b"\xef\xbb\xbfreplica: caf\xc3\xa9\r\n")
    assert load(path).replica == "café"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.yml", "No such file or directory"),
        (".", "Is a directory"),
        ("/proc/self/mem", "Input/output error"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: cannot be read: {reason}"


def test_an_unreadable_file_says_why(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.touch(mode=0o000)
    with suppress(PermissionError):
        path.read_bytes()
        pytest.skip("this user may read every file")
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load(path)


def test_a_file_in_another_encoding_names_line_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_bytes(b"lateness: 2s\nreplica: caf\xe9\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:2: not UTF-8: the byte 0xe9 is not allowed"


def test_an_endless_file_is_read_no_further_than_allowed() -> None:
    with pytest.raises(ConfigError, match=r"^/dev/zero: the document is too large"):
        load(Path("/dev/zero"))


def test_mistakes_of_a_file_carry_its_path(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text("jurnal: {}\n")
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}:1: jurnal: "):
        load(path)


def test_importing_the_module_does_not_import_yaml() -> None:
    code = "import sys, session_exporter.config as c; c.Config().describe(); sys.exit('yaml' in sys.modules)"
    environment = {"PYTHONPATH": str(Path(config_module.__file__).parent.parent)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@given(st.binary())
def test_no_file_raises_anything_but_a_config_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_bytes(content)
    with suppress(ConfigError):
        load(path)


# Describing.


def test_the_effective_configuration_is_described_with_its_defaults_in_sorted_lines() -> None:
    formats = "{legacy: {thread: ^t-}, thread: unified, session: uuid}"
    text = f"scopes: {{chat: {{idle_timeout: 90m, id_format: {formats}}}}}\njournal: {{worker_limit: 10MB}}\nreplica: p"
    lines = parse(text, "f.yml").describe()
    assert lines == sorted(lines)
    in_lists = sum("[]" in key for key in SCHEMA)
    assert len(lines) == len(SCHEMA) + sum(key.startswith("scopes.") for key in SCHEMA) - in_lists + len(LISTS)
    assert {
        "scopes.chat.idle_timeout: 1h30m",
        "scopes.default.idle_timeout: 30m",
        "scopes.chat.end_reasons: [completed, user_request, expired, escalated]",
        "scopes.chat.id_format: {session: uuid, thread: unified, legacy: {thread: '^t-'}}",
        "scopes.default.id_format: {}",
        "limits.incident_retention: 30d",
        "audit_trail.events_per_user: 20",
        "audit_trail.retention: 15m",
        "per_user.top: 0",
        "journal.worker_limit: 10MB",
        "journal.directory: null",
        "privacy.show_ids: false",
        "replica: p",
    } <= set(lines)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:hunter2@host", "redis://:***@host"),
        ("rediss://user:hunter2@x/y?z:@host", "rediss://user:***@host"),
        ("unix:///run/redis.sock?db=1&password=hunter2", "'unix:///run/redis.sock?db=1&password=***'"),
        ("redis://host?password=hunter2@x", "'redis://host?password=***'"),
        ("redis://:${SECRET}@host", "'redis://:${SECRET}@host'"),
        ("${REDIS_URL}", "'${REDIS_URL}'"),
        ("null", "null"),
    ],
)
def test_a_url_is_described_without_its_password(url: str, shown: str) -> None:
    assert (
        f"stream.url: {shown}" in parse(f"stream: {{url: {url if url == 'null' else repr(url)}}}", "f.yml").describe()
    )


# The reference.


def documented() -> dict[str, tuple[str, str]]:
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \| `?(.+?)`? \| \S.*\|$", REFERENCE.read_text("utf-8"), re.MULTILINE)
    return {key: (form, default) for key, form, default in rows}


def test_the_reference_names_every_key_with_its_type_and_default_and_no_other() -> None:
    assert documented() == {pattern: (key.kind.form, default_text(pattern)) for pattern, key in SCHEMA.items()}


def test_the_example_of_the_reference_is_accepted() -> None:
    example = re.search("```yaml\n(.*?)```", REFERENCE.read_text("utf-8"), re.DOTALL)
    assert example is not None
    scopes = {"default", "conversation", "progress_update", "history", "web"}
    assert set(parse(example[1], "example").scopes) == scopes
