"""What a session of the reference dock link drew by chance, read from what it sent: nonces go in clear."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from drivers.docks.reference.codec import Challenge, Decoder, Frame, Hello


def entropy(sent: Iterable[bytes]) -> Callable[[int], bytes]:
    """The randomness of a new session that is to send the same again; zeros when it wants more than that.

    A session draws the number of its first frame, a nonce for each HELLO and one for each CHALLENGE.
    """
    frames = [item for item in Decoder().feed(b"".join(sent)) if isinstance(item, Frame)]
    drawn: dict[int, deque[bytes]] = {}

    def note(value: bytes) -> None:
        of_size = drawn.setdefault(len(value), deque())
        if value not in list(of_size)[-1:]:  # the same again is a retransmission
            of_size.append(value)

    for frame in frames[:1]:
        note(bytes([frame.sequence]))
    for frame in frames:
        if isinstance(frame.message, Hello | Challenge):
            note(frame.message.nonce)
    return lambda size: drawn[size].popleft() if drawn.get(size) else bytes(size)
