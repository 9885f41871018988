"""What probes and Prometheus get."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from k8s.serve import serving


async def get(address: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as answer:
        return answer.status, await answer.text()


async def test_probes_and_metrics() -> None:
    stale: list[str] = ["jobs"]
    async with serving("127.0.0.1:0", stale=lambda: stale, metrics=lambda: b"m 1\n") as address:
        assert await get(address, "/healthz") == (200, "ok\n")
        assert await get(address, "/readyz") == (503, "no news of jobs\n")
        stale.clear()
        assert await get(address, "/readyz") == (200, "ok\n")
        assert await get(address, "/metrics") == (200, "m 1\n")
        assert (await get(address, "/"))[0] == 404


async def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="address already in use"):
            async with serving(f"127.0.0.1:{taken.getsockname()[1]}", stale=list, metrics=bytes):
                pass


@pytest.mark.parametrize(
    ("listen", "reached_at"),
    [(":0", ("0.0.0.0", "[::]")), ("[::1]:0", ("[::1]",)), ("127.0.0.1:0", ("127.0.0.1",))],
)
async def test_addresses_of_both_families(listen: str, reached_at: tuple[str, ...]) -> None:
    async with serving(listen, stale=list, metrics=bytes) as address:
        assert address.rpartition(":")[0] in reached_at
        assert (await get(address, "/healthz"))[0] == 200
