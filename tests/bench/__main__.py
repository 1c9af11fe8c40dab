"""Measures what this product promises of speed and memory, beside its peers, and prints one table."""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import auditing
import calls
import consume
import creates
import detection
import forwarding
import imports
import population
import streaming
import watches
import workers
from figures import Figure, table

import hooks

GROUPS: Final[dict[str, Callable[..., Iterator[Figure]]]] = {
    "auditing": auditing.measure,
    "calls": calls.measure,
    "creates": creates.measure,
    "detection": detection.measure,
    "consume": consume.measure,
    "forwarding": forwarding.measure,
    "streaming": streaming.measure,
    "watching": watches.measure,
    "workers": workers.measure,
    "population": population.measure,
    "imports": imports.measure,
    "hooks": hooks.measure,
}


def main(arguments: Sequence[str]) -> None:
    """Run what the command line asks for."""
    options = _options(arguments)
    figures: list[Figure] = []
    try:
        for name in options.only or GROUPS:
            begun_s = time.monotonic()
            figures.extend(GROUPS[name](quick=options.quick))
            sys.stderr.write(f"{name}: {time.monotonic() - begun_s:.0f} s\n")
    finally:
        # What was measured before something failed has taken minutes, and is as true as before.
        _print(figures, options)


def _print(figures: Sequence[Figure], options: argparse.Namespace) -> None:
    if options.json:
        sys.stdout.write(json.dumps([figure.document() for figure in figures], indent=1) + "\n")
    else:
        sys.stdout.write(f"{_machine()}\n\n{table(figures)}\n")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=GROUPS, help="measure only this group; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a short version of each, whose figures mean little")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(arguments)


def _machine() -> str:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return f"Python {platform.python_version()}, {os.cpu_count()} processors, load {load}; medians, peers in turns"


if __name__ == "__main__":
    main(sys.argv[1:])
