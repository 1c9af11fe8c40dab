"""Ending what a thread waits for that hangs in a driver, from another thread."""

import os
import socket
from contextlib import suppress
from typing import Any


def cut(connection: Any) -> None:
    """Let whatever a driver's connection is doing fail at once; any thread may call.

    A server that does not answer hears of no cancellation, so its socket is shut down; a query of SQLite's is
    interrupted.
    """
    # The drivers raise errors of their own about a connection that has been closed meanwhile.
    with suppress(Exception):
        if hasattr(connection, "interrupt"):
            connection.interrupt()
            return
        # A copy: the number of the driver's own could be somebody else's by the time it is used.
        with socket.socket(fileno=os.dup(connection.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
