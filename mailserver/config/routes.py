"""The ``[[route]]`` tables as values, and what is wrong with them beyond single keys."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mailserver.access.networks import Networks
from mailserver.access.routes import Route, To
from mailserver.config.shapes import File
from mailserver.model.exchanger import Login, Security
from mailserver.model.source import Problem, Source

__all__ = ["read_routes", "route_problems"]

Locate = Callable[..., Source]
"""Where a key stands, by its path."""

Find = Callable[[str], Path]
"""The path that a text in the file means."""


def read_routes(file: File, locate: Locate, find: Find) -> tuple[Route, ...]:
    """The routes in the order of the file."""
    return tuple(_route(table, locate("route", index), find) for index, table in enumerate(file.route))


def _route(table: Any, source: Source, find: Find) -> Route:
    networks = Networks(tuple((network, source) for network in table.networks)) if table.networks else None
    password = _password(table, find)
    return Route(
        to=To(table.to),
        domains=frozenset(table.domains),
        senders=frozenset(table.senders),
        networks=networks,
        users=frozenset(table.users),
        smarthosts=tuple(table.smarthost),
        security=Security(table.tls),
        login=Login(table.username, password) if table.username and password else None,
        text=table.text,
        source=source,
    )


def _password(table: Any, find: Find) -> str:
    """The first line of the file; empty where there is none, which has been told."""
    if not table.password_file:
        return ""
    try:
        return find(table.password_file).read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError):
        return ""


def route_problems(file: File, locate: Locate, find: Find) -> Iterator[Problem]:
    """What is wrong though every key by itself is right."""
    for index, table in enumerate(file.route):

        def wrong(key: str, text: str, index: int = index) -> Problem:
            return Problem(locate("route", index, key), f"route[{index}].{key}", text)

        if table.to == "smarthost" and not table.smarthost:
            yield wrong("smarthost", "is missing: name a host")
        if table.to != "smarthost":
            for key in ("smarthost", "username"):
                if getattr(table, key):
                    yield wrong(key, 'goes with to = "smarthost"')
        if table.text and table.to != "refuse":
            yield wrong("text", 'goes with to = "refuse"')
        if bool(table.username) != bool(table.password_file):
            yield wrong("username", "a name and a file with its password go together")
        elif table.password_file and not _password(table, find):
            yield wrong(
                "password_file", f'"{table.password_file}" cannot be read, or begins with an empty line'
            )
