"""The words of the notice, from one file a language: words/en.toml is what another must look like."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

ENGLISH = Path(__file__).parent / "words" / "en.toml"
FILE_MAX = 65_536  # bytes, ours


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; a missing or unknown key is refused."""


class State(_Part, frozen=True, kw_only=True):
    title: str
    why: str
    steps: list[str]


class States(_Part, frozen=True, kw_only=True):
    docked: State
    uncertain: State
    restricted: State
    foreign: State
    unknown: State
    permit: State
    override: State
    silent: State


class Countdown(_Part, frozen=True, kw_only=True):
    locks: str
    ends: str
    seconds: str
    minutes: str


class Override(_Part, frozen=True, kw_only=True):
    offer: str
    left: str
    none: str
    title: str
    text: str
    yes: str
    no: str
    taken: str
    log_in: str


class Code(_Part, frozen=True, kw_only=True):
    offer: str
    title: str
    how_long: str
    options: list[tuple[int, str]]  # minutes, in words
    read_out: str
    then: str
    send: str
    delete: str
    back: str
    accepted: str
    wait: str
    entered: str


class Failure(_Part, frozen=True, kw_only=True):
    silent: str
    refused: str


class Words(_Part, frozen=True, kw_only=True):
    language: str  # BCP 47, for screen readers
    heading: str
    what_to_do: str
    states: States
    rules: dict[str, str]
    countdown: Countdown
    override: Override
    code: Code
    failure: Failure


class WordsError(ValueError):
    """A file of words that cannot be used: which file, and what is wrong."""


def load(path: Path = ENGLISH) -> Words:
    """Read a language.

    Raises:
        WordsError: the file cannot be read, is no TOML, or a key is missing, unknown or of the wrong kind.
    """
    try:
        with path.open("rb") as file:
            data: Any = tomllib.loads(file.read(FILE_MAX).decode())
        return msgspec.convert(data, Words)
    except OSError as error:
        raise WordsError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise WordsError(f"{path}: {error}; compare it with {ENGLISH}") from None
