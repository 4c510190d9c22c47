"""TOML files read whole: all that is wrong with one, each with its file, line and key, at once.

``tomllib`` says whether a text is TOML, a pydantic model says what keys and values it may hold, and
:mod:`mailserver.domains.positions` says on which line each stands. A model's converters raise
:class:`ValueError` with a text for the admin; everything pydantic itself has to say is put into plain words
here.
"""

import difflib
import re
import tomllib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mailserver.domains.positions import KeyPath, Positions, locate, spell_path
from mailserver.model.source import Problem, Source

__all__ = ["Table", "known_keys", "read_toml"]

Model = TypeVar("Model", bound=BaseModel)

_WHERE = re.compile(r"\s*\(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)")
_WORDS = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "list_type": "must be a list: [ … ]",
    "tuple_type": "must be a list: [ … ]",
    "string_type": 'must be text in quotes: "…"',
    "model_type": "must be a table",
    "missing": "is missing",
}


class Table(BaseModel):
    """One table of a file: unknown keys and near types are refused, values never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


def read_toml(
    text: str, file: str, model: type[Model]
) -> tuple[Model | None, tuple[Problem, ...], Positions]:
    """Read a text as ``model``.

    :param file: what the file is called in problems.
    :returns: the values, or ``None`` with the problems that say why; and where each key stands.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return None, (_syntax_problem(error, text, file),), Positions({})
    positions = locate(text)
    try:
        return model.model_validate(data), (), positions
    except ValidationError as error:
        problems = [
            Problem(
                Source(file, positions.line(detail["loc"])), spell_path(detail["loc"]), _say(detail, model)
            )
            for detail in error.errors(include_url=False)
        ]
        problems.sort(key=lambda problem: problem.source.line)
        return None, tuple(problems), positions


def _syntax_problem(error: tomllib.TOMLDecodeError, text: str, file: str) -> Problem:
    message = str(error)
    match = _WHERE.search(message)
    line = int(match[1]) if match and match[1] else text.count("\n") + 1
    said = _WHERE.sub("", message)
    return Problem(Source(file, line), "", f"not TOML: {said[:1].lower()}{said[1:]}")


def _say(detail: Any, model: type[BaseModel]) -> str:
    kind = detail["type"]
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "extra_forbidden":
        return _say_unknown(detail["loc"], model)
    if kind == "literal_error":
        return f"{_spell(detail['input'])} is not one of {detail['ctx']['expected']}"
    said = _WORDS.get(kind)
    if said is None:
        said = detail["msg"].replace("Input should be", "must be")
    return said if kind == "missing" else f"{said}, not {_spell(detail['input'])}"


def _spell(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:60]}…"'
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    return str(value)


def _say_unknown(path: KeyPath, model: type[BaseModel]) -> str:
    keys = known_keys(model)
    parent = tuple(part for part in path[:-1] if isinstance(part, str))
    name = str(path[-1])
    siblings = [key[-1] for key in keys if key[:-1] == parent]
    if close := difflib.get_close_matches(name, siblings, 1):
        return f'unknown key, did you mean "{close[0]}"?'
    for key in keys:
        if key[-1] == name:
            home = f"in [{'.'.join(key[:-1])}]" if key[:-1] else "at the top, before the first [table]"
            return f"unknown key here; it belongs {home}"
    return "unknown key"


def known_keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key path a model knows, array indices left out."""
    keys: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        keys.append((*above, name))
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                keys += known_keys(inner, (*above, name))
    return keys
