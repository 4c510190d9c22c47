"""The ``[[route]]`` tables as values, and what is wrong with them beyond single keys."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography.x509 import load_pem_x509_certificates

from mailserver.access.networks import Networks
from mailserver.access.routes import Route, To
from mailserver.config.shapes import File
from mailserver.model.exchanger import Login, Manner, NextHop, Security
from mailserver.model.source import Problem, Source

__all__ = ["hosted_problems", "read_routes", "route_problems"]

Locate = Callable[..., Source]
"""Where a key stands, by its path."""

Find = Callable[[str], Path]
"""The path that a text in the file means."""

Wrong = Callable[..., Problem]

_GOES_WITH = {
    "smarthost": "smarthost",
    "username": "smarthost",
    "lmtp": "lmtp",
    "text": "refuse",
}
"""The keys that mean something for one kind of route only."""


def read_routes(file: File, locate: Locate, find: Find) -> tuple[Route, ...]:
    """The routes in the order of the file."""
    return tuple(_route(table, locate("route", index), find) for index, table in enumerate(file.route))


def _route(table: Any, source: Source, find: Find) -> Route:
    networks = Networks(tuple((network, source) for network in table.networks)) if table.networks else None
    password = _password(table, find)
    manner = Manner(
        security=Security(table.tls),
        login=Login(table.username, password) if table.username and password else None,
        lmtp=table.to == "lmtp",
        roots=_roots(table, find),
    )
    return Route(
        to=To(table.to),
        domains=frozenset(table.domains),
        senders=frozenset(table.senders),
        networks=networks,
        users=frozenset(table.users),
        hops=(table.lmtp,) if table.lmtp else tuple(table.smarthost),
        manner=manner,
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


def _roots(table: Any, find: Find) -> bytes:
    """The certificates in the file; empty where there are none, which has been told."""
    if not table.tls_roots:
        return b""
    try:
        pem = find(table.tls_roots).read_bytes()
        return pem if load_pem_x509_certificates(pem) else b""
    except (OSError, ValueError):
        return b""


def route_problems(file: File, locate: Locate, find: Find) -> Iterator[Problem]:
    """What is wrong though every key by itself is right."""
    for index, table in enumerate(file.route):

        def wrong(key: str, text: str, fatal: bool = True, index: int = index) -> Problem:
            return Problem(locate("route", index, key), f"route[{index}].{key}", text, fatal)

        for key, kind in _GOES_WITH.items():
            if getattr(table, key) and table.to != kind:
                yield wrong(key, f'goes with to = "{kind}"')
        for key in ("smarthost", "lmtp"):
            if table.to == key and not getattr(table, key):
                yield wrong(key, "is missing: name a host")
        yield from _secrecy_problems(table, wrong, find)
    if file.delivery.tls == "none" and _wrapped(file.delivery.smarthost):
        yield Problem(locate("delivery", "tls"), "delivery.tls", '"none", and a smarthost is "smtps://"')


def _secrecy_problems(table: Any, wrong: Wrong, find: Find) -> Iterator[Problem]:
    if bool(table.username) != bool(table.password_file):
        yield wrong("username", "a name and a file with its password go together")
    elif table.password_file and not _password(table, find):
        yield wrong("password_file", f'"{table.password_file}" cannot be read, or begins with an empty line')
    if table.tls == "none" and _wrapped(table.smarthost):
        yield wrong("tls", '"none", and a smarthost is "smtps://"')
    if not table.tls_roots:
        return
    if not _roots(table, find):
        yield wrong("tls_roots", f'"{table.tls_roots}" cannot be read, or holds no certificate')
    elif table.tls != "verify" and not table.username:
        yield wrong("tls_roots", 'has no effect without tls = "verify" or a login', fatal=False)


def hosted_problems(routes: Sequence[Route], hosted: Collection[str]) -> Iterator[Problem]:
    """Routes for a domain hosted here that lead nowhere."""
    for route in routes:
        for domain in sorted(route.domains.intersection(hosted)) if route.to is To.MX else ():
            text = f"{domain} is hosted here: the route is not taken, its mail hosts are us"
            yield Problem(route.source, "route.domains", text, fatal=False)


def _wrapped(hops: list[NextHop]) -> bool:
    return any(hop.wrapped for hop in hops)
