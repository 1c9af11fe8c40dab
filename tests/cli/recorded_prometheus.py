"""A real Prometheus that scrapes nothing, and remembers what is written down for it."""

import os
import pwd
import subprocess
from collections.abc import Iterable

from prometheus_server import Prometheus

# Label sets as Prometheus shows them, `__name__` among them; then (time in seconds, value) in order.
Line = tuple[dict[str, str], list[tuple[float, float]]]
_CONFIG = "global: {scrape_interval: 1m}\n"


class RecordedPrometheus(Prometheus):
    """Debian's prometheus over samples that have been taken already.

    Args:
        command: The path of `prometheus`.
        promtool: The path of `promtool`.
        lines: What it remembers; no older than its retention, 15 days.
    """

    def __init__(self, command: str, promtool: str, lines: Iterable[Line]) -> None:
        super().__init__(command, "")
        self._config = _CONFIG
        self._promtool = promtool
        self._lines = lines

    @property
    def url(self) -> str:
        return self._url

    def _start(self) -> None:
        text = self._home / "samples"
        with text.open("w", encoding="utf-8") as file:
            for labels, samples in self._lines:
                series = _written(labels)
                file.writelines(f"{series} {value!r} {at_s:.3f}\n" for at_s, value in samples)
            file.write("# EOF\n")
        data = self._home / "data"
        data.mkdir()
        command = [self._promtool, "tsdb", "create-blocks-from", "openmetrics", "-q", str(text), str(data)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in (data, *data.rglob("*")):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        super()._start()


def _written(labels: dict[str, str]) -> str:
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for name, value in labels.items()
    }
    return escaped.pop("__name__") + "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
