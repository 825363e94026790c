"""Ptys with modem lines: tests/modem_shim.c, built and preloaded, and the dock at their other end."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import subprocess
from pathlib import Path

from simulator.docks.control_lines import ControlLinesDock

SOURCE = Path(__file__).with_suffix(".c")
_STATE = struct.Struct("10I")
SEQ, INPUTS, OUTPUTS, COUNTS, LACKS, WAITING, LOOKS = 0, 4, 8, 12, 28, 32, 36
NO_MIWAIT, NO_GICOUNT, GONE = 1, 2, 4
_BITS = {"cts": 0x020, "dsr": 0x100, "ri": 0x080, "dcd": 0x040}  # in the order of the counters
_OUT = {"dtr": 0x002, "rts": 0x004}
_FUTEX_WAKE, _SYS_FUTEX = 1, {"x86_64": 202, "aarch64": 98}


def build(folder: Path) -> Path:
    """Compile the shim; the library's path."""
    library = folder / "modem_shim.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE, "-ldl"],
        check=True,
        capture_output=True,
    )
    return library


class ShimLines:
    """The file behind the lines of one process, and the dock at the other end of them."""

    def __init__(self, path: Path, dock: ControlLinesDock, lacks: int = 0) -> None:
        if not path.exists():  # a process that is preloaded has mapped it already
            path.write_bytes(bytes(_STATE.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _STATE.size)
        self._word = ctypes.c_uint32.from_buffer(self._map)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.path = path
        self.dock = dock
        self._set(LACKS, lacks)
        self.show()

    def environment(self, library: Path) -> dict[str, str]:
        return {"LD_PRELOAD": str(library), "IVMA_MODEM_SHIM": str(self.path)}

    def put(self, **switches: bool) -> None:
        self.dock.put(**switches)
        self.show()

    def pulse(self, name: str) -> None:
        self.dock.pulse(name)
        self.show()

    def power(self, on: bool) -> None:
        self.dock.power(on)
        self.show()

    def show(self) -> None:
        """Put the dock's levels and edges on the wire, and wake who waits for them."""
        levels = self.dock.levels()
        names = {line.name.lower(): line for line in levels if line.name}
        self._set(INPUTS, sum(bit for name, bit in _BITS.items() if name in names))
        for number, name in enumerate(_BITS):
            self._set(COUNTS + 4 * number, self.dock.edges[name])
        self._wake()

    def pull(self) -> None:
        """The adapter is unplugged: every call fails, who waits is woken."""
        self._set(LACKS, self._get(LACKS) | GONE)
        self._wake()

    def plug(self) -> None:
        self._set(LACKS, self._get(LACKS) & ~GONE)

    @property
    def outputs(self) -> set[str]:
        bits = self._get(OUTPUTS)
        return {name for name, bit in _OUT.items() if bits & bit}

    @property
    def waiting(self) -> bool:
        """Somebody is blocked in TIOCMIWAIT."""
        return bool(self._get(WAITING))

    @property
    def looks(self) -> int:
        return self._get(LOOKS)

    def _get(self, offset: int) -> int:
        value: int = struct.unpack_from("I", self._map, offset)[0]
        return value

    def _set(self, offset: int, value: int) -> None:
        struct.pack_into("I", self._map, offset, value)

    def _wake(self) -> None:
        self._set(SEQ, (self._get(SEQ) + 1) & 0xFFFFFFFF)
        number = _SYS_FUTEX[os.uname().machine]
        self._libc.syscall(number, ctypes.byref(self._word), _FUTEX_WAKE, 1000, None, None, 0)
