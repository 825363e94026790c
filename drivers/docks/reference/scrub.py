"""What may be kept of the bytes on a reference dock link: all but the key that PAIR carries in clear."""

from __future__ import annotations

from drivers.docks.reference.codec import VERSION, Pair

# A frame begins with its COBS code, version and type; none of them is 0, so they stand there as they are.
_BEGIN = 3
_SECRET = bytes((VERSION, Pair.TYPE))
BLANK = b"\xff"  # anything but 0x00, which ends a frame; ours


class Scrubber:
    """One direction. Called with each chunk, it returns the chunk with the payload of every PAIR blanked."""

    def __init__(self) -> None:
        self._begun = b""  # the first bytes of the frame that the last chunk left open

    def __call__(self, data: bytes) -> bytes:
        kept = []
        for number, part in enumerate(data.split(b"\0")):
            before = b"" if number else self._begun
            self._begun = (before + part[:_BEGIN])[:_BEGIN]
            if self._begun[1:] == _SECRET:
                clear = _BEGIN - min(len(before), _BEGIN)
                part = part[:clear] + BLANK * (len(part) - clear)
            kept.append(part)
        return b"\0".join(kept)
