"""umockdev's testbed by ctypes: devices that come and go for a process run under ``umockdev-wrapper``."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path


class UdevBed:
    """A machine without devices; those added here have uevents, properties and nodes under ``/dev``."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libumockdev.so.0")
        self._lib.umockdev_testbed_new.restype = ctypes.c_void_p
        self._lib.umockdev_testbed_get_root_dir.restype = ctypes.c_char_p
        self._bed = ctypes.c_void_p(self._lib.umockdev_testbed_new())
        self.root = Path(self._lib.umockdev_testbed_get_root_dir(self._bed).decode())

    def add(self, sys_path: str, subsystem: str, properties: dict[str, str], leads_to: str = "") -> None:
        """Plug a device in. ``DEVNAME`` among the properties gives it a node, a link to ``leads_to``.

        Without that the node is umockdev's own pty, whose other end is ``other_end``.
        """
        lines = [f"P: {sys_path.removeprefix('/sys')}"]
        devnode = properties.get("DEVNAME", "")
        if devnode and not leads_to:
            lines.append(f"N: {devnode.removeprefix('/dev/')}")
        elif devnode:
            node = self.root / devnode.removeprefix("/")
            node.parent.mkdir(parents=True, exist_ok=True)
            node.symlink_to(leads_to)
        lines += [f"E: {name}={value}" for name, value in {**properties, "SUBSYSTEM": subsystem}.items()]
        text = ("\n".join(lines) + "\n\n").encode()
        if not self._lib.umockdev_testbed_add_from_string(self._bed, text, None):
            raise RuntimeError(f"umockdev refused the device {sys_path}")

    def other_end(self, devnode: str) -> int:
        """The descriptor of the device's side of a node that ``add`` made a pty."""
        fd: int = self._lib.umockdev_testbed_get_dev_fd(self._bed, devnode.encode())
        return fd

    def answer(self, devnode: str, ioctls: str) -> None:
        """From now on a node answers these ioctls, in umockdev's words."""
        with tempfile.NamedTemporaryFile("w", suffix=".ioctl") as file:
            file.write(f"@DEV {devnode}\n{ioctls}\n")
            file.flush()
            if not self._lib.umockdev_testbed_load_ioctl(
                self._bed, devnode.encode(), file.name.encode(), None
            ):
                raise RuntimeError(f"umockdev refused the ioctls {ioctls!r}")

    def change(self, sys_path: str) -> None:
        self._lib.umockdev_testbed_uevent(self._bed, sys_path.encode(), b"change")

    def remove(self, sys_path: str, devnode: str = "") -> None:
        """Unplug: what udev does first is to forget the device, then it tells."""
        if devnode:
            (self.root / devnode.removeprefix("/")).unlink()
        self._lib.umockdev_testbed_uevent(self._bed, sys_path.encode(), b"remove")
        self._lib.umockdev_testbed_remove_device(self._bed, sys_path.encode())
