"""``quick``: frozen dataclasses that are made at every observation, made in a fraction of the time.

The ``__init__`` of a frozen dataclass sets each field through ``object.__setattr__``, a call for each: to
make a STATUS takes longer than to decide by it. Here an object is made as one of a twin, a class with the
same slots that is not frozen, and then becomes what it is. What it can do, and cannot, is the same.
"""

from __future__ import annotations

import types
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["quick"]

T = TypeVar("T")


def _quick(cls: Any) -> Any:
    """Over ``@dataclass(frozen=True, slots=True)``, of a class without subclasses.

    Raises:
        TypeError: a field is not a plain one, or is made by a factory.
    """
    names: dict[str, Any] = {"_new": object.__new__, "_cls": cls, "_twin": _twin(cls)}
    parameters = ["_type"]
    for field in fields(cls):
        if not field.init or field.kw_only or field.default_factory is not MISSING:
            raise TypeError(f"{cls.__name__}.{field.name}: expected a plain field, with a default or without")
        names[f"_default_{field.name}"] = field.default
        parameters.append(field.name + ("" if field.default is MISSING else f"=_default_{field.name}"))
    lines = [
        f"def __new__({', '.join(parameters)}):",
        "    self = _new(_twin)",
        *(f"    self.{field.name} = {field.name}" for field in fields(cls)),
        "    self.__class__ = _cls",
        "    return self",
    ]
    exec("\n".join(lines), names)  # noqa: S102 - as dataclasses does it: names of fields, nothing from outside
    cls.__new__ = names["__new__"]
    cls.__init__ = object.__init__
    cls.__reduce__ = lambda self: (cls, tuple(getattr(self, field.name) for field in fields(cls)))
    return cls


def _twin(cls: Any) -> type:
    """A class of the same layout whose objects can be written."""
    body = {"__slots__": cls.__slots__, "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    bases = cls.__dict__.get("__orig_bases__", cls.__bases__)
    return types.new_class(cls.__name__, bases, exec_body=lambda namespace: namespace.update(body))


if TYPE_CHECKING:

    def quick(cls: type[T]) -> type[T]:
        """Nothing, to the type checker."""
        return cls
else:
    quick = _quick
