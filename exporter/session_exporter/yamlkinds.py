"""The kinds of value that a configuration has: how each is read and checked, and how it is shown.

A kind refuses what is not exactly its own: numbers without a unit, quoted booleans, numbers where a text belongs.
Plain classes: an application imports them at its start, where nine dataclasses would cost it milliseconds.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from session_exporter.quantities import format_duration, format_size, parse_duration, parse_size
from session_exporter.yamlsource import Value

# YAML 1.1 also has octal, hexadecimal and sexagesimal numbers; nobody means them in a configuration.
_WHOLE_NUMBER: Final = re.compile("0|[1-9][0-9_]{0,18}")
_DECIMAL: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{0,18})?|\.[0-9]{1,18}")
# PyYAML is YAML 1.1, where these are booleans too.
BOOLEANS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_PATH_CHARS_MAX: Final = 4095
# What needs no quotes, wherever it stands; `:` and `*` only where they mean nothing else.
_PLAIN: Final = re.compile(r"[A-Za-z_/]([\w./@+*:-]*[\w./@+*-])?", re.ASCII)
_WORDS: Final = frozenset({*BOOLEANS, "null", "y", "n"})
_URL_CHARS_MAX: Final = 2000
# What a variable of the environment stands for is no secret by its name.
_PASSWORDS: Final = (
    re.compile(r"(?<=[?&]password=)(?!\$\{\w+\}(&|$))[^&]*"),
    re.compile(r"(?<=[?&]sslpassword=)(?!\$\{\w+\}(&|$))[^&]*"),
    re.compile(r"(?<=:)(?!//)(?!\$\{\w+\}@).*(?=@)"),
)


class RefusedValueError(ValueError):
    """A value is not what its key takes; the message says what was expected, `value` is the one at fault."""

    def __init__(self, value: Value, expected: str) -> None:
        super().__init__(expected)
        self.value = value


class Kind:
    """What a key takes.

    Attributes:
        form: What is expected, in words; the reference of the configuration shows the same.
        secret: Whether no message shows a value.
    """

    form: str
    secret = False

    def read(self, value: Value) -> Any:
        """Read and check a value; raises RefusedValueError."""
        raise NotImplementedError

    def show(self, value: Any) -> str:
        """Write what `read` returned as the file would."""
        return str(value)


def written(text: str) -> str:
    """Write a printable text as a file would, in quotes where it needs them."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if plain else "'" + text.replace("'", "''") + "'"


class _Quantity(Kind):
    """A quantity with a unit, from `least` to `most`, both written as in the file."""

    noun: str

    def __init__(self, least: str, most: str) -> None:
        self.least = least
        self.most = most
        self.form = f"{self.noun} from {least} to {most}"

    def _read(self, value: Value, parse: Callable[[str], int]) -> int:
        try:
            if value.shape != "text":
                parse("")
            quantity = parse(value.text)
        except ValueError as error:
            raise RefusedValueError(value, str(error)) from error
        if not parse(self.least) <= quantity <= parse(self.most):
            raise RefusedValueError(value, f"expected a {self.form}")
        return quantity


class Duration(_Quantity):
    """A duration, read as microseconds."""

    noun = "duration"

    def read(self, value: Value) -> int:
        """Read microseconds."""
        return self._read(value, parse_duration)

    def show(self, value: int) -> str:
        """Write microseconds."""
        return format_duration(value)


class Size(_Quantity):
    """A size, read as bytes."""

    noun = "size"

    def read(self, value: Value) -> int:
        """Read bytes."""
        return self._read(value, parse_size)

    def show(self, value: int) -> str:
        """Write bytes."""
        return format_size(value)


class Number(Kind):
    """A whole number, `least` and `most` included."""

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most
        self.form = f"whole number from {least} to {most}"

    def read(self, value: Value) -> int:
        """Read a whole number."""
        digits = value.text if value.shape == "number" and _WHOLE_NUMBER.fullmatch(value.text) else "-1"
        if not self.least <= int(digits.replace("_", "")) <= self.most:
            raise RefusedValueError(value, f"expected a {self.form}")
        return int(digits.replace("_", ""))


class Ratio(Kind):
    """A decimal number from 0 to 1."""

    form = "number from 0 to 1"

    def read(self, value: Value) -> float:
        """Read a number."""
        ratio = float(value.text) if value.shape == "number" and _DECIMAL.fullmatch(value.text) else -1.0
        if not 0.0 <= ratio <= 1.0:
            raise RefusedValueError(value, f"expected a {self.form}")
        return ratio


class Boolean(Kind):
    """True or false."""

    form = "boolean"

    def read(self, value: Value) -> bool:
        """Read a boolean."""
        if value.shape != "boolean" or value.text.lower() not in BOOLEANS:
            raise RefusedValueError(value, "expected true or false, without quotes")
        return BOOLEANS[value.text.lower()]

    def show(self, value: bool) -> str:  # noqa: FBT001  # the value is what is shown, not a switch
        """Write a boolean."""
        return str(value).lower()


class Text(Kind):
    """A printable text of up to `chars_max` characters; null is the same as not giving it."""

    def __init__(self, chars_max: int) -> None:
        self.chars_max = chars_max
        self.form = f"text of 1 to {chars_max} characters"

    def read(self, value: Value) -> str:
        """Read a text; `""` for null."""
        if value.shape == "null":
            return ""
        if value.shape != "text":
            raise RefusedValueError(value, f"expected a {self.form} (put quotes around it)")
        if not (0 < len(value.text) <= self.chars_max and value.text.isprintable()):
            raise RefusedValueError(value, f"expected a {self.form}, all printable")
        return value.text

    def show(self, value: str) -> str:
        """Write a text."""
        return written(value) if value else "null"


class ServerUrl(Kind):
    """The URL of a server, or a variable of the environment that holds it; null for none. Its password is not shown."""

    secret = True

    def __init__(self, *beginnings: str) -> None:
        self._beginnings = (*beginnings, "${")
        self.form = f"URL that begins with {', '.join(beginnings)} or ${{VARIABLE}}"

    def read(self, value: Value) -> str:
        """Read a URL; `""` for null."""
        if value.shape == "null":
            return ""
        text = value.text if value.shape == "text" else ""
        if not text.startswith(self._beginnings) or not text.isprintable() or len(text) > _URL_CHARS_MAX:
            raise RefusedValueError(value, f"expected a {self.form}")
        return text

    def show(self, value: str) -> str:
        """Write a URL."""
        for password in _PASSWORDS:
            value = password.sub("***", value, count=1)
        return written(value) if value else "null"


class AbsolutePath(Kind):
    """A path; absolute, because application and sidecar rarely share a working directory. May be null."""

    form = "absolute path"

    def read(self, value: Value) -> Path | None:
        """Read a path; None for null."""
        if value.shape == "null":
            return None
        text = value.text if value.shape == "text" else ""
        if not text.startswith("/") or not text.isprintable() or len(text) > _PATH_CHARS_MAX:
            raise RefusedValueError(value, f"expected an {self.form}, such as /run/session-exporter")
        return Path(text)

    def show(self, value: Path | None) -> str:
        """Write a path."""
        return "null" if value is None else str(value)


class Choice(Kind):
    """One word of a closed set."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words
        self.form = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]

    def read(self, value: Value) -> str:
        """Read the word."""
        if value.shape != "text" or value.text not in self.words:
            raise RefusedValueError(value, f"expected {self.form}")
        return value.text


class Words(Kind):
    """A list of words of a closed set, each at most once."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words
        self.form = f"list of {', '.join(words)}"

    def read(self, value: Value) -> frozenset[str]:
        """Read the words."""
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
        """Write the words, in the order of the set."""
        return f"[{', '.join(word for word in self.words if word in value)}]"
