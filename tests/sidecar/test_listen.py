"""Listening addresses, on real sockets."""

import asyncio
import socket

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from session_exporter.errors import ListenError
from session_exporter.sidecar.listen import serve


async def answer(_request: web.Request) -> web.Response:
    return web.Response(text="here")


def build_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/", answer)
    return app


def test_urls_name_the_bound_ports_of_all_addresses() -> None:
    async def scenario() -> None:
        async with serve(build_app(), ["127.0.0.1:0", ":0", "localhost:0"]) as server:
            assert len({URL(url).port for url in server.urls}) == 3
            async with aiohttp.ClientSession() as client:
                for url in server.urls:
                    assert URL(url).host in {"127.0.0.1", "localhost"}
                    async with client.get(f"{url}/") as response:
                        assert response.status == 200
            await server.close()
            await server.close()

    asyncio.run(scenario())


def test_ipv6_addresses_are_served_in_brackets() -> None:
    async def scenario() -> None:
        try:
            with socket.create_server(("::1", 0), family=socket.AF_INET6):
                pass
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        async with serve(build_app(), ["[::1]:0"]) as server, aiohttp.ClientSession() as client:
            assert server.urls[0].startswith("http://[::1]:")
            async with client.get(f"{server.urls[0]}/") as response:
                assert response.status == 200

    asyncio.run(scenario())


def test_an_address_in_use_is_named_and_nothing_stays_bound() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                free = f"127.0.0.1:{probe.getsockname()[1]}"
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(ListenError, match=rf"'{address}': the address is in use"):
                await serve(build_app(), [free, address]).__aenter__()
            async with serve(build_app(), [free]) as server:
                assert server.urls == (f"http://{free}",)

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["", "9897", "localhost", ":", ":99999", ":-1", "::1:9897", "[::1]", "a b:1", ":٣"])
def test_a_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(ListenError, match=r"expected \[HOST\]:PORT"):
        serve(build_app(), [text])


def test_no_address_at_all_is_refused() -> None:
    with pytest.raises(ListenError, match="none given"):
        serve(build_app(), [])


def test_an_address_of_another_machine_is_refused() -> None:
    async def scenario() -> None:
        with pytest.raises(ListenError, match=r"'192\.0\.2\.1:0': cannot listen there"):
            await serve(build_app(), ["192.0.2.1:0"]).__aenter__()

    asyncio.run(scenario())
