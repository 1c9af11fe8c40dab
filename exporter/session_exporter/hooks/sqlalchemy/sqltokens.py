"""SQL text cut into tokens, as far as that is certain."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

SQL_CHARS_MAX: Final = 100_000

_TOKEN: Final = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]* | /\*(?:[^*]|\*(?!/))*\*/ )
    | (?P<string> [nN]?'(?:[^'\\]|'')*' )
    | (?P<quoted> "(?:[^"]|"")+" | `(?:[^`]|``)+` | \[[A-Za-z_][^\]\n]*\] )
    | (?P<cast> :: )
    | (?P<param> %\(\w+\)s | %s | \?\d* | :\w+ | \$\d+ )
    | (?P<number> \d+(?:\.\d+)? )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<sign> <= | >= | <> | != | \|\| | [(),.;*=<>+\-/%!~] )
    """,
    re.VERBOSE,
)


class UnclearError(Exception):
    """The text is not certain to mean what it seems to mean."""


class Token(NamedTuple):
    """One word, sign or value.

    Attributes:
        kind: `string`, `quoted`, `cast`, `param`, `number`, `word` or `sign`.
        text: As written; a name without its quotes, a string as its value.
        word: The text in upper case for a `word`, the text for a `sign`, else `""`: what keywords are compared with.
        ordinal: How many parameters came before.
    """

    kind: str
    text: str
    word: str = ""
    ordinal: int = 0


Tokens = Sequence[Token]


def tokens_of(sql: str) -> list[Token]:
    """Cut a statement into tokens.

    Raises:
        UnclearError: It holds something else than these, or is too long.
    """
    if len(sql) > SQL_CHARS_MAX:
        raise UnclearError
    tokens: list[Token] = []
    position = parameters = 0
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        if match is None:
            raise UnclearError
        position = match.end()
        kind = str(match.lastgroup)
        if kind != "space":
            tokens.append(_token(kind, match.group(), parameters))
            parameters += kind == "param"
    if tokens and tokens[-1].word == ";":
        tokens.pop()
    return tokens


def _token(kind: str, text: str, parameters: int) -> Token:
    if kind == "quoted":
        return Token(kind, text[1:-1].replace(text[-1] * 2, text[-1]))
    if kind == "string":
        return Token(kind, text[text.index("'") + 1 : -1].replace("''", "'"))
    return Token(kind, text, text.upper() if kind == "word" else text if kind == "sign" else "", parameters)


def split(tokens: Tokens, *separators: str) -> list[Tokens]:
    """Cut at words or signs that stand outside of brackets."""
    parts: list[Tokens] = []
    start = 0
    for place in places(tokens, *separators):
        parts.append(tokens[start:place])
        start = place + 1
    return [*parts, tokens[start:]]


def places(tokens: Tokens, *words: str) -> list[int]:
    """Where these words or signs stand outside of brackets.

    Raises:
        UnclearError: Brackets do not match.
    """
    depth = 0
    found = []
    for place, token in enumerate(tokens):
        if token.word == "(":
            depth += 1
        elif token.word == ")":
            depth -= 1
            if depth < 0:
                raise UnclearError
        elif not depth and token.word in words:
            found.append(place)
    if depth:
        raise UnclearError
    return found


def closing(tokens: Tokens, opening: int) -> int:
    """Where the bracket ends that begins at `opening`.

    Raises:
        UnclearError: It does not end, or does not begin there.
    """
    if opening >= len(tokens) or tokens[opening].word != "(":
        raise UnclearError
    depth = 0
    for place in range(opening, len(tokens)):
        depth += (tokens[place].word == "(") - (tokens[place].word == ")")
        if not depth:
            return place
    raise UnclearError


def unwrapped(tokens: Tokens) -> Tokens:
    """What stands inside of brackets that hold all of it."""
    while tokens and tokens[0].word == "(" and closing(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def is_name(token: Token) -> bool:
    """Whether it may be the name of a table or column."""
    return token.kind in {"word", "quoted"}
