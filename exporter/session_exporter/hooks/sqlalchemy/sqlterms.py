"""The small parts of a SQL text: names, values and conditions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from session_exporter.hooks.sqlalchemy.readings import NOWHERE, Pin, Source, Where, constant, parameter, unknown
from session_exporter.hooks.sqlalchemy.sqltokens import (
    Token,
    Tokens,
    UnclearError,
    closing,
    is_name,
    places,
    split,
    unwrapped,
)

_CONSTANTS: Final = {"NULL": None, "TRUE": True, "FALSE": False}
_NO_ALIAS: Final = frozenset({"AS", "ON", "USING", "SET", "WHERE", "VALUES", "SELECT", "DEFAULT", "RETURNING", "FROM"})
_LONGEST_NAME: Final = 3  # catalog.schema.table


@dataclass(frozen=True, slots=True)
class Table:
    """A table as a statement names it.

    Attributes:
        name: In lower case.
        schema: In lower case, `""` when not given.
        alias: What its columns are qualified with, in lower case.
        is_alone: Columns without a qualifier are its own.
        columns: Of another name that stands for values, such as the source of a MERGE.
    """

    name: str
    schema: str = ""
    alias: str = ""
    is_alone: bool = True
    columns: Mapping[str, Source] | None = None

    def column(self, tokens: Tokens) -> str:
        """The column that the tokens name, in lower case; `""` when they name none of this table."""
        qualified, name = _qualified(tokens)
        if not name or (qualified and qualified not in {self.alias, self.name}):
            return ""
        return name if qualified or self.is_alone else ""


def table_at(tokens: Tokens, place: int) -> tuple[Table, int]:
    """Read a table's name, and an alias behind it; returns the place after them.

    Raises:
        UnclearError: There is none.
    """
    if place < len(tokens) and tokens[place].word == "ONLY":
        place += 1
    names: list[str] = []
    while place < len(tokens) and is_name(tokens[place]) and len(names) < _LONGEST_NAME:
        names.append(tokens[place].text.lower())
        place += 1
        if place >= len(tokens) or tokens[place].word != ".":
            break
        place += 1
    if not names:
        raise UnclearError
    alias, place = _alias_at(tokens, place)
    return Table(names[-1], names[-2] if len(names) > 1 else "", alias or names[-1]), place


def _alias_at(tokens: Tokens, place: int) -> tuple[str, int]:
    if place < len(tokens) and tokens[place].word == "AS":
        place += 1
        if place >= len(tokens) or not is_name(tokens[place]):
            raise UnclearError
    elif place >= len(tokens) or not is_name(tokens[place]) or tokens[place].word in _NO_ALIAS:
        return "", place
    return tokens[place].text.lower(), place + 1


def _qualified(tokens: Tokens) -> tuple[str, str]:
    if len(tokens) == 1 and is_name(tokens[0]) and tokens[0].word not in _CONSTANTS:
        return "", tokens[0].text.lower()
    if len(tokens) in {3, 5} and all(is_name(token) for token in tokens[::2]):
        return (tokens[-3].text.lower(), tokens[-1].text.lower()) if tokens[-2].word == "." else ("", "")
    return "", ""


def names_in(tokens: Tokens) -> list[str]:
    """A list of columns in brackets, in lower case.

    Raises:
        UnclearError: It holds something else.
    """
    names = []
    for part in split(unwrapped(tokens), ","):
        if len(part) != 1 or not is_name(part[0]):
            raise UnclearError
        names.append(part[0].text.lower())
    return names


def value_of(tokens: Tokens, aliased: Table | None = None) -> Source | None:
    """Where a value comes from; None for an expression, whose value only the database knows.

    Args:
        tokens: The expression.
        aliased: Values that have names, which the expression may use.
    """
    tokens = _without_cast(unwrapped(tokens))
    if len(tokens) == 1:
        return _single(tokens[0])
    if len(tokens) == 2 and tokens[0].word == "-" and tokens[1].kind == "number":  # noqa: PLR2004 - sign and number
        return constant(_number("-" + tokens[1].text))
    if aliased is not None and aliased.columns is not None:
        if tokens and tokens[0].word == "VALUES":  # what MySQL calls `excluded`
            return aliased.columns.get(tokens[2].text.lower())
        return aliased.columns.get(aliased.column(tokens))
    return None


def _single(token: Token) -> Source | None:
    if token.kind == "param":
        return _parameter(token)
    if token.kind == "string":
        return constant(token.text)
    if token.kind == "number":
        return constant(_number(token.text))
    return constant(_CONSTANTS[token.word]) if token.word in _CONSTANTS else None


def _number(text: str) -> object:
    return int(text) if text.lstrip("-").isdigit() else text


def _parameter(token: Token) -> Source:
    text = token.text
    if text[0] == ":":
        return parameter(text[1:])
    if text.startswith("%("):
        return parameter(text[2:-2])
    if text[0] in "?$" and len(text) > 1:
        return parameter(int(text[1:]) - 1)
    return parameter(token.ordinal)


def _without_cast(tokens: Tokens) -> Tokens:
    """The value inside of `CAST(value AS type)` or `value::type`."""
    casts = [place for place, token in enumerate(tokens) if token.kind == "cast"]
    if casts and casts[0] > 0 and all(token.kind in {"word", "cast", "number", "sign"} for token in tokens[casts[0] :]):
        inside = tokens[: casts[0]]
        return unwrapped(inside) if len(inside) == 1 or closing(inside, 0) == len(inside) - 1 else tokens
    if len(tokens) > 3 and tokens[0].word == "CAST" and closing(tokens, 1) == len(tokens) - 1:  # noqa: PLR2004 - CAST(x)
        return unwrapped(split(tokens[2:-1], "AS")[0])
    return tokens


def where_of(tokens: Tokens, table: Table) -> Where:
    """What a condition pins of a table's columns."""
    tokens = unwrapped(tokens)
    if not tokens or places(tokens, "OR", "CASE", "XOR", "BETWEEN"):
        return NOWHERE
    pins: dict[str, Pin] = {}
    is_only_pins = True
    for part in split(tokens, "AND"):
        inner = unwrapped(part)
        if places(inner, "AND", "OR"):
            nested = where_of(inner, table)
            pins.update(nested.pins)
            is_only_pins &= nested.is_only_pins
        elif (found := _pin(inner, table)) is not None:
            pins[found[0]] = found[1]
        else:
            is_only_pins = False
    return Where(pins, is_only_pins)


def _pin(tokens: Tokens, table: Table) -> tuple[str, Pin] | None:
    equals, within = places(tokens, "="), places(tokens, "IN")
    if len(equals) == 1 and not within:
        return _equality(tokens[: equals[0]], tokens[equals[0] + 1 :], table)
    if len(within) == 1 and not equals:
        column = table.column(tokens[: within[0]])
        pin = _listed(tokens[within[0] + 1 :])
        return (column, pin) if column and pin is not None else None
    return None


def _equality(left: Tokens, right: Tokens, table: Table) -> tuple[str, Pin] | None:
    for one, other in ((left, right), (right, left)):
        column = table.column(_without_cast(unwrapped(one)))
        value = value_of(other) if column else None
        if value is not None:
            return column, Pin((value,))
    return None


def _listed(tokens: Tokens) -> Pin | None:
    inside = unwrapped(tokens)
    if len(inside) == 1 and inside[0].text[:1] == ":":
        return Pin(expanding=inside[0].text[1:])
    values = [value_of(part) for part in split(inside, ",")]
    sources = tuple(value for value in values if value is not None)
    return Pin(sources) if len(sources) == len(values) else None


def known(sources: Mapping[str, Source | None]) -> dict[str, Source]:
    """Those columns whose value does not come from the database."""
    return {column: source for column, source in sources.items() if source is not None}


def outputs_of(tokens: Tokens, table: Table) -> tuple[dict[str, int | str], bool]:
    """The result's columns that are columns of the table, and whether `*` stands for all of them."""
    if len(tokens) > 1 and tokens[0].word in {"DISTINCT", "ALL"}:
        tokens = tokens[closing(tokens, 2) + 1 :] if tokens[1].word == "ON" else tokens[1:]
    parts = split(tokens, ",")
    stars = [part for part in parts if part and part[-1].word == "*"]
    outputs: dict[str, int | str] = {}
    for place, part in enumerate(parts):
        if part in stars or not part:
            continue
        named = len(part) > 1 and is_name(part[-1]) and part[-2].word != "."
        expression = part[: -2 if part[-2].word == "AS" else -1] if named else part
        column = table.column(expression)
        if column:
            outputs[column] = part[-1].text.lower() if stars else place
    return outputs, any(len(part) == 1 or part[0].text.lower() == table.alias for part in stars)


def told(sources: Mapping[str, Source | None]) -> dict[str, Source]:
    """All columns; the value of some only the database knows."""
    return {column: unknown if source is None else source for column, source in sources.items()}


def clauses_of(tokens: Tokens, *words: str) -> dict[str, Tokens]:
    """What stands behind each of these words, up to the next of them.

    Raises:
        UnclearError: One is there twice.
    """
    starts = places(tokens, *words)
    clauses: dict[str, Tokens] = {}
    for start, end in zip(starts, [*starts, len(tokens)][1:], strict=True):
        if tokens[start].word in clauses:
            raise UnclearError
        clauses[tokens[start].word] = tokens[start + 1 : end]
    return clauses
