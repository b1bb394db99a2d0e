"""Servers behind a gateway and a client before it, inside the network that both are in.

`python gateway_traffic.py 10.77.0.1:8080 ...` serves at these addresses. A line of JSON on standard
input asks for so many requests; the answer is a line that says what the client got, and how often
and with what headers each server was asked.
"""

import asyncio
import collections
import json
import sys
import urllib.parse

import aiohttp
from aiohttp import web

HEADERS = ("x-zeroskew-role", "x-zeroskew-version", "x-request-id", "host")
AT_A_TIME = 16
QUIET_SECONDS = 1.0
"""A copy is sent with its original; nobody tells when the last one has arrived."""
LONGEST_SECONDS = 60.0


async def main() -> None:
    arrived: dict[str, list[dict[str, list[str]]]] = {address: [] for address in sys.argv[1:]}
    servers = [await _serve(address, asked) for address, asked in arrived.items()]
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        for asked in arrived.values():
            asked.clear()
        said = json.loads(line)
        answers = await _ask(said["url"], said["requests"], said["headers"])
        await _settled(arrived)
        print(json.dumps({"answers": answers, "arrived": arrived}), flush=True)
    for server in servers:
        await server.cleanup()


async def _serve(address: str, asked: list[dict[str, list[str]]]) -> web.AppRunner:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        asked.append({name: request.headers.getall(name, []) for name in HEADERS})
        return web.json_response({"server": address, "got": request.headers.get("x-request-id")})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    parts = urllib.parse.urlsplit(f"//{address}")
    await web.TCPSite(runner, parts.hostname, parts.port).start()
    return runner


async def _ask(url: str, requests: int, headers: dict[str, str]) -> dict[str, int]:
    """How often the client got which answer: a server's address, or what went wrong."""
    got: collections.Counter[str] = collections.Counter()
    numbers = iter(range(requests))

    async def client(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            mine = headers | {"x-request-id": f"{headers.get('x-request-id', 'client')}-{number}"}
            try:
                async with session.post(url, json={"number": number}, headers=mine) as answer:
                    found = (await answer.json())["server"] if answer.ok else str(answer.status)
            except (aiohttp.ClientError, TimeoutError) as error:
                found = type(error).__name__
            got[found] += 1

    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        await asyncio.gather(*(client(session) for _ in range(min(AT_A_TIME, requests))))
    return dict(got)


async def _settled(arrived: dict[str, list[dict[str, list[str]]]]) -> None:
    loop = asyncio.get_running_loop()
    last, since, began = -1, loop.time(), loop.time()
    while loop.time() - since < QUIET_SECONDS and loop.time() - began < LONGEST_SECONDS:
        count = sum(map(len, arrived.values()))
        if count != last:
            last, since = count, loop.time()
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
