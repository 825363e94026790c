"""What the end of a connection, or a refusal, asks of us: reason codes of MQTT 5.0, 2.4, in groups."""

from __future__ import annotations

import enum

NOT_AUTHORISED, USE_ANOTHER, MOVED, QUOTA_EXCEEDED = 0x87, 0x9C, 0x9D, 0x97


class Ending(enum.Enum):
    """Why a connection ended, or did not come about."""

    NETWORK = "network"  # nobody said why, or it passes by itself
    BUSY = "busy"  # the broker asks for less of us
    FORBIDDEN = "forbidden"  # the broker does not take who we are, or our own files are unusable
    UNTRUSTED = "untrusted"  # the broker does not prove who it is
    TAKEN_OVER = "taken_over"  # somebody else connected under our name
    TOO_LARGE = "too_large"  # what we sent last


_ENDINGS = {
    0x85: Ending.FORBIDDEN,  # client identifier not valid
    0x86: Ending.FORBIDDEN,  # bad user name or password
    NOT_AUTHORISED: Ending.FORBIDDEN,
    0x8A: Ending.FORBIDDEN,  # banned
    0x8C: Ending.FORBIDDEN,  # bad authentication method
    0x88: Ending.BUSY,  # server unavailable
    0x89: Ending.BUSY,  # server busy
    QUOTA_EXCEEDED: Ending.BUSY,
    0x96: Ending.BUSY,  # message rate too high
    0x9F: Ending.BUSY,  # connection rate exceeded
    0x8E: Ending.TAKEN_OVER,
    0x95: Ending.TOO_LARGE,
}


def ending_of(code: int) -> Ending:
    """The group of a reason code of CONNACK, SUBACK or DISCONNECT; those of 3.1.1 come translated by paho."""
    return _ENDINGS.get(code, Ending.NETWORK)
