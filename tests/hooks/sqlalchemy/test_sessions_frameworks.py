"""Sessions as applications of FastAPI and Flask keep them: what their frameworks close in time is no finding."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
import pytest
import sqlalchemy as sa
from db_uses import Uses
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from webservers import DEADLINE_S, uvicorn_server, wsgi_server

from session_exporter.hooks.asgi import SessionExporterMiddleware
from session_exporter.hooks.sqlalchemy.sessions import watch_db_sessions
from session_exporter.hooks.wsgi import Middleware

pytestmark = pytest.mark.integration

SELECT = sa.text("SELECT 1")
AT_ONCE = 20


@pytest.fixture
def uses(journal) -> Uses:
    return Uses(journal)


@pytest.fixture(autouse=True)
def stop(tracker, journal) -> Iterator[None]:
    stop = watch_db_sessions(tracker)
    yield
    stop()
    assert not journal.errors


@pytest.fixture
def new_session(make_engine):
    # Enough for all: whoever waits for a connection in a coroutine would keep all others waiting.
    pool = {"poolclass": sa.pool.QueuePool, "pool_size": 3 * AT_ONCE}
    engine = make_engine(connect_args={"check_same_thread": False, "timeout": 30}, **pool)
    return sessionmaker(engine, future=True)


async def get_all(app: Any, path: str) -> None:
    """Asks a server for a page by several clients at once, some of whom use the same connection."""
    async with uvicorn_server(app) as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=30) as client:
        answers = await asyncio.gather(*(client.get(path) for _ in range(AT_ONCE)))
        assert [answer.status_code for answer in answers] == [200] * AT_ONCE
        assert answers[0].text


def add_pages(app: Any, new_session: Any) -> None:
    """Pages whose Session is a dependency."""
    from fastapi import BackgroundTasks, Depends

    def database() -> Iterator[Session]:
        with new_session() as session:
            yield session

    async def database_for_async() -> AsyncIterator[Session]:
        with new_session() as session:
            yield session
            session.commit()

    @app.get("/sync")
    def sync(session: Annotated[Session, Depends(database)]) -> int:
        return session.execute(SELECT).scalar()

    @app.get("/async")
    async def coroutine(session: Annotated[Session, Depends(database_for_async)]) -> int:
        return session.execute(SELECT).scalar()

    @app.get("/mixed")
    async def mixed(session: Annotated[Session, Depends(database)]) -> int:
        return session.execute(SELECT).scalar()

    @app.get("/background")
    def background(session: Annotated[Session, Depends(database)], tasks: BackgroundTasks) -> int:
        def work() -> None:
            with new_session() as own:
                own.execute(SELECT)

        tasks.add_task(work)
        return session.execute(SELECT).scalar()


def add_streams(app: Any, new_session: Any) -> None:
    """What lasts: a page that comes in parts, a websocket, and a Session that nobody closes."""
    from fastapi import Depends, WebSocket
    from fastapi.responses import StreamingResponse

    app.state.left = []

    async def database() -> AsyncIterator[Session]:
        with new_session() as session:
            yield session
            session.commit()

    @app.get("/stream")
    def stream() -> StreamingResponse:
        def parts() -> Iterator[str]:
            with new_session() as session:
                for _ in range(3):
                    yield str(session.execute(SELECT).scalar())

        return StreamingResponse(parts())

    @app.get("/left")
    def leave() -> int:
        session = new_session()
        app.state.left.append(session)
        return session.execute(SELECT).scalar()

    @app.websocket("/chat")
    async def chat(websocket: WebSocket, session: Annotated[Session, Depends(database)]) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            session.execute(SELECT)
            await websocket.send_text(text)


def add_middleware(app: Any, new_session: Any) -> None:
    """A middleware around ours that keeps a Session for one page, and commits it when the request has ended."""
    from fastapi import Request
    from starlette.middleware.base import BaseHTTPMiddleware

    async def commit_around(request: Any, call_next: Any) -> Any:
        with new_session() as session:
            request.state.session = session
            response = await call_next(request)
            if request.url.path == "/around":
                session.commit()
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=commit_around)

    @app.get("/around")
    def around(request: Request) -> int:
        return request.state.session.execute(SELECT).scalar()


class TestFastApi:
    @pytest.fixture
    def app(self, tracker, new_session):
        from fastapi import FastAPI

        app = FastAPI()
        add_pages(app, new_session)
        add_streams(app, new_session)
        app.add_middleware(SessionExporterMiddleware, tracker=tracker, user=lambda _: "u")
        add_middleware(app, new_session)
        return app

    @pytest.mark.parametrize("path", ["/sync", "/async", "/mixed", "/background", "/stream", "/around"])
    def test_what_is_closed_for_the_request_is_no_finding(self, app, uses, path):
        asyncio.run(get_all(app, path))
        assert uses.kinds == {}
        assert uses.open == 0
        assert len(uses.ended) == AT_ONCE * (2 if path == "/background" else 1)
        assert len({event.request for event in uses.ended}) == AT_ONCE
        assert {event.user for event in uses.ended} == {"u"}

    def test_what_is_left_open_is_found_once_that_has_been_a_second(self, app, uses, new_session):
        asyncio.run(get_all(app, "/left"))
        assert uses.open == AT_ONCE
        deadline = time.monotonic() + DEADLINE_S
        while not uses.kinds and time.monotonic() < deadline:
            with new_session() as other:
                other.execute(SELECT)
        assert set(uses.kinds) == {"db_session_outlived_request"}
        for session in app.state.left:
            session.close()

    def test_the_messages_of_a_websocket_may_share_a_session(self, app, uses):
        import websockets

        async def main() -> None:
            async with uvicorn_server(app) as address, websockets.connect(f"ws://{address}/chat") as socket:
                for text in ("a", "b", "c"):
                    await socket.send(text)
                    assert await socket.recv() == text

        asyncio.run(main())
        assert uses.kinds == {}
        assert (uses.only.queries, uses.only.user, uses.only.outcome) == (3, "u", "committed")


class TestFlask:
    @pytest.fixture
    def app(self, tracker, new_session):
        import flask

        app = flask.Flask(__name__)
        registry = scoped_session(new_session)

        @app.teardown_appcontext
        def remove(_: BaseException | None) -> None:
            registry.remove()

        @app.get("/page")
        def page() -> str:
            return str(registry.execute(SELECT).scalar())

        @app.get("/stream")
        def stream() -> Any:
            def parts() -> Iterator[str]:
                for _ in range(3):
                    yield str(registry.execute(SELECT).scalar())

            return flask.Response(flask.stream_with_context(parts()))

        @app.get("/failing")
        def failing() -> str:
            registry.execute(SELECT)
            raise RuntimeError

        app.wsgi_app = Middleware(app.wsgi_app, tracker=tracker, user=lambda _: "u")
        return app

    @pytest.mark.parametrize(("path", "status"), [("/page", 200), ("/stream", 200), ("/failing", 500)])
    def test_what_is_removed_for_the_request_is_no_finding(self, app, uses, path, status):
        with wsgi_server(app) as address, httpx.Client(base_url=f"http://{address}", timeout=30) as client:
            for _ in range(AT_ONCE):
                assert client.get(path).status_code == status
        assert (uses.kinds, uses.open, len(uses.ended)) == ({}, 0, AT_ONCE)
        assert {event.user for event in uses.ended} == {"u"}
