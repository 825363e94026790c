"""Short codes: what the control room reads out to an officer whose tablet shows a challenge. docs/permits.md.

The answer is the first 60 bits of HMAC-SHA-256, under a key that only this tablet and the control room hold,
over challenge, scope and length. Written in Crockford's base 32: no I, L, O or U, and whoever types one of
the first three means 1, 1 and 0.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from sync.keys import KEY_BYTES, KeyFileError

LABEL = b"ivma-code/1"
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHALLENGE_CHARS = 8  # 40 bits: none comes twice in a tablet's life
ANSWER_CHARS = 12  # 60 bits
_BITS = 5
_GROUP = 4
_MEANT = str.maketrans("ILO", "110")


def challenge(entropy: bytes) -> str:
    """A challenge from 5 random bytes."""
    return _written(entropy, CHALLENGE_CHARS)


def answer(key: bytes, challenge: str, scope: str, minutes: int) -> str:
    """The answer to a challenge in its plain form; ``minutes`` is the length that is granted."""
    words = (LABEL, challenge.encode(), scope.encode(), str(minutes).encode())
    return _written(hmac.new(key, b"\0".join(words), hashlib.sha256).digest(), ANSWER_CHARS)


def right(given: str, key: bytes, challenge: str, scope: str, minutes: int) -> bool:
    """Whether ``given``, as a person typed it, is the answer; compared in constant time."""
    typed = plain(given).encode("ascii", "replace")
    return hmac.compare_digest(typed, answer(key, challenge, scope, minutes).encode())


def plain(text: str) -> str:
    """What a person typed, in capitals, without spaces and dashes, and with look-alikes as they are meant."""
    return "".join(text.upper().split()).replace("-", "").translate(_MEANT)


def well_formed(text: str, length: int) -> bool:
    """Whether ``text``, in its plain form, can be a challenge or an answer of that length."""
    return len(text) == length and all(character in ALPHABET for character in text)


def grouped(text: str) -> str:
    """For reading out: groups of four."""
    return "-".join(text[begin : begin + _GROUP] for begin in range(0, len(text), _GROUP))


def load_code_key(path: Path) -> bytes:
    """A tablet's code key from its file: 64 hex digits.

    Raises:
        KeyFileError: not readable, readable by others, or not 64 hex digits.
    """
    try:
        private = not path.stat().st_mode & 0o077
        text = path.read_text(errors="replace").strip()
    except OSError as error:
        raise KeyFileError(f"key {path}: cannot be read: {error.strerror}") from error
    if not private:
        raise KeyFileError(f"key {path}: other users can read it; expected mode 0600: chmod 600 {path}")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"key {path}: expected a code key of {2 * KEY_BYTES} hex digits")
    return key


def _written(data: bytes, length: int) -> str:
    """The first bits of ``data``, five a character."""
    bits = int.from_bytes(data, "big") >> (8 * len(data) - _BITS * length)
    return "".join(ALPHABET[bits >> (_BITS * place) & 31] for place in reversed(range(length)))
