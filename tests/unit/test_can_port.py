"""The CAN port on a real simcan bus: signals, bus states, reopening, batches."""

from __future__ import annotations

import ast
import asyncio
import errno
import json
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import can
import pytest
import structlog

from agent.core.types import MS, BusState, CanBus, CanSignal, KeyPosition, SignalKind
from drivers.ports import can as can_port
from drivers.ports.can import BusHandle, CanPort, opener
from drivers.ports.can_link import CanLink
from drivers.ports.python_can import PythonCanBus
from drivers.ports.socketcan import RawBus
from drivers.vehicles import vw_mqb
from drivers.vehicles.codec import ERROR, Value, pack
from drivers.vehicles.watch import BUS_OFF, RESTARTED, CompiledProfile
from simulator.can_hub import CanHub
from tests.can_rig import Clock, Seen, port_on_hub, until

PROFILE = vw_mqb()
KLEMMEN, MOTOR = PROFILE.frames
SENDS = {
    "send", "sendall", "sendto", "sendmsg", "sendfile", "send_periodic", "transmit",
    "write", "writev", "pwrite", "makefile", "dup", "detach",
}  # fmt: skip


def terminals(position: KeyPosition, counter: int) -> bytes:
    return KLEMMEN.encode({SignalKind.IGNITION: position}, counter)


def signals(seen: Seen) -> list[tuple[SignalKind, Value]]:
    return [(each.kind, each.value) for each in seen.all if isinstance(each, CanSignal)]


def said(seen: Seen, count: int) -> bool:
    return len(signals(seen)) == count


def states(seen: Seen) -> list[BusState]:
    return [each.state for each in seen.all if isinstance(each, CanBus)]


def test_a_key_turn_on_the_bus_becomes_observations(tmp_path: Path) -> None:
    async def main() -> None:
        async with port_on_hub(tmp_path / "can", PROFILE) as (hub, _, seen, clock):
            turns = [
                KeyPosition.OFF,
                KeyPosition.ACCESSORY,
                KeyPosition.ON,
                KeyPosition.START,
                KeyPosition.ON,
            ]
            hub.send(terminals(KeyPosition.OFF, 0))
            for counter, position in enumerate(turns, start=1):
                clock.forward(100 * MS)
                hub.send(terminals(position, counter))
                await seen.until(partial(said, seen, counter))
            assert signals(seen) == [(SignalKind.IGNITION, position) for position in turns]
            assert states(seen) == [BusState.ACTIVE]
            assert isinstance(seen.all[-1], CanSignal)
            assert seen.all[-1].at == clock.at
            assert seen.all[-1].bus == "powertrain"

    asyncio.run(main())


def test_a_bus_with_nothing_on_it_is_silent_and_speaks_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with port_on_hub(tmp_path / "can", PROFILE, silent_s=0.02) as (hub, _, seen, _clock):
            await seen.until(lambda: states(seen) == [BusState.SILENT])
            hub.send(terminals(KeyPosition.ON, 1))
            await seen.until(lambda: states(seen)[1:2] == [BusState.ACTIVE])
            await seen.until(lambda: states(seen)[2:] == [BusState.SILENT])

    asyncio.run(main())


def test_a_bus_that_goes_is_down_and_is_opened_again(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "can"
        async with port_on_hub(path, PROFILE) as (hub, port, seen, _):
            hub.send(terminals(KeyPosition.ON, 0))
            await seen.until(lambda: states(seen) == [BusState.ACTIVE])
            hub.close()
            await seen.until(lambda: states(seen)[-1] is BusState.DOWN)
            hub.start()
            await until(lambda: bool(hub.members))
            hub.send(terminals(KeyPosition.ON, 1))
            await seen.until(lambda: states(seen)[-1] is BusState.ACTIVE)
            assert port.counters.values["opened"] == 2
            assert port.counters.values["down"] >= 1

    asyncio.run(main())


def test_no_bus_at_the_start_is_down_once_however_often_it_is_tried(tmp_path: Path) -> None:
    async def main() -> None:
        path, seen = tmp_path / "can", Seen()
        compiled = CompiledProfile(PROFILE, "powertrain")
        port = CanPort("powertrain", opener("simcan", str(path), compiled), compiled, seen, Clock())
        port.start()
        assert states(seen) == [BusState.DOWN]
        async with CanHub(path) as hub:
            await until(lambda: bool(hub.members))
            hub.send(terminals(KeyPosition.ON, 1))
            await seen.until(lambda: states(seen) == [BusState.DOWN, BusState.ACTIVE])
            port.close()

    asyncio.run(main())


def test_bus_off_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        async with port_on_hub(tmp_path / "can", PROFILE) as (hub, port, seen, _):
            hub.send(pack(ERROR | BUS_OFF, bytes(8), extended=False))
            await seen.until(lambda: states(seen)[-1:] == [BusState.DOWN])
            assert port.counters.values["error_frame"] == 1

    asyncio.run(main())


def test_a_controller_that_is_bus_off_is_down_until_it_is_restarted(tmp_path: Path) -> None:
    """An error frame tells; the bus is not taken again before the kernel says that the controller is back."""
    links = [CanLink(listen_only=True, state="error-active", restart_ms=100)]

    async def main() -> None:
        path, seen = tmp_path / "can", Seen()
        compiled = CompiledProfile(PROFILE, "powertrain")

        def open_linked() -> BusHandle:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.connect(str(path))
            return RawBus(sock, lambda: links[-1])

        async with CanHub(path) as hub:
            port = CanPort("powertrain", open_linked, compiled, seen, Clock())
            port.start()
            await until(lambda: bool(hub.members))
            links.append(
                CanLink(listen_only=True, state="bus-off", restart_ms=100, tx_errors=0, rx_errors=255)
            )
            with structlog.testing.capture_logs() as logs:
                hub.send(pack(ERROR | BUS_OFF, bytes(8), extended=False))
                await until(lambda: port.counters.values["down"] >= 2)
            said = [line for line in logs if line["event"] == "can.controller"]
            assert [(line["state"], line["rx"]) for line in said] == [("bus-off", 255)]
            assert any("comes back in 100 ms" in line.get("error", "") for line in logs)
            assert states(seen) == [BusState.ACTIVE, BusState.DOWN]
            links.append(CanLink(listen_only=True, state="error-active", restart_ms=100))
            await until(lambda: bool(hub.members))
            hub.send(pack(ERROR | RESTARTED, bytes(8), extended=False))
            await until(lambda: port.counters.values.get("restarted") == 1)
            assert states(seen) == [BusState.ACTIVE, BusState.DOWN, BusState.ACTIVE]
            assert port.counters.values["bus_off"] == 1
            port.close()

    asyncio.run(main())


def test_two_buses_say_each_its_own(tmp_path: Path) -> None:
    """The key on one bus, the engine on the other; a frame on the wrong one is counted there."""
    profile = replace(PROFILE, frames=(KLEMMEN, replace(MOTOR, bus="drive")))

    async def main() -> None:
        async with (
            port_on_hub(tmp_path / "one", profile) as (one, port, seen, _),
            port_on_hub(tmp_path / "two", profile, bus="drive") as (two, _, other, _),
        ):
            for counter in range(3):
                one.send(terminals(KeyPosition.ON, counter))
                one.send(MOTOR.encode({SignalKind.ENGINE_SPEED: 800}, counter))
                two.send(MOTOR.encode({SignalKind.ENGINE_SPEED: 900}, counter))
            await seen.until(lambda: (SignalKind.IGNITION, KeyPosition.ON) in signals(seen))
            await other.until(lambda: (SignalKind.ENGINE_SPEED, 900) in signals(other))
            await until(lambda: port.counters.values.get("wrong_bus") == 3)
            assert SignalKind.ENGINE_SPEED not in dict(signals(seen))

    asyncio.run(main())


def test_a_busy_bus_is_read_in_batches(tmp_path: Path) -> None:
    """The first frame at once; what comes within drain_ms after it in one go."""

    class Counting:
        def __init__(self, bus: BusHandle) -> None:
            self.bus, self.batches = bus, list[int]()
            self.dropped, self.link = bus.dropped, bus.link

        def fileno(self) -> int:
            return self.bus.fileno()

        def drain(self, budget: int) -> list[bytes]:
            frames = self.bus.drain(budget)
            self.batches.append(len(frames))
            return frames

        def close(self) -> None:
            self.bus.close()

    async def main() -> None:
        path, seen, opened = tmp_path / "can", Seen(), list[Counting]()
        compiled = CompiledProfile(PROFILE, "powertrain")
        open_raw = opener("simcan", str(path), compiled)

        def open_counting() -> BusHandle:
            opened.append(Counting(open_raw()))
            return opened[-1]

        async with CanHub(path) as hub:
            port = CanPort("powertrain", open_counting, compiled, seen, Clock(), drain_ms=20)
            port.start()
            await until(lambda: bool(hub.members))
            hub.send(terminals(KeyPosition.ON, 0))
            await seen.until(lambda: states(seen) == [BusState.ACTIVE])
            for counter in range(1, 101):
                hub.send(terminals(KeyPosition.ON, counter))
            await until(lambda: port.counters.values["frames"] == 101)
            assert opened[0].batches == [1, 100]
            port.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (CanLink(listen_only=False), "acknowledges frames; expected one that only listens: ip link"),
        (
            CanLink(listen_only=True, bitrate=250_000),
            "set to 250000 bit/s, expected 500000: ip link",
        ),
    ],
)
def test_an_interface_that_is_set_wrong_is_refused(tmp_path: Path, link: CanLink, words: str) -> None:
    """It is down for the agent, and taken as soon as it is set right."""
    links = [link]

    async def main() -> None:
        path, seen = tmp_path / "can", Seen()
        compiled = CompiledProfile(PROFILE, "powertrain")

        def open_linked() -> BusHandle:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.connect(str(path))
            return RawBus(sock, lambda: links[-1])

        async with CanHub(path) as hub:
            port = CanPort("powertrain", open_linked, compiled, seen, Clock(), bitrate=500_000)
            with structlog.testing.capture_logs() as logs:
                port.start()
            assert words in logs[0]["error"]
            assert states(seen) == [BusState.DOWN]
            assert port.status()["state"] == "down"
            links.append(CanLink(listen_only=True, bitrate=500_000, state="error-active", rx_errors=7))
            await until(lambda: port.counters.values["opened"] == 1)
            await until(lambda: len(hub.members) == 1)  # the one that was refused has left
            hub.send(terminals(KeyPosition.ON, 1))
            await seen.until(lambda: states(seen) == [BusState.DOWN, BusState.ACTIVE])
            status = port.status()
            assert (status["listen_only"], status["bitrate"], status["rx_errors"]) == (True, 500_000, 7)
            assert (status["state"], status["controller"]) == ("active", "error-active")
            port.close()

    asyncio.run(main())


PORTS = Path(can_port.__file__).parent
HOLD_A_BUS = ("can.py", "socketcan.py", "python_can.py")
BUS_MODULES = {"can", "drivers.ports.can", "drivers.ports.socketcan", "drivers.ports.python_can"}


def names(source: str) -> set[str]:
    """Every name and attribute that a source reaches, and every one that it imports."""
    nodes = list(ast.walk(ast.parse(source)))
    found = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    found |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return found | {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}


def reaches_a_bus(source: str) -> bool:
    nodes = list(ast.walk(ast.parse(source)))
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return any(m is not None and (m in BUS_MODULES or m.startswith("can.")) for m in modules)


def test_nothing_that_holds_a_bus_can_send() -> None:
    """No attribute or import of the code that the daemon has around a bus leads to a frame on it."""
    for name in HOLD_A_BUS:
        reached = names((PORTS / name).read_text())
        assert not reached & SENDS, name
        assert "getattr" not in reached, f"{name}: what it reaches cannot be read from the source"


def test_nothing_that_is_given_a_bus_sends_on_it() -> None:
    """Whoever imports a port or python-can reaches no way to send; and nobody else opens a bus."""
    words = {word for word in SENDS if word.startswith(("send", "transmit"))}
    users = []
    for folder in ("agent", "drivers", "sync"):
        for path in (PORTS.parents[1] / folder).rglob("*.py"):
            source = path.read_text()
            if path.name == "simcan.py":  # for rigs; python-can finds it by its entry point
                continue
            assert "ports.simcan" not in source, path
            assert path.name == "socketcan.py" or "AF_CAN" not in names(source), path
            if reaches_a_bus(source):
                users.append(path.name)
                assert not names(source) & words, path
    assert {"__main__.py", "cli.py", "can.py", "python_can.py"} <= set(users)


@pytest.mark.parametrize(
    "line",
    [
        "bus.send(b'')",
        "x = bus.send_periodic",
        "from can import send",
        "self._sock.sendmsg([b''])",
        "os.write(fd, b)",
    ],
)
def test_a_planted_way_to_send_is_found(line: str) -> None:
    assert names((PORTS / "can.py").read_text() + f"\ndef planted(bus):\n    {line}\n") & SENDS


def test_the_port_transmits_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with port_on_hub(tmp_path / "can", PROFILE) as (hub, port, seen, _):
            for counter in range(20):
                hub.send(terminals(KeyPosition.ON, counter))
            await seen.until(lambda: bool(signals(seen)))
            await until(lambda: port.counters.values["frames"] == 20)
            assert sum(hub.sent_by_pid.values()) == 0

    asyncio.run(main())


def test_raw_buses_do_not_import_python_can() -> None:
    """python-can costs 170 ms and 18 MiB; SocketCAN and simcan go without."""
    code = (
        "import sys, json; import drivers.ports.can, drivers.vehicles as v; v.vw_mqb(); v.j1939();"
        "print(json.dumps([m for m in ('can', 'cantools') if m in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []


def test_any_python_can_interface_with_a_descriptor_works(tmp_path: Path) -> None:
    """simcan once more, this time through python-can's own registry and Message objects."""

    async def main() -> None:
        path, seen = tmp_path / "can", Seen()
        compiled = CompiledProfile(PROFILE, "powertrain")
        async with CanHub(path) as hub:
            port = CanPort("powertrain", lambda: PythonCanBus("simcan", str(path)), compiled, seen, Clock())
            port.start()
            await until(lambda: bool(hub.members))
            hub.send(terminals(KeyPosition.ON, 0))
            hub.send(terminals(KeyPosition.ON, 1))
            await seen.until(lambda: signals(seen) == [(SignalKind.IGNITION, KeyPosition.ON)])
            hub.close()
            await seen.until(lambda: states(seen)[-1] is BusState.DOWN)
            port.close()

    asyncio.run(main())


def test_an_interface_without_a_descriptor_is_refused_with_its_name(tmp_path: Path) -> None:
    compiled = CompiledProfile(PROFILE, "powertrain")
    with pytest.raises(OSError, match="virtual has no file descriptor") as caught:
        opener("virtual", "bench", compiled)()
    assert caught.value.errno == errno.ENOTSUP


def test_simcan_is_a_python_can_interface(tmp_path: Path) -> None:
    async def main() -> None:
        async with CanHub(tmp_path / "can") as hub:
            with (
                can.Bus(interface="simcan", channel=str(hub.path)) as one,
                can.Bus(interface="simcan", channel=str(hub.path)) as two,
            ):
                await until(lambda: len(hub.members) == 2)
                sent = can.Message(arbitration_id=0x18FEF700, data=b"\x01\x02", is_extended_id=True)
                one.send(sent)
                await until(lambda: sum(hub.sent_by_pid.values()) == 1)
                got = two.recv(1)
                assert got is not None
                assert sent.equals(got, check_channel=False, timestamp_delta=None, check_direction=False)
                assert one.recv(0) is None

    asyncio.run(main())


def test_simcan_without_a_hub_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(can.CanInitializationError, match="no hub listens"):
        can.Bus(interface="simcan", channel=str(tmp_path / "nowhere"))
