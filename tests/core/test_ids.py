"""Ids are parsed in one way, written in the same, and never trusted."""

import re
import string
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.core.ids import (
    PREFIXES,
    ContextIds,
    IdFormat,
    ParsedId,
    generate_context_ids,
    is_valid_id,
    parse_id,
    same_generation,
    shape_of,
    validate_thread_id,
)
from session_exporter.core.idtext import canonical_id, required_id, shown

REQUEST = "req_1757362890388_208_da48bfda"
THREAD = "thread_create_session_1757362890388_208_da48bfda"
RUN = "run_1757362890388_208_da48bfda"

OPERATIONS = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=64)
MILLISECONDS = st.integers(10**12, 10**13 - 1)
TOKENS = st.text("0123456789abcdef", min_size=8, max_size=8)

HOSTILE = [
    "",
    REQUEST + "\n",
    "\n" + REQUEST,
    REQUEST + "\x00",
    REQUEST + " ",
    REQUEST.upper(),
    REQUEST.replace("2", "\u0662"),  # an Arabic-Indic digit, which \d would accept
    REQUEST.replace("_", "\uff3f"),
    "req_01757362890388_208_da48bfda",
    "req_1757362890388_0208_da48bfda",
    "req_1757362890388_208_da48bfd",
    "req_1757362890388_208_da48bfdaa",
    "req_1757362890_208_da48bfda",
    "req_1757362890388_-1_da48bfda",
    "thread_" + "a" * 10_000 + "_1757362890388_208_da48bfda",
    "req_" * 2_500,
    "9" * 10_000,
    "\ud800",
]
NOT_TEXT = [None, 7, 1.5, b"req_1757362890388_208_da48bfda", object, ["x"], UUID(int=1)]


@given(OPERATIONS, MILLISECONDS, TOKENS)
def test_what_is_generated_parses_back_and_is_written_the_same(operation: str, now_ms: int, token: str) -> None:
    ids = generate_context_ids("u1", operation, now_ms=now_ms, token=token)
    thread, run, request = map(parse_id, ids)
    assert thread == ParsedId("thread", operation, now_ms, thread.counter, token)
    assert run == ParsedId("run", "", now_ms, thread.counter, token)
    assert request == ParsedId("req", "", now_ms, thread.counter, token)
    assert (str(thread), str(run), str(request)) == ids


@given(OPERATIONS, MILLISECONDS, TOKENS)
def test_what_is_generated_is_valid_for_its_kind_only(operation: str, now_ms: int, token: str) -> None:
    ids = generate_context_ids("u1", operation, now_ms=now_ms, token=token)
    for id_, right in zip(ids, ("thread", "run", "request"), strict=True):
        assert [kind for kind in PREFIXES if is_valid_id(id_, kind)] == [right]
    assert same_generation(*ids)


@given(st.one_of(st.text(), st.text("req_thun0123456789abcdf\n"), st.binary(), st.integers(), st.none()))
def test_anything_parses_to_none_or_to_what_is_written_the_same(id_: object) -> None:
    parsed = parse_id(id_)
    assert parsed is None or str(parsed) == id_


@given(st.one_of(st.text(), st.binary(), st.integers(), st.none(), st.uuids(), st.floats()))
def test_every_value_has_a_verdict_a_shape_and_a_short_description(id_: object) -> None:
    assert IdFormat("unified", legacy="^t-").classify(id_) in {"canonical", "legacy", "invalid"}
    assert len(shape_of(id_)) <= 40
    assert len(shown(id_)) <= 64 * 10 + 40
    assert shown(id_).isprintable()


def test_a_request_id_is_taken_apart() -> None:
    parsed = parse_id(REQUEST)
    assert parsed == ParsedId("req", "", 1757362890388, 208, "da48bfda")
    assert parsed.kind == "request"
    assert parsed.at == datetime(2025, 9, 8, 20, 21, 30, 388_000, tzinfo=UTC)


def test_an_operation_may_hold_underscores_and_look_like_an_id_itself() -> None:
    parsed = parse_id("thread_run_1757362890388_1_deadbeef_1757362890399_2_cafebabe")
    assert parsed == ParsedId("thread", "run_1757362890388_1_deadbeef", 1757362890399, 2, "cafebabe")


def test_a_prefix_of_somebody_else_parses_and_has_no_kind() -> None:
    parsed = parse_id("ws_factory_1757362890388_208_da48bfda")
    assert parsed is not None
    assert (parsed.prefix, parsed.operation, parsed.kind) == ("ws", "factory", "")


@pytest.mark.parametrize("id_", [*HOSTILE, *NOT_TEXT], ids=ascii)
def test_hostile_input_matches_nothing(id_: object) -> None:
    assert parse_id(id_) is None
    assert not any(is_valid_id(id_, kind) for kind in PREFIXES)
    assert IdFormat("unified").classify(id_) == "invalid"
    assert not same_generation(id_, id_, id_)


@pytest.mark.parametrize("id_", [*HOSTILE, *NOT_TEXT, REQUEST, RUN], ids=ascii)
def test_a_wrong_thread_id_is_named_escaped_and_cut_short(id_: object) -> None:
    with pytest.raises(ValueError, match="expected thread_<operation>_<ms>_<n>_<hex8>") as caught:
        validate_thread_id(id_)
    message = str(caught.value)
    assert shown(id_) in message
    assert message.isprintable()
    assert len(message) < 350


def test_a_wrong_prefix_is_what_the_message_is_about() -> None:
    with pytest.raises(ValueError, match=re.escape(f"thread id '{RUN}' does not begin with 'thread_'")):
        validate_thread_id(RUN)


def test_a_right_thread_id_is_given_back() -> None:
    assert validate_thread_id(THREAD) == THREAD


def test_a_thread_has_an_operation_and_the_others_have_none() -> None:
    assert not is_valid_id("thread_1757362890388_208_da48bfda", "thread")
    assert not is_valid_id("run_agent_1757362890388_208_da48bfda", "run")


def test_session_and_user_ids_may_be_uuids_and_thread_ids_may_not() -> None:
    id_ = str(uuid4())
    assert [kind for kind in PREFIXES if is_valid_id(id_, kind)] == ["session", "user"]
    assert is_valid_id("session_1757362890388_208_da48bfda", "session")


def test_a_kind_goes_by_its_prefix_as_well() -> None:
    assert is_valid_id(REQUEST, "req")


def test_an_unknown_kind_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="kind must be one of session, user, thread, run, request, got 'threat'"):
        is_valid_id(THREAD, "threat")


def test_ids_of_one_generation_unpack_and_have_names() -> None:
    ids = generate_context_ids("u1", "chat", now_ms=1757362890388, token="da48bfda")
    thread_id, run_id, request_id = ids
    assert ids == ContextIds(thread_id=thread_id, run_id=run_id, request_id=request_id)
    assert re.fullmatch(r"thread_chat_1757362890388_\d+_da48bfda", thread_id)
    assert re.fullmatch(r"run_1757362890388_\d+_da48bfda", run_id)
    assert re.fullmatch(r"req_1757362890388_\d+_da48bfda", request_id)


def test_without_a_clock_and_a_token_those_of_the_system_are_taken() -> None:
    before = datetime.now(tz=UTC)
    parsed = parse_id(generate_context_ids(42).thread_id)
    assert parsed is not None
    assert parsed.operation == "context"
    assert 0 <= (parsed.at - before).total_seconds() + 0.001 < 60


def test_two_generations_differ_even_in_the_same_millisecond_with_the_same_token() -> None:
    one = generate_context_ids("u1", "chat", now_ms=1757362890388, token="da48bfda")
    two = generate_context_ids("u1", "chat", now_ms=1757362890388, token="da48bfda")
    assert not set(one) & set(two)
    assert not same_generation(one.thread_id, one.run_id, two.request_id)


def test_threads_never_share_a_generation() -> None:
    def generate(_: int) -> str:
        return generate_context_ids("u1", "chat", now_ms=1757362890388, token="da48bfda").run_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(generate, range(2_000)))) == 2_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"user": ""}, "user must not be empty"),
        ({"user": "undefined"}, "user must be an id, got the placeholder 'undefined'"),
        ({"operation": ""}, "operation must be 1 to 64"),
        ({"operation": "chat\n"}, "operation must be 1 to 64"),
        ({"operation": "a b"}, "operation must be 1 to 64"),
        ({"operation": "x" * 65}, "operation must be 1 to 64"),
        ({"now_ms": 1757362890}, "now_ms must be milliseconds"),
        ({"now_ms": -1}, "now_ms must be milliseconds"),
        ({"token": "DA48BFDA"}, "token must be 8 lower-case"),
        ({"token": "da48bfda\n"}, "token must be 8 lower-case"),
    ],
)
def test_a_generation_of_wrong_parts_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_context_ids(**({"user": "u1", "operation": "chat"} | arguments))


def test_ids_of_two_kinds_swapped_are_no_generation() -> None:
    ids = generate_context_ids("u1", "chat")
    assert not same_generation(ids.run_id, ids.thread_id, ids.request_id)


def test_an_id_is_canonical_or_legacy_or_invalid() -> None:
    threads = IdFormat("unified", legacy="^t-", kind="thread")
    verdicts = [threads.classify(id_) for id_ in (THREAD, "t-17", RUN, "x")]
    assert verdicts == ["canonical", "legacy", "invalid", "invalid"]


def test_the_uuid_preset_knows_the_hyphenated_text_only() -> None:
    id_ = uuid4()
    verdicts = [IdFormat("uuid").classify(text) for text in (str(id_), str(id_).upper(), id_.hex, f"{{{id_}}}")]
    assert verdicts == ["canonical", "canonical", "invalid", "invalid"]


def test_an_expression_with_a_dollar_does_not_accept_a_newline() -> None:
    digits = IdFormat(r"^\d+$")
    assert digits.classify("123") == "canonical"
    assert [digits.classify(id_) for id_ in ("123\n", "\u0661\u0662", "1" * 257)] == ["invalid"] * 3


@pytest.mark.parametrize("pattern", ["(", "[a-", "a{99999999999999}", "*x"])
def test_a_broken_expression_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ValueError, match="is no regular expression") as caught:
        IdFormat("uuid", legacy=pattern)
    assert repr(pattern) in str(caught.value)


def test_a_misspelt_preset_is_refused_rather_than_taken_for_an_expression() -> None:
    with pytest.raises(ValueError, match=r"'unifed' is neither a preset \(uuid, unified\) nor an expression"):
        IdFormat("unifed")


def test_a_format_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of"):
        IdFormat("unified", kind="thraed")


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^.*[a-z_]+-x$", "(a|a)*b", "a?" * 60 + "a" * 60 + "b"])
def test_no_id_keeps_an_expression_busy(pattern: str) -> None:
    assert IdFormat(pattern, legacy=pattern).classify("a" * 255 + "!") == "invalid"


@pytest.mark.parametrize(
    ("id_", "shape"),
    [
        ("7d444840-9dc0-41d1-b245-5ffdce74fad2", "uuid4"),
        ("01890c5e-7b3a-7c2e-8e4e-2c2b7c4d1a10", "uuid7"),
        (UUID("7d444840-9dc0-41d1-b245-5ffdce74fad2"), "uuid4"),
        ("00000000-0000-0000-0000-000000000000", "uuid"),
        ("7d4448409dc041d1b2455ffdce74fad2", "hex32"),
        (THREAD, "thread_<op>_<ms>_<n>_<hex8>"),
        (RUN, "run_<ms>_<n>_<hex8>"),
        (REQUEST, "req_<ms>_<n>_<hex8>"),
        ("alice_1757362890388_208_da48bfda", "<prefix>_<ms>_<n>_<hex8>"),
        ("123", "int"),
        ("-5", "int"),
        (123, "int"),
        ("\u0661\u0662", "text(2)"),
        ("hello world!", "text(12)"),
        ("123\n", "text(4)"),
        ("x" * 10_000, "text(>256)"),
        ("9" * 10_000, "text(>256)"),
        ("", "text(0)"),
        (None, "text(0)"),
        (1.5, "none"),
    ],
    ids=ascii,
)
def test_a_shape_tells_the_format_and_not_the_id(id_: object, shape: str) -> None:
    assert shape_of(id_) == shape


class _TextId(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not the text"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("s1", "s1"),
        (_TextId("s1"), "s1"),
        (b"s1", "s1"),
        (UUID(int=2**127).bytes, UUID(int=2**127).hex),
        (17, "17"),
        (UUID("7d444840-9dc0-41d1-b245-5ffdce74fad2"), "7d444840-9dc0-41d1-b245-5ffdce74fad2"),
        (None, ""),
        ("\ud800", "\\ud800"),
        ("x" * 256, "x" * 256),
        ("é" * 128, "é" * 128),
    ],
    ids=ascii,
)
def test_every_kind_of_id_has_one_text(value: object, text: str) -> None:
    assert canonical_id(value) == text
    assert type(canonical_id(value)) is str


@given(st.text())
def test_the_text_of_an_id_is_bounded_encodable_and_stable(value: str) -> None:
    text = canonical_id(value * 40)
    assert len(text.encode()) <= 256
    assert canonical_id(text) == text


def test_long_ids_stay_apart_as_digests() -> None:
    one, two = canonical_id("x" * 257), canonical_id("x" * 258)
    assert one != two
    assert re.fullmatch(r"blake2b:[0-9a-f]{32}", one)


@pytest.mark.parametrize("value", [True, 1.5, object, ["s1"]], ids=repr)
def test_what_is_no_id_is_refused_by_type(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        canonical_id(value)


@pytest.mark.parametrize(
    "value",
    [
        *("None", "null", " NULL ", "undefined", "nil", "NaN", b"None", "[object Object]"),
        *("${user_id}", "{{ user.id }}", "{user_id}", "<user_id>", "%(user_id)s"),
        "00000000-0000-0000-0000-000000000000",
    ],
    ids=ascii,
)
def test_a_placeholder_is_no_id(value: object) -> None:
    with pytest.raises(ValueError, match="user_id must be an id, got the placeholder"):
        required_id("user_id", value)


@pytest.mark.parametrize("value", ["", " ", "\t\n", b"", None], ids=repr)
def test_nothing_is_no_id(value: object) -> None:
    with pytest.raises(ValueError, match="user_id must not be empty"):
        required_id("user_id", value)


@pytest.mark.parametrize("value", ["nonesuch", "0", 0, "Null Island", "user none", "{7d44}", "<a@b.example>"])
def test_an_id_that_only_resembles_a_placeholder_is_one(value: object) -> None:
    assert required_id("user_id", value) == str(value)
