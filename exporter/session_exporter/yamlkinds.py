"""The kinds of value that a configuration has: how each is read and checked, and how it is shown.

A kind refuses what is not exactly its own: numbers without a unit, quoted booleans, numbers where a text belongs.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from session_exporter.quantities import format_duration, format_size, parse_duration, parse_size
from session_exporter.yamlsource import Value

# YAML 1.1 also has octal, hexadecimal and sexagesimal numbers; nobody means them in a configuration.
_WHOLE_NUMBER: Final = re.compile("0|[1-9][0-9_]{0,18}")
_DECIMAL: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{0,18})?|\.[0-9]{1,18}")
# PyYAML is YAML 1.1, where these are booleans too.
_BOOLEANS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_PATH_CHARS_MAX: Final = 4095


class RefusedValueError(ValueError):
    """A value is not what its key takes; the message says what was expected, `value` is the one at fault."""

    def __init__(self, value: Value, expected: str) -> None:
        super().__init__(expected)
        self.value = value


class Kind(Protocol):
    """What a key takes."""

    @property
    def form(self) -> str:
        """What is expected, in words; the reference of the configuration shows the same."""

    def read(self, value: Value) -> Any:
        """Read and check a value; raises RefusedValueError."""

    def show(self, value: Any) -> str:
        """Write what `read` returned as the file would."""


@dataclass(frozen=True, slots=True)
class _Quantity:
    """A quantity with a unit, from `least` to `most`, both written as in the file."""

    least: str
    most: str

    def _read(self, value: Value, parse: Callable[[str], int], form: str) -> int:
        try:
            if value.shape != "text":
                parse("")
            quantity = parse(value.text)
        except ValueError as error:
            raise RefusedValueError(value, str(error)) from error
        if not parse(self.least) <= quantity <= parse(self.most):
            raise RefusedValueError(value, f"expected a {form}")
        return quantity


@dataclass(frozen=True, slots=True)
class Duration(_Quantity):
    """A duration, read as microseconds."""

    @property
    def form(self) -> str:
        """See Kind."""
        return f"duration from {self.least} to {self.most}"

    def read(self, value: Value) -> int:
        """See Kind."""
        return self._read(value, parse_duration, self.form)

    def show(self, value: int) -> str:
        """See Kind."""
        return format_duration(value)


@dataclass(frozen=True, slots=True)
class Size(_Quantity):
    """A size, read as bytes."""

    @property
    def form(self) -> str:
        """See Kind."""
        return f"size from {self.least} to {self.most}"

    def read(self, value: Value) -> int:
        """See Kind."""
        return self._read(value, parse_size, self.form)

    def show(self, value: int) -> str:
        """See Kind."""
        return format_size(value)


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number, `least` and `most` included."""

    least: int
    most: int

    @property
    def form(self) -> str:
        """See Kind."""
        return f"whole number from {self.least} to {self.most}"

    def read(self, value: Value) -> int:
        """See Kind."""
        digits = value.text if value.shape == "number" and _WHOLE_NUMBER.fullmatch(value.text) else "-1"
        if not self.least <= int(digits.replace("_", "")) <= self.most:
            raise RefusedValueError(value, f"expected a {self.form}")
        return int(digits.replace("_", ""))

    def show(self, value: int) -> str:
        """See Kind."""
        return str(value)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A decimal number from 0 to 1."""

    form: str = "number from 0 to 1"

    def read(self, value: Value) -> float:
        """See Kind."""
        ratio = float(value.text) if value.shape == "number" and _DECIMAL.fullmatch(value.text) else -1.0
        if not 0.0 <= ratio <= 1.0:
            raise RefusedValueError(value, f"expected a {self.form}")
        return ratio

    def show(self, value: float) -> str:
        """See Kind."""
        return str(value)


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false."""

    form: str = "boolean"

    def read(self, value: Value) -> bool:
        """See Kind."""
        if value.shape != "boolean" or value.text.lower() not in _BOOLEANS:
            raise RefusedValueError(value, "expected true or false, without quotes")
        return _BOOLEANS[value.text.lower()]

    def show(self, value: bool) -> str:  # noqa: FBT001  # the value is what is shown, not a switch
        """See Kind."""
        return str(value).lower()


@dataclass(frozen=True, slots=True)
class Text:
    """A printable text of up to `chars_max` characters; null is the same as not giving it."""

    chars_max: int

    @property
    def form(self) -> str:
        """See Kind."""
        return f"text of 1 to {self.chars_max} characters"

    def read(self, value: Value) -> str:
        """See Kind."""
        if value.shape == "null":
            return ""
        if value.shape != "text":
            raise RefusedValueError(value, f"expected a {self.form} (put quotes around it)")
        if not (0 < len(value.text) <= self.chars_max and value.text.isprintable()):
            raise RefusedValueError(value, f"expected a {self.form}, all printable")
        return value.text

    def show(self, value: str) -> str:
        """See Kind."""
        return value or "null"


@dataclass(frozen=True, slots=True)
class AbsolutePath:
    """A path; absolute, because application and sidecar rarely share a working directory. May be null."""

    form: str = "absolute path"

    def read(self, value: Value) -> Path | None:
        """See Kind."""
        if value.shape == "null":
            return None
        text = value.text if value.shape == "text" else ""
        if not text.startswith("/") or not text.isprintable() or len(text) > _PATH_CHARS_MAX:
            raise RefusedValueError(value, f"expected an {self.form}, such as /run/session-exporter")
        return Path(text)

    def show(self, value: Path | None) -> str:
        """See Kind."""
        return "null" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of a closed set."""

    words: tuple[str, ...]

    @property
    def form(self) -> str:
        """See Kind."""
        return " or ".join(self.words)

    def read(self, value: Value) -> str:
        """See Kind."""
        if value.shape != "text" or value.text not in self.words:
            raise RefusedValueError(value, f"expected {self.form}")
        return value.text

    def show(self, value: str) -> str:
        """See Kind."""
        return value


@dataclass(frozen=True, slots=True)
class Words:
    """A list of words of a closed set, each at most once."""

    words: tuple[str, ...]

    @property
    def form(self) -> str:
        """See Kind."""
        return f"list of {', '.join(self.words)}"

    def read(self, value: Value) -> frozenset[str]:
        """See Kind."""
        if value.shape != "list":
            raise RefusedValueError(value, f"expected a {self.form}")
        found: set[str] = set()
        for item in value.items():
            if item.shape != "text" or item.text not in self.words:
                raise RefusedValueError(item, f"expected one of {', '.join(self.words)}")
            if item.text in found:
                raise RefusedValueError(item, "expected each word once")
            found.add(item.text)
        return frozenset(found)

    def show(self, value: frozenset[str]) -> str:
        """See Kind."""
        return f"[{', '.join(word for word in self.words if word in value)}]"
