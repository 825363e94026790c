"""The dock in C (simulator/firmware), built with gcc, as a device model in virtual time and as a process."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import pytest

from agent.core.types import MS, BootNs
from drivers.docks.reference.codec import SERIAL_SIZE, VEHICLE_ID_SIZE, StatusBit, padded
from tests.dock_rig import KEY, SERIAL, VEHICLE_ID

ROOT = Path(__file__).parents[1]
DOCK_C = ROOT / "simulator/firmware/ivma_dock.c"
BOARD_C = ROOT / "simulator/firmware/board_posix.c"
RIG_C = ROOT / "tests/firmware/rig.c"
FUZZ_C = ROOT / "tests/firmware/fuzz.c"
STRICT = ("-Wall", "-Wextra", "-Werror", "-std=c99", "-pedantic")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
VERSION = 1  # of the link, as a pairing keeps it
# The order of enum ivma_drop.
DROPS = [
    "cobs",
    "length",
    "crc",
    "version",
    "flags",
    "type",
    "trailer",
    "tag",
    "counter",
    "misdirected",
    "unsent",
]
_BITS = {name: StatusBit[name.upper()].value for name in ("seated", "mated", "locked", "kl15")}

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc; `make system-deps` installs it")


def compiled(out: Path, *sources: Path, flags: tuple[str, ...] = ("-O2",)) -> Path:
    """Built with every warning as an error; the compiler's words are the failure."""
    command = ["gcc", *STRICT, *flags, "-o", str(out), *map(str, sources)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert built.returncode == 0, f"{' '.join(command)}\n{built.stderr}"
    assert not built.stderr, built.stderr
    return out


@functools.cache
def library() -> ctypes.CDLL:
    """The dock with a board in memory, for this process."""
    with tempfile.TemporaryDirectory() as folder:
        path = compiled(Path(folder) / "rig.so", RIG_C, DOCK_C, flags=("-O2", "-shared", "-fPIC"))
        loaded = ctypes.CDLL(str(path))
    loaded.rig_size.restype = loaded.rig_take.restype = loaded.rig_dock_size.restype = ctypes.c_size_t
    for name in ("rig_idle_ms", "rig_executions", "rig_dropped", "ivma_crc32"):
        getattr(loaded, name).restype = ctypes.c_uint32
    loaded.rig_outputs.restype = ctypes.c_uint8
    for name in ("ivma_cobs_encode", "rig_take"):
        getattr(loaded, name).restype = ctypes.c_size_t
    return loaded


def record(key: bytes = KEY, vehicle_id: str = VEHICLE_ID) -> bytes:
    """A pairing as a board keeps it."""
    body = bytes([1, VERSION]) + padded(vehicle_id, VEHICLE_ID_SIZE) + key
    return body + zlib.crc32(body).to_bytes(4, "little")


class FirmwareDock:
    """Implements ``DeviceModel``: one dock in C on a board in memory."""

    def __init__(
        self, at: BootNs, *, serial: str = SERIAL, pairing: bytes | None = None, outputs: int = 0b11000
    ) -> None:
        self._lib = library()
        self._rig = ctypes.create_string_buffer(self._lib.rig_size())
        self._out = ctypes.create_string_buffer(65536)
        self._bits = _BITS["seated"] | _BITS["mated"]
        self._known = 0b1111
        self._service, self._faults, self._vehicle_mv = False, 0, 12_600
        self._at = at
        self._lib.rig_new(self._rig, padded(serial, SERIAL_SIZE), pairing, _ms(at), outputs)

    def feed(self, data: bytes, at: BootNs) -> None:
        self._at = max(at, self._at)
        self._lib.rig_feed(self._rig, _ms(at), data, ctypes.c_size_t(len(data)))

    def timer(self, at: BootNs) -> None:
        self.feed(b"", at)

    def next_deadline(self) -> BootNs:
        return BootNs((self._at // MS + self._lib.rig_idle_ms(self._rig)) * MS)

    def outgoing(self) -> bytes:
        size = self._lib.rig_take(self._rig, self._out)
        return self._out.raw[:size]

    def set_inputs(
        self, at: BootNs, *, service: bool | None = None, faults: int | None = None,
        vehicle_mv: int | None = None, **bits: bool | None,
    ) -> None:  # fmt: skip
        """Move contacts (seated, mated, locked, kl15; None is not known) and let the board look at them."""
        for name, value in bits.items():
            bit = _BITS[name]
            self._known = self._known & ~bit if value is None else self._known | bit
            self._bits = self._bits | bit if value else self._bits & ~bit
        self._service = self._service if service is None else service
        self._faults = self._faults if faults is None else faults
        self._vehicle_mv = self._vehicle_mv if vehicle_mv is None else vehicle_mv
        inputs = (self._bits, self._known, self._service, self._faults, self._vehicle_mv)
        self._lib.rig_inputs(self._rig, *map(int, inputs))
        self.timer(at)

    def reset(self, cause: int = 1) -> None:
        self._lib.rig_reset(self._rig, cause)

    def broken(self, *, flash: bool = False, wire: bool = False) -> None:
        """From now on the flash stores nothing, or the wire takes nothing."""
        self._lib.rig_broken(self._rig, int(flash), int(wire))

    def set_nonce(self, start: int, proof: int) -> None:
        """What the next PROOF will carry as its nonce."""
        self._lib.rig_nonce(self._rig, ctypes.c_uint32(start), ctypes.c_uint32(proof))

    @property
    def outputs(self) -> int:
        return int(self._lib.rig_outputs(self._rig))

    @property
    def executions(self) -> int:
        return int(self._lib.rig_executions(self._rig))

    @property
    def dropped(self) -> dict[str, int]:
        counts = {why: int(self._lib.rig_dropped(self._rig, place)) for place, why in enumerate(DROPS)}
        return {why: count for why, count in counts.items() if count}

    def in_session(self) -> bool:
        return bool(self._lib.rig_in_session(self._rig))

    def paired(self) -> bool:
        return bool(self._lib.rig_paired(self._rig))


def _ms(at: BootNs) -> ctypes.c_uint32:
    return ctypes.c_uint32(at // MS)
