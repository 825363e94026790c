"""Reading a profile's TOML tables key by key, with errors that say where, what was expected and what came."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn


class ProfileError(ValueError):
    """A vehicle profile that cannot be used."""


class Table:
    """A TOML table that is taken apart key by key; what is left over is an error."""

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where = where
        self._values = dict(values)
        self._known: list[str] = []

    def fail(self, key: str, expected: str, came: object) -> NoReturn:
        raise ProfileError(f"{self.where}: {key}: expected {expected}, came {came!r}")

    def has(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str, expected: str, default: Any = None) -> Any:
        self._known.append(key)
        if key in self._values:
            return self._values.pop(key)
        if default is None:
            raise ProfileError(f"{self.where}: {key} is missing: expected {expected}")
        return default

    def text(self, key: str, default: str | None = None) -> str:
        value = self.take(key, "a text", default)
        if not isinstance(value, str) or not value:
            self.fail(key, "a text", value)
        return value

    def whole(self, key: str, least: int, most: int, default: int | None = None) -> int:
        expected = f"a whole number from {least} to {most}"
        value = self.take(key, expected, default)
        if type(value) is not int or not least <= value <= most:
            self.fail(key, expected, value)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.take(key, "true or false", default)
        if not isinstance(value, bool):
            self.fail(key, "true or false", value)
        return value

    def number(self, key: str, default: int) -> Fraction:
        value = self.take(key, "a number", default)
        if type(value) not in (int, Decimal) or (isinstance(value, Decimal) and not value.is_finite()):
            self.fail(key, "a number", value)
        return Fraction(value)

    def items(self, key: str, expected: str, default: list[Any] | None = None) -> list[Any]:
        value = self.take(key, expected, default)
        if not isinstance(value, list):
            self.fail(key, expected, value)
        return value

    def table(self, key: str) -> Table:
        value = self.take(key, "a table")
        if not isinstance(value, dict):
            self.fail(key, "a table", value)
        return Table(f"{self.where}: {key}", value)

    def end(self) -> None:
        for key in self._values:
            near = difflib.get_close_matches(key, self._known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(sorted(self._known))}"
            raise ProfileError(f"{self.where}: unknown key {key}{hint}")
