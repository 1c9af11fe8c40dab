"""The one configuration file: YAML to frozen dataclasses, and back to the lines that `check-config` prints.

`SCHEMA` is the whole format: every key, what kind of value it takes, and where the value goes. Defaults are those of
the dataclasses. The reference for people, docs/configuration.md, is tested against it. Nothing is read at import, and
no environment variable is read at all.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from session_exporter import yamlkinds as kinds
from session_exporter.core.scopes import DEFAULT_SCOPE, END_REASONS, OTHER_SCOPE, Limits, ScopeRules
from session_exporter.errors import ConfigError
from session_exporter.yamlsource import DOCUMENT_BYTES_MAX, Problems, Value, compose, shown

# Every scope is a label value of most metrics.
SCOPES_MAX: Final = 100
SCOPE_NAME: Final = re.compile("[a-z][a-z0-9_]{0,63}")
_SCOPES: Final = "scopes"
_SCOPE: Final = "scopes.<name>"


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Where workers write events, and how much they may.

    Attributes:
        directory: None when the file names none: option, environment or built-in default decide.
        worker_limit_bytes: Unread bytes of one worker beyond which it drops events.
        directory_limit_bytes: Bytes of the whole directory beyond which events are dropped.
    """

    directory: Path | None = None
    worker_limit_bytes: int = 16 << 20
    directory_limit_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Where the sidecar keeps its state; None when the file names no directory."""

    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """Whether ids leave the sidecar as they are, and the key of the digests that leave it otherwise.

    Attributes:
        show_ids: True shows plain ids.
        key_file: None for the key that the sidecar makes on its first start.
    """

    show_ids: bool = False
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of application and sidecar; without arguments, the defaults.

    Attributes:
        journal: The transport.
        state: The sidecar's memory.
        privacy: What becomes of ids.
        limits: What bounds the ledger.
        lateness_us: How long an event may be under way before its neighbours are judged; microseconds.
        scopes: Rules by scope name, read-only; `default` is always there, `other` (for undeclared scopes) never.
        replica: The host or pod name; `""` when the file has none and the caller decides.
    """

    journal: JournalSettings = JournalSettings()
    state: StateSettings = StateSettings()
    privacy: PrivacySettings = PrivacySettings()
    limits: Limits = field(default_factory=Limits)
    lateness_us: int = 2_000_000
    scopes: Mapping[str, ScopeRules] = field(default_factory=dict)
    replica: str = ""

    def __post_init__(self) -> None:
        scopes = {DEFAULT_SCOPE: ScopeRules(), **self.scopes}
        object.__setattr__(self, "scopes", MappingProxyType(scopes))

    def describe(self) -> list[str]:
        """Write the effective configuration as sorted `key: value` lines, defaults included."""
        lines = []
        for pattern, (attribute, kind) in SCHEMA.items():
            read = attrgetter(attribute)
            if pattern.startswith(_SCOPE):
                names = {pattern.replace("<name>", name): rules for name, rules in self.scopes.items()}
                lines += [f"{path}: {kind.show(read(rules))}" for path, rules in names.items()]
            else:
                lines.append(f"{pattern}: {kind.show(read(self))}")
        return sorted(lines)


class Key(NamedTuple):
    """One key of the format: the attribute of `Config` (of `ScopeRules` in a scope) it sets, and its kind of value."""

    attribute: str
    kind: kinds.Kind


SCHEMA: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "journal.directory": Key("journal.directory", kinds.AbsolutePath()),
        # Two segments at least: one that is written, one that is read.
        "journal.worker_limit": Key("journal.worker_limit_bytes", kinds.Size("512KiB", "16GiB")),
        "journal.directory_limit": Key("journal.directory_limit_bytes", kinds.Size("512KiB", "1TiB")),
        "state.directory": Key("state.directory", kinds.AbsolutePath()),
        "lateness": Key("lateness_us", kinds.Duration("100ms", "1m")),
        "scopes.<name>.sessions_per_user": Key("sessions_per_user", kinds.Choice(("one", "many"))),
        "scopes.<name>.duplicate_window": Key("duplicate_window_us", kinds.Duration("100ms", "1h")),
        "scopes.<name>.idle_timeout": Key("idle_timeout_us", kinds.Duration("200ms", "30d")),
        "scopes.<name>.reuse_target": Key("reuse_target", kinds.Ratio()),
        "scopes.<name>.end_reasons": Key("end_reasons", kinds.Words(END_REASONS)),
        "limits.max_tracked_sessions": Key("limits.max_tracked_sessions", kinds.Number(1, 100_000_000)),
        "limits.max_incidents": Key("limits.max_incidents", kinds.Number(1, 1_000_000)),
        "limits.known_ids.retention": Key("limits.known_ids_retention_us", kinds.Duration("1m", "3650d")),
        "limits.known_ids.max": Key("limits.known_ids_max", kinds.Number(1, 1_000_000_000)),
        "privacy.show_ids": Key("privacy.show_ids", kinds.Boolean()),
        "privacy.key_file": Key("privacy.key_file", kinds.AbsolutePath()),
        "replica": Key("replica", kinds.Text(253)),
    }
)
_SECTIONS: Final = frozenset(
    pattern[: dot.start()] for pattern in SCHEMA for dot in re.finditer(r"\.", pattern)
)  # every proper prefix: journal, scopes, scopes.<name>, limits.known_ids, …
UNSUPPORTED: Final = frozenset(
    {
        "audit_trail",
        "calls",
        "db_sessions",
        "middleware",
        "per_user",
        "stores",
        "tables",
        "watch",
        f"{_SCOPE}.id_format",
    }
)


def load(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: It cannot be read, is no UTF-8, or `parse` refuses it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(DOCUMENT_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8: the byte 0x{content[error.start]:02x} is not allowed") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Config:
    """Read a configuration.

    Args:
        text: A YAML document; an empty one gives the defaults.
        source: What messages call it, usually a path.

    Raises:
        ConfigError: The text is no YAML or no configuration; all problems are named, up to 20, one per line, as
            `SOURCE:LINE: key.path: value …: expected …`.
    """
    document = compose(text, source)
    if document is None:
        return Config()
    reading = _Reading(Problems(source))
    reading.section(document, "")
    reading.check_sums()
    reading.problems.raise_any()
    return reading.config()


class _Reading:
    """One pass over a document: found values by path, problems by line."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self._found: dict[str, tuple[Any, Value]] = {}
        self._scopes: list[str] = []

    def section(self, value: Value, pattern: str) -> None:
        """Read a mapping; an empty one may be left out or written as nothing at all."""
        if value.shape not in {"mapping", "null"}:
            self._refuse(value, "expected a mapping of keys to values")
        for name, entry in value.entries(self.problems):
            self._entry(name, entry, self._pattern(name, entry, pattern))

    def _pattern(self, name: str, entry: Value, parent: str) -> str:
        if parent != _SCOPES:
            # A dotted key is no short form of a section: two places for one value would contradict each other.
            leaf = name if "." not in name else "?"
            return f"{parent}.{leaf}" if parent else leaf
        if name == OTHER_SCOPE:
            reserved = "a reserved name: sessions of undeclared scopes are counted there"
            self.problems.add(entry.line, entry.path, reserved)
        elif SCOPE_NAME.fullmatch(name) is None:
            expected = "expected a name of 1 to 64 of a-z, 0-9 and _, a letter first"
            self.problems.add(entry.line, entry.path, f"not a scope name: {expected}")
        else:
            self._scopes.append(name)
            if len(self._scopes) == SCOPES_MAX + 1:
                self.problems.add(entry.line, _SCOPES, f"too many scopes: expected at most {SCOPES_MAX}")
        return _SCOPE

    def _entry(self, name: str, entry: Value, pattern: str) -> None:
        if pattern in _SECTIONS:
            self.section(entry, pattern)
        elif pattern in SCHEMA:
            self._leaf(entry, SCHEMA[pattern].kind)
        elif pattern in UNSUPPORTED:
            self.problems.add(entry.line, entry.path, "not supported by this version")
        elif self.problems.full:
            self.problems.add(entry.line, entry.path, "unknown key")
        else:
            self.problems.add(entry.line, entry.path, f"unknown key: {_suggestion(name, pattern)}")

    def _leaf(self, entry: Value, kind: kinds.Kind) -> None:
        try:
            self._found[entry.path] = (kind.read(entry), entry)
        except kinds.RefusedValueError as error:
            self._refuse(error.value, str(error))

    def _refuse(self, value: Value, expected: str) -> None:
        self.problems.add(value.line, value.path or "the document", f"value {value.shown}: {expected}")

    def check_sums(self) -> None:
        """Check what one value demands of another, when each is right by itself."""
        self._at_least("journal.directory_limit", ("journal.worker_limit",), "journal.worker_limit")
        for name in self._scopes:
            window = f"scopes.{name}.duplicate_window"
            self._at_least(f"scopes.{name}.idle_timeout", (window, "lateness"), "duplicate_window + lateness")

    def _at_least(self, path: str, terms: tuple[str, ...], meaning: str) -> None:
        paths = (path, *terms)
        entries = [self._found[each][1] for each in paths if each in self._found]
        if not entries or not self.problems.paths.isdisjoint(paths):
            return
        least = sum(self._value(term) for term in terms)
        if self._value(path) < least:
            kind = SCHEMA[_pattern_of(path)].kind
            value = entries[0].shown if path in self._found else f"{kind.show(self._value(path))} (the default)"
            self.problems.add(entries[0].line, path, f"value {value}: expected at least {meaning}, {kind.show(least)}")

    def _value(self, path: str) -> Any:
        if path in self._found:
            return self._found[path][0]
        pattern = _pattern_of(path)
        return attrgetter(SCHEMA[pattern].attribute)(ScopeRules() if pattern.startswith(_SCOPE) else Config())

    def config(self) -> Config:
        """Build the configuration from what was found; to be called only when there are no problems."""
        parts: dict[str, dict[str, Any]] = defaultdict(dict)
        for path, (value, _) in self._found.items():
            pattern = _pattern_of(path)
            section, _, name = SCHEMA[pattern].attribute.rpartition(".")
            parts[path.rpartition(".")[0] if pattern.startswith(_SCOPE) else section][name] = value
        return Config(
            journal=JournalSettings(**parts["journal"]),
            state=StateSettings(**parts["state"]),
            privacy=PrivacySettings(**parts["privacy"]),
            limits=Limits(**parts["limits"]),
            scopes={name: ScopeRules(name=name, **parts[f"scopes.{name}"]) for name in self._scopes},
            **parts[""],
        )


def _pattern_of(path: str) -> str:
    """The key of `SCHEMA` for a path of a document: `scopes.chat.idle_timeout` is `scopes.<name>.idle_timeout`."""
    section, _, rest = path.partition(".")
    return f"{_SCOPE}.{rest.partition('.')[2]}" if section == _SCOPES else path


def _suggestion(name: str, pattern: str) -> str:
    import difflib  # noqa: PLC0415  # only a file with a mistake needs it

    parent = pattern.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    siblings = sorted({key[len(prefix) :].partition(".")[0] for key in SCHEMA if key.startswith(prefix)})
    near = difflib.get_close_matches(shown(name), siblings, n=1)
    near = near or [key for key in SCHEMA if key.endswith(f".{name}")][:1]
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(siblings)}"
