"""Log lines: one per record, whatever is in it."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.errors import ConfigError
from session_exporter.ratelimit import TEMPLATES_MAX, RateLimit
from session_exporter.sidecar.logs import VALUE_CHARS_MAX, JsonFormatter, LogfmtFormatter, configure

LINE_ENDS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
PAIR = re.compile(r'([A-Za-z0-9_.-]+)=("(?:[^"\\]|\\.)*"|[^ "=]+)(?: |$)')
HOSTILE = st.text(st.characters(exclude_categories=()), max_size=60)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def record_of(message: object, *args: object, **extra: object) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": "session_exporter.x", "levelno": 30, "levelname": "WARNING", "msg": message}
    )
    record.args, record.created = args, 1_763_664_000.1239
    record.__dict__.update(extra)
    return record


def logfmt(message: object, *args: object, **extra: object) -> str:
    return LogfmtFormatter().format(record_of(message, *args, **extra))


def as_json(message: object, *args: object, **extra: object) -> dict[str, Any]:
    return json.loads(JsonFormatter().format(record_of(message, *args, **extra)))


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    package = logging.getLogger("session_exporter")
    root = logging.getLogger()
    before = (root.level, package.level, list(root.handlers))
    yield io.StringIO()
    for handler in [handler for handler in root.handlers if handler not in before[2]]:
        root.removeHandler(handler)
    root.setLevel(before[0])
    package.setLevel(before[1])


def test_a_logfmt_line_has_time_level_logger_message_and_fields() -> None:
    line = logfmt("METRIC ALERT: User %s created %d sessions", "u:3f9a", 3, scope="default", gap_ms=116.2)
    assert line == (
        "ts=2025-11-20T18:40:00.123Z level=warning logger=session_exporter.x "
        'msg="METRIC ALERT: User u:3f9a created 3 sessions" scope=default gap_ms=116.2'
    )


def test_a_json_line_has_the_same_with_types() -> None:
    assert as_json("%s is up", "it", workers=4, lag_s=0.5, ok=True, none=None) == {
        "ts": "2025-11-20T18:40:00.123Z",
        "level": "warning",
        "logger": "session_exporter.x",
        "msg": "it is up",
        "workers": 4,
        "lag_s": 0.5,
        "ok": True,
        "none": None,
    }


@given(message=HOSTILE, user=HOSTILE, key=HOSTILE)
def test_no_id_forges_a_line_or_a_field(message: str, user: str, key: str) -> None:
    extra = {f"x{key}": user}
    line = logfmt(message.replace("%", "%%") + "%s", user, **extra)
    assert not LINE_ENDS.search(line)
    assert line.isprintable()
    assert [name for name, _ in PAIR.findall(line)][:4] == ["ts", "level", "logger", "msg"]
    assert len(PAIR.findall(line)) == 5
    assert PAIR.sub("", line) == ""
    text = JsonFormatter().format(record_of("%s", user, **extra))
    assert text.isascii()
    assert not LINE_ENDS.search(text)
    assert json.loads(text)["msg"] == user


def test_a_forged_line_is_shown_as_what_it_is() -> None:
    assert logfmt("%s", 'x"\nts=2026 level=error msg="fake').endswith(r'msg="x\"\nts=2026 level=error msg=\"fake"')


def test_a_field_cannot_take_the_place_of_another() -> None:
    assert logfmt("m", level="error", ts="never").endswith(
        "level=warning logger=session_exporter.x msg=m field_level=error field_ts=never"
    )
    assert as_json("m", level="error")["field_level"] == "error"


ODD = {
    "unprintable": Unprintable(),
    "dictionary": {1: Unprintable()},
    "huge": 10**5000,
    "nan": float("nan"),
    "infinite": float("inf"),
    "bytes": b"\xff",
    "object": object(),
    "nested": {"a": {2: 3}},
    "surrogate": "\ud800",
}


@pytest.mark.parametrize("kind", ODD)
def test_a_value_that_cannot_be_written_is_still_a_line(kind: str) -> None:
    value = ODD[kind]
    assert "odd" in as_json("m", odd=value)
    assert " odd=" in logfmt("m", odd=value)
    assert as_json("m %s", value)["msg"]


def test_a_message_whose_arguments_do_not_fit_is_still_a_line() -> None:
    assert as_json("%d sessions", "three")["msg"] == "%d sessions ('three',)"
    assert as_json("%s and %s", Unprintable(), Unprintable())["msg"].startswith("%s and %s <unprintable tuple>")


def test_a_long_value_is_cut() -> None:
    assert as_json("m", long="x" * 100_000)["long"] == "x" * VALUE_CHARS_MAX + f"…[{100_000 - VALUE_CHARS_MAX} more]"


def test_a_traceback_stays_on_its_line(stream: io.StringIO) -> None:
    configure("info", "logfmt", stream=stream)
    try:
        int("first\nsecond")
    except ValueError:
        logging.getLogger("session_exporter.x").exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert r"ValueError: invalid literal" in stream.getvalue()


def test_levels_apply_to_this_package_and_others_are_heard_from_warning_on(stream: io.StringIO) -> None:
    configure("debug", "json", stream=stream)
    logging.getLogger("session_exporter.sidecar").debug("ours")
    logging.getLogger("somebody.else").info("theirs")
    logging.getLogger("somebody.else").warning("their warning")
    assert [json.loads(line)["msg"] for line in stream.getvalue().splitlines()] == ["ours", "their warning"]


def test_configuring_again_replaces_what_was_set(stream: io.StringIO) -> None:
    configure("debug", "json", stream=stream)
    configure("warning", "logfmt", stream=stream)
    logging.getLogger("session_exporter").info("not heard")
    logging.getLogger("session_exporter").warning("once")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("msg=once\n")


@pytest.mark.parametrize(
    ("level", "fmt", "message"),
    [
        ("loud", "json", "log.level 'loud': expected one of debug, info, warning, warn, error"),
        ("info", "xml", "log.format 'xml': expected one of logfmt, json"),
    ],
)
def test_an_unknown_level_or_format_is_refused(level: str, fmt: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(level, fmt)


def test_a_noisy_template_is_suppressed_and_the_next_line_says_how_often(stream: io.StringIO) -> None:
    now = [0.0]
    handler = configure("info", "json", per_minute=2, stream=stream, clock_s=lambda: now[0])
    log = logging.getLogger("session_exporter.x")
    for number in range(125):
        log.warning("duplicate of %s", number)
    log.warning("another template")
    now[0] = 60.0
    log.warning("duplicate of %s", "the next minute")
    log.warning("duplicate of %s", "it goes on")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["msg"], line.get("suppressed")) for line in lines] == [
        ("duplicate of 0", None),
        ("duplicate of 1", None),
        ("another template", None),
        ("duplicate of the next minute", 123),
        ("duplicate of it goes on", None),
    ]
    assert handler.filters[0].suppressed == 123


def test_the_limit_forgets_the_oldest_of_too_many_templates() -> None:
    limit = RateLimit(1, lambda: 0.0)
    assert all(limit.filter(record_of(f"formatted before logging {number}")) for number in range(5 * TEMPLATES_MAX))
    assert len(limit._windows) == TEMPLATES_MAX
    assert not limit.filter(record_of(f"formatted before logging {5 * TEMPLATES_MAX - 1}"))
    assert limit.filter(record_of("formatted before logging 0"))
