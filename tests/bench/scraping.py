"""A client that scrapes as a Prometheus server does."""

import http.client
import time
from typing import Final

HEADERS: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}


class Scraper:
    """Scrapes one target over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60.0)

    def scrape_ms(self) -> float:
        """How long one scrape takes, milliseconds."""
        begun_s = time.perf_counter()
        self.get(HEADERS)
        return (time.perf_counter() - begun_s) * 1e3

    def is_ready(self) -> bool:
        """Whether there was a first commit since the start."""
        response = self._response({})
        response.read()
        return response.status == http.HTTPStatus.OK

    def get(self, headers: dict[str, str]) -> bytes:
        response = self._response(headers)
        body = response.read()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"/metrics: status {response.status}")
        return body

    def _response(self, headers: dict[str, str]) -> http.client.HTTPResponse:
        self._connection.request("GET", "/metrics", headers=headers)
        try:
            return self._connection.getresponse()
        except http.client.RemoteDisconnected:
            # Idle for longer than the server keeps connections: a client opens another, as Prometheus does, once.
            self._connection.close()
            self._connection.request("GET", "/metrics", headers=headers)
            return self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()
