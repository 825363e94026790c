"""The fault proxy: what it lets through, and what not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from agent.core.types import MS, BootNs
from simulator.network import FaultProxy, Packets, Way
from tests.sync_rig import until

LIMIT_S = 90.0
Talk = Callable[[FaultProxy], Awaitable[None]]


def now() -> BootNs:
    return BootNs(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


@contextlib.asynccontextmanager
async def proxied_echo() -> AsyncIterator[FaultProxy]:
    handlers = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1], now)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
        server.close()
        await asyncio.gather(*(task for task in handlers if task is not None))


def run(talk: Talk) -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), proxied_echo() as proxy:
            await talk(proxy)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def connect(proxy: FaultProxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def test_bytes_pass_unchanged_and_are_counted() -> None:
    async def talk(proxy: FaultProxy) -> None:
        async with connect(proxy) as (reader, writer):
            data = bytes(range(256)) * 2_000  # more than the proxy holds at once
            assert await echoed(reader, writer, data) == data
            assert (proxy.bytes_up, proxy.bytes_down) == (len(data), len(data))
            assert proxy.connections == 1

    run(talk)


def test_an_end_on_one_side_ends_the_other() -> None:
    async def talk(proxy: FaultProxy) -> None:
        async with connect(proxy) as (reader, writer):
            await echoed(reader, writer, b"x")
            writer.write_eof()
            assert await ended(reader)

    run(talk)


def test_a_cut_ends_connections_and_refuses_new_ones_until_healed() -> None:
    async def talk(proxy: FaultProxy) -> None:
        async with connect(proxy) as (reader, writer):
            await echoed(reader, writer, b"x")
            await proxy.cut()
            assert await ended(reader)
        with pytest.raises(ConnectionError):
            async with connect(proxy):
                pass
        port = proxy.port
        await asyncio.gather(proxy.heal(), proxy.heal())
        assert proxy.port == port
        async with connect(proxy) as (reader, writer):
            assert await echoed(reader, writer, b"again") == b"again"

    run(talk)


def test_a_stall_keeps_the_connection_and_moves_nothing_until_healed() -> None:
    async def talk(proxy: FaultProxy) -> None:
        async with connect(proxy) as (reader, writer):
            await echoed(reader, writer, b"x")
            proxy.stall()
            writer.write(b"late")
            waiting = asyncio.ensure_future(reader.readexactly(4))
            done, _ = await asyncio.wait({waiting}, timeout=0.1)
            assert not done
            async with connect(proxy) as (second, second_writer):  # accepted, though nobody is behind it
                await proxy.heal()
                assert await waiting == b"late"
                assert await echoed(second, second_writer, b"y") == b"y"

    run(talk)


def test_a_delay_holds_bytes_each_way() -> None:
    async def talk(proxy: FaultProxy) -> None:
        async with connect(proxy) as (reader, writer):
            await echoed(reader, writer, b"x")
            proxy.slow(delay_ms=40)
            began = now()
            await echoed(reader, writer, b"y")
            assert now() - began >= 80 * MS

    run(talk)


def test_a_bandwidth_limit_slows_bytes_down() -> None:
    async def talk(proxy: FaultProxy) -> None:
        async with connect(proxy) as (reader, writer):
            await echoed(reader, writer, b"x")
            proxy.slow(bytes_per_s=50_000)
            began = now()
            await echoed(reader, writer, bytes(5_000))
            await echoed(reader, writer, b"z")
            assert now() - began >= 100 * MS

    run(talk)


def test_a_half_open_connection_is_told_nothing_and_new_ones_pass() -> None:
    async def talk(proxy: FaultProxy) -> None:
        async with connect(proxy) as (reader, writer):
            await echoed(reader, writer, b"x")
            proxy.half_open()
            writer.write(b"into the void")
            waiting = asyncio.ensure_future(reader.read(1))
            async with connect(proxy) as (second, second_writer):
                assert await echoed(second, second_writer, b"y") == b"y"
            assert not waiting.done()
            waiting.cancel()

    run(talk)


def test_what_is_carried_can_be_changed_and_swallowed_until_healed() -> None:
    def tamper(way: Way, piece: bytes) -> bytes:
        return piece.upper() if way is Way.UP else b"" if piece.startswith(b"LOST") else piece

    async def talk(proxy: FaultProxy) -> None:
        async with connect(proxy) as (reader, writer):
            await echoed(reader, writer, b"x")
            proxy.tamper = tamper
            assert await echoed(reader, writer, b"changed") == b"CHANGED"
            writer.write(b"lost")
            async with connect(proxy) as (other, other_writer):
                assert await echoed(other, other_writer, b"later") == b"LATER"
            await until(lambda: proxy.bytes_down == 17)  # x, changed, lost and later came back
            await proxy.heal()
            assert await echoed(reader, writer, b"kept") == b"kept"

    run(talk)


def test_a_stream_is_cut_into_packets_wherever_its_pieces_end() -> None:
    packets = [
        b"\xd0\x00",
        b"\x40\x02\x00\x01",
        b"\x30\xc8\x01" + bytes(200),
        b"\x30\x80\x80\x01" + bytes(16_384),
    ]
    whole = b"".join(packets)
    for size in (1, 2, 3, 7, 100, len(whole)):
        cutter = Packets()
        found = [packet for at in range(0, len(whole), size) for packet in cutter.feed(whole[at : at + size])]
        assert found == packets


def test_without_an_upstream_the_client_sees_its_connection_end() -> None:
    async def talk(_: FaultProxy) -> None:
        lonely = FaultProxy("127.0.0.1", 1, now)  # nothing listens on port 1
        await lonely.start()
        async with connect(lonely) as (reader, _writer):
            assert await ended(reader)
        await lonely.close()

    run(talk)


async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    return await reader.readexactly(len(data))


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
