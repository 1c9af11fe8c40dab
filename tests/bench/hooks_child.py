"""Times statements, calls and requests with and without hooks, and prints the times of every round as JSON.

python hooks_child.py statements|calls DIRECTORY ROUNDS
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from timeit import Timer
from typing import Any, Final

from calls_child import Drain
from hook_situations import ASGI, BARE, CALL, LISTENER, MAPPED, OPENTELEMETRY, OURS, UNMAPPED

from session_exporter import SessionTracker
from session_exporter.hooks.asgi import SessionExporterMiddleware
from session_exporter.hooks.calls import instrument
from session_exporter.hooks.sqlalchemy import map_table

STATEMENTS: Final = 1_000
CALLS: Final = 5_000
REQUESTS: Final = 2_000

Hooks = dict[str, Callable[[], AbstractContextManager[object]]]
Taken = dict[str, list[float]]


@contextmanager
def installed(install: Callable[[], Callable[[], object]]) -> Iterator[None]:
    uninstall = install()
    try:
        yield
    finally:
        uninstall()


def take_turns(hooks: Hooks, timer: Timer, *, rounds: int, calls: int, between: Callable[[], None]) -> Taken:
    """Microseconds per call with each of the hooks, in turns; one round more comes first and is forgotten."""
    taken: Taken = {name: [] for name in hooks}
    for _ in range(rounds + 1):
        for name, hook in hooks.items():
            with hook():
                timer.timeit(10)  # what is learnt with the first statements is not what a statement costs
                taken[name].append(timer.timeit(calls) / calls * 1e6)
            between()
    return {name: each[1:] for name, each in taken.items()}


def statements(place: Path, rounds: int) -> dict[str, Taken]:
    """A SELECT by primary key that finds its row, on tables that differ in nothing but the mapping."""
    import sqlalchemy as sa
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    from opentelemetry.sdk.trace import TracerProvider

    tracker = SessionTracker(place / "journal")
    drain = Drain(place / "journal")
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    metadata = sa.MetaData()
    tables = {
        name: sa.Table(name, metadata, sa.Column("id", sa.String(40), primary_key=True), sa.Column("who", sa.String(9)))
        for name in ("mapped", "unmapped")
    }
    metadata.create_all(engine)
    provider = TracerProvider()

    def opentelemetry() -> Callable[[], object]:
        instrumentor = SQLAlchemyInstrumentor()
        instrumentor.instrument(engine=engine, tracer_provider=provider, skip_dep_check=True)
        return instrumentor.uninstrument

    def listener() -> Callable[[], object]:
        def nothing(*_: object) -> None:
            """Does nothing."""

        sa.event.listen(engine, "after_execute", nothing)
        return lambda: sa.event.remove(engine, "after_execute", nothing)

    hooks: Hooks = {
        BARE: nullcontext,
        LISTENER: lambda: installed(listener),
        OURS: lambda: installed(lambda: map_table("mapped", scope="bench", id="id", user="who", tracker=tracker)),
        OPENTELEMETRY: lambda: installed(opentelemetry),
    }

    @contextmanager
    def without_events_behind(hook: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
        """An engine that ever had a listener goes on looking for some, which is what a listener costs by itself."""
        with hook():
            yield
        sa.engine.Engine._has_events = False
        for each in (engine, connection):
            vars(each).pop("_has_events", None)

    taken = {}
    hooks = {name: lambda hook=hook: without_events_behind(hook) for name, hook in hooks.items()}
    with engine.connect() as connection:
        for what, table in ((UNMAPPED, tables["unmapped"]), (MAPPED, tables["mapped"])):
            connection.execute(table.insert().values(id="s-1", who="ann"))
            query = sa.select(table.c.id, table.c.who).where(table.c.id == "s-1")
            timer = Timer("execute(query).all()", globals={"execute": connection.execute, "query": query})
            taken[what] = take_turns(hooks, timer, rounds=rounds, calls=STATEMENTS, between=drain)
    tracker.close()
    # Every one of them was seen; of the unmapped ones none.
    drain.check({"LookedUp": (rounds + 1) * (STATEMENTS + 10)})
    return taken


def calls(place: Path, rounds: int) -> dict[str, Taken]:
    """A function that returns an id, and an application that answers at once."""
    tracker = SessionTracker(place / "journal")
    drain = Drain(place / "journal")
    here = sys.modules[__name__]
    mapping = {"kind": "get_or_create", "scope": "bench", "user": "user", "session": "result", "tracker": tracker}
    hooks: Hooks = {
        BARE: nullcontext,
        OURS: lambda: installed(lambda: instrument(f"{__name__}:find_session", **mapping)),
    }
    timer = Timer("here.find_session('ann')", globals={"here": here})
    taken = {CALL: take_turns(hooks, timer, rounds=rounds, calls=CALLS, between=drain)}
    applications = {BARE: answer, OURS: SessionExporterMiddleware(answer, tracker=tracker)}
    chosen: dict[str, Any] = {}
    request = Timer("run(chosen['it'])", globals={"run": run_request, "chosen": chosen})
    hooks = {name: lambda name=name: nullcontext(chosen.update(it=applications[name])) for name in applications}
    taken[ASGI] = take_turns(hooks, request, rounds=rounds, calls=REQUESTS, between=drain)
    tracker.close()
    drain.check({"Observed": (rounds + 1) * (CALLS + 10)})
    return taken


def find_session(user: str) -> str:
    """What an application calls its session."""
    return f"session-of-{user}"


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    """The least that an application does."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def nowhere(_message: Any = None) -> None:
    """Takes what an application sends."""


def run_request(application: Any) -> None:
    """One request, without a server and a loop."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/chat",
        "headers": [(b"host", b"localhost"), (b"cookie", b"sid=s-1; theme=dark"), (b"accept", b"*/*")],
    }
    try:
        application(scope, nowhere, nowhere).send(None)
    except StopIteration:
        return
    raise RuntimeError("the application waits, and nobody is there")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    measured = {"statements": statements, "calls": calls}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write(json.dumps(measured))
