"""A real Prometheus whose targets come and go, as those of a fleet do."""

import json
import os
import pwd

from prometheus_server import Prometheus
from sidecar_process import until

_CONFIG = """\
global: {{scrape_interval: 200ms}}
scrape_configs:
  - job_name: session-exporter
    file_sd_configs: [{{files: [{home}/targets.json]}}]
"""


class FleetPrometheus(Prometheus):
    """Debian's prometheus; what it scrapes is said while it runs.

    Args:
        command: The path of `prometheus`.
    """

    def __init__(self, command: str) -> None:
        super().__init__(command, "")
        self._targets: list[str] = []

    @property
    def url(self) -> str:
        return self._url

    def _start(self) -> None:
        self._config = _CONFIG.format(home=self._home)
        self._write()
        super()._start()

    def scrape(self, *urls: str) -> None:
        """Scrape these, and nothing else; waits until each was scraped well, twice."""
        self._targets = [url.removeprefix("http://") for url in urls]
        self._write()
        until(lambda: self._scraped() == set(self._targets), "Prometheus has found its targets")
        self.until_each_scraped()

    def until_each_scraped(self, times: int = 2) -> None:
        """Wait until each target has been scraped well so many times from now on."""
        before = {instance: self._count(instance) for instance in self._targets}
        until(
            lambda: all(self._count(instance) >= before[instance] + times for instance in self._targets),
            "each target is scraped",
        )

    def until_down(self, instance: str) -> None:
        """Wait until a target could not be scraped."""
        until(lambda: self.values(f'up{{instance="{instance}"}}') == [0], f"{instance} is down")

    def _count(self, instance: str) -> int:
        return sum(value == 1 for _, samples in self.samples(f'up{{instance="{instance}"}}') for _, value in samples)

    def _scraped(self) -> set[str]:
        return {target["labels"]["instance"] for target in self.ask("targets", state="active")["activeTargets"]}

    def _write(self) -> None:
        place, written = self._home / "targets.json", self._home / "targets.new"
        written.write_text(json.dumps([{"targets": self._targets}]), encoding="utf-8")
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(written, nobody.pw_uid, nobody.pw_gid)
        written.replace(place)
