"""One worker process of the chat application. All workers listen on the same port; the kernel deals connections out.

    python -m session_exporter.demo.worker --database FILE --port PORT [--fixed]

Prints `ready` when it listens, and stops on SIGTERM. The journal's directory comes from `$SESSION_EXPORTER_DIR`, as it
would in any application.
"""

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Final

from aiohttp import web

from session_exporter.demo.application import Chat, web_application
from session_exporter.demo.sessions import Outage, RacySessions, RepairedSessions
from session_exporter.demo.store import ChatDatabase
from session_exporter.tracker import SessionTracker

HOST: Final = "127.0.0.1"
SHUTDOWN_S: Final = 1.0


def build(database: ChatDatabase, *, fixed: bool) -> web.Application:
    """Wire the application: this is where its one tracker is made."""
    tracker = SessionTracker()
    implementation = RepairedSessions if fixed else RacySessions
    sessions = implementation(database, tracker, Outage())
    return web_application(Chat(sessions, database, tracker, fetch_once=fixed))


async def serve(application: web.Application, port: int) -> None:
    """Serve until SIGTERM or SIGINT; other processes may listen on `port` as well."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, reuse_port=True).start()
        print("ready", flush=True)  # noqa: T201 - the starter waits for this line
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m session_exporter.demo.worker")
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fixed", action="store_true")
    arguments = parser.parse_args()
    database = ChatDatabase(arguments.database, one_active_session=arguments.fixed)
    try:
        asyncio.run(serve(build(database, fixed=arguments.fixed), arguments.port))
    finally:
        database.close()


if __name__ == "__main__":
    main()
