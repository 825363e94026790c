"""USB devices in the ports of a tablet, as udev would list them; a dock's hub browns out and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from drivers.docks.usb_presence.codec import BEGIN, END, Gone, There


@dataclass
class UsbPorts:
    """What is plugged in, by port path. Every act returns what udev says of it, as bytes."""

    there: dict[str, There] = field(default_factory=dict)

    def plug(self, path: str, vendor: str, product: str, serial: str = "") -> bytes:
        self.there[path] = There(vendor, product, path, serial)
        return self.there[path].encode()

    def pull(self, path: str) -> bytes:
        """A device goes, and what hangs on it with it: first the farthest, as the kernel does."""
        gone = sorted((each for each in self.there if each == path or each.startswith(f"{path}.")), key=len)
        for each in gone:
            del self.there[each]
        return b"".join(Gone(each).encode() for each in reversed(gone))

    def listing(self) -> bytes:
        return b"".join(self._listing())

    def _listing(self) -> Iterator[bytes]:
        yield BEGIN.encode()
        for device in self.there.values():
            yield device.encode()
        yield END.encode()
