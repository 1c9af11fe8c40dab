"""Runs a module as `python -m` would, and ends the process when the one that started it is gone.

    python -m session_exporter.demo.leash MODULE ARGUMENT...

The starter keeps the other end of standard input open and never writes: the kernel closes it however the starter dies.
"""

import os
import runpy
import signal
import sys
import threading


def _end_with_the_starter() -> None:
    # Unbuffered: a thread blocked inside of sys.stdin would hold its lock at interpreter shutdown.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_starter, name="leash", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
