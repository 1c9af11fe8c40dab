"""Documents that are broken, hostile or arbitrary, read by both of PyYAML's readers."""

from contextlib import suppress
from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.config import parse
from session_exporter.configschema import SCHEMA
from session_exporter.errors import ConfigError
from session_exporter.yamlsource import ALIASES_MAX, DEPTH_MAX, DOCUMENT_BYTES_MAX, compose

LOADERS = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    "text",
    ["a: 1\nb: [1, 2\n", "a: 1\n\tb: 2\n", "a: 1\nb: *nobody\n", "a: 1\nb: 'open\n", "a: 1\nb: c: d\n"],
)
def test_a_syntax_error_names_its_line(text: str, loader: type) -> None:
    with pytest.raises(ConfigError, match=r"^f\.yml:[23]: not valid YAML: [^\n]+$"):
        compose(text, "f.yml", loader)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_nesting_is_bounded_before_anything_is_built(opening: str, loader: type) -> None:
    with pytest.raises(ConfigError, match=f"^f.yml:1: nested too deeply: expected at most {DEPTH_MAX} levels$"):
        compose(opening * 100_000, "f.yml", loader)


@pytest.mark.parametrize("loader", LOADERS)
def test_aliases_are_bounded_before_anything_is_built(loader: type) -> None:
    text = "a: &a [x]\nb: [" + "*a, " * (ALIASES_MAX + 1) + "]"
    with pytest.raises(ConfigError, match=f"^f.yml:2: too many aliases: expected at most {ALIASES_MAX}$"):
        compose(text, "f.yml", loader)


def test_an_alias_bomb_is_not_expanded() -> None:
    levels = [f"{name}: &{name} [" + ", ".join([f"*{previous}"] * 9) + "]" for previous, name in pairwise("abcdefghi")]
    assert len(problems("a: &a [x]\n" + "\n".join(levels))) == 9


def test_a_value_that_contains_itself_is_refused_like_any_other() -> None:
    assert problems("limits: &a\n  known_ids: *a")[0].startswith("f.yml:2: limits.known_ids.known_ids: unknown key")


def test_the_number_of_values_is_bounded() -> None:
    assert problems("replica: [" + "x, " * 20_001 + "]") == ["f.yml:1: too many values: expected at most 20000"]


def test_the_number_of_directives_is_bounded() -> None:
    text = "".join(f"%TAG !a{i}! b\n" for i in range(60_000)) + "--- a"
    assert problems(text) == ["f.yml: too many directives: expected at most 20 lines that begin with %"]


def test_the_size_of_a_document_is_bounded() -> None:
    expected = f"the document is too large: expected at most {DOCUMENT_BYTES_MAX} bytes"
    assert problems("# " + "x" * DOCUMENT_BYTES_MAX) == [f"f.yml: {expected}"]
    assert problems("# " + "€" * (DOCUMENT_BYTES_MAX // 2)) == [f"f.yml: {expected}"]


PARTS = {part.removesuffix("[]") for key in SCHEMA for part in key.split(".")}
NAMES = st.sampled_from(sorted(PARTS | {"other", "on", "cookie"}))
SCALARS = st.sampled_from(
    ["1", "10s", "1MiB", "1.5", "true", "null", "one", "/x", "'", '"', "*a", "&a b", "!!int x", "<<", "~"]
)
SHAPED = st.recursive(
    SCALARS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.lists(st.tuples(NAMES, inner), max_size=4).map(
            lambda rows: "{" + ", ".join(": ".join(row) for row in rows) + "}"
        )
    ),
    max_leaves=12,
)
LINES = st.lists(
    st.sampled_from(
        [
            "a: ",
            "- ",
            "  ",
            "? ",
            ": ",
            "&a ",
            "*a",
            "|",
            ">",
            "%YAML 1",
            "---",
            "...",
            "\\U99999999",
            '"',
            "!",
            "\n",
            "#",
        ]
    )
)


@given(SHAPED | st.text() | LINES.map("".join), st.sampled_from(LOADERS))
def test_no_text_raises_anything_but_a_config_error(text: str, loader: type) -> None:
    with suppress(ConfigError):
        compose(text, "f.yml", loader)
    with suppress(ConfigError):
        assert "default" in parse(text, "f.yml").scopes


@given(SHAPED)
def test_every_line_of_a_message_can_be_printed_and_names_the_file(text: str) -> None:
    message = "f.yml:"
    try:
        parse(text, "f.yml")
    except ConfigError as error:
        message = str(error)
    assert all(line.startswith("f.yml:") and line.isprintable() for line in message.split("\n"))
