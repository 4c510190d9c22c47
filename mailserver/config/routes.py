"""The ``[[route]]`` tables as values, and what is wrong with them beyond single keys."""

import os
import pwd
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography.x509 import load_pem_x509_certificates

from mailserver.access.networks import Networks
from mailserver.access.routes import PLACES, Identity, Pipe, Route, To
from mailserver.config.recipients import keys_of, read_recipients
from mailserver.config.shapes import File
from mailserver.model.exchanger import Login, Manner, NextHop, Security
from mailserver.model.source import Problem, Source

__all__ = ["hosted_problems", "read_roots", "read_routes", "route_problems"]

Locate = Callable[..., Source]
"""Where a key stands, by its path."""

Find = Callable[[str], Path]
"""The path that a text in the file means."""

Wrong = Callable[..., Problem]

_GOES_WITH = {
    "smarthost": "smarthost",
    "username": "smarthost",
    "lmtp": "lmtp",
    "command": "pipe",
    "user": "pipe",
    "text": "refuse",
}
"""The keys that mean something for one kind of route only."""

_SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"})
_SCRIPT_FOLLOWS = re.compile(r"-[A-Za-z]*c[A-Za-z]*")
_STRANGERS_WORDS = re.compile(r"\{(sender|recipient|user)\}")

_NOT_ACCEPTING = {"mx": ': say to = "backup"', "discard": "", "refuse": ""}

_WITHOUT_NETWORK = ("pipe", "discard", "refuse")
"""Kinds of routes that lead to no host."""


def read_routes(file: File, locate: Locate, find: Find) -> tuple[Route, ...]:
    """The routes in the order of the file."""
    return tuple(_route(table, locate("route", index), find) for index, table in enumerate(file.route))


def _route(table: Any, source: Source, find: Find) -> Route:
    networks = Networks(tuple((network, source) for network in table.networks)) if table.networks else None
    password = _password(table, find)
    accepts = _accepts(table)
    recipients, _ = _recipients(table, find) if accepts else (frozenset(), ())
    manner = Manner(
        security=Security(table.tls),
        login=Login(table.username, password) if table.username and password else None,
        lmtp=table.to == "lmtp",
        roots=read_roots(table, find),
    )
    return Route(
        to=To(table.to),
        domains=frozenset(table.domains),
        senders=frozenset(table.senders),
        networks=networks,
        users=frozenset(table.users),
        hops=(table.lmtp,) if table.lmtp else tuple(table.smarthost),
        manner=manner,
        pipe=_pipe(table) if table.command else None,
        text=table.text,
        accepts=accepts,
        recipients=recipients if _lists_recipients(table) else None,
        lifetime=table.lifetime,
        source=source,
    )


def _pipe(table: Any) -> Pipe:
    return Pipe(tuple(table.command), _identity(table.user), table.each, table.timeout, table.processes)


def _identity(name: str) -> Identity | None:
    """The user of that name; ``None`` where none is named, or there is none, which has been told."""
    try:
        user = pwd.getpwnam(name) if name else None
    except KeyError:
        return None
    return Identity(user.pw_name, user.pw_uid, user.pw_gid, user.pw_dir) if user else None


def _pipe_problems(table: Any, wrong: Wrong) -> Iterator[Problem]:
    if not table.command:
        yield wrong("command", "is missing: name a program")
        return
    for word in table.command:
        for place in re.findall(r"\{([a-z_]+)\}", word):
            if place not in PLACES:
                yield wrong("command", f'"{{{place}}}" stands for nothing: there are {", ".join(PLACES)}')
    program = table.command[0]
    if name := _name_in_script(table.command):
        text = f'a shell would run what strangers write: let the script say "$1", and put "{name}" behind it'
        yield wrong("command", text)
    if "{" in program:
        yield wrong("command", "the program itself does not depend on the message")
    elif "/" in program and not os.access(program, os.X_OK):
        yield wrong("command", f'"{program}" cannot be run now', fatal=False)
    if table.user and _identity(table.user) is None:
        yield wrong("user", f'there is no user "{table.user}" on this machine')


def _name_in_script(command: Sequence[str]) -> str:
    """What stands for a stranger's words in the script of a shell; empty if nothing does."""
    if os.path.basename(command[0]) in _SHELLS:
        for option, script in pairwise(command):
            found = _STRANGERS_WORDS.search(script)
            if found and _SCRIPT_FOLLOWS.fullmatch(option):
                return found[0]
    return ""


def _accepts(table: Any) -> bool:
    return bool(table.accept) or table.to == "backup"


def _lists_recipients(table: Any) -> bool:
    return bool(table.recipients or table.recipients_file)


def _recipients(table: Any, find: Find) -> tuple[frozenset[str], tuple[Problem, ...]]:
    """The keys of those who are listed, and what is wrong with the file that lists them."""
    found: set[str] = set()
    for text in table.recipients:
        with suppress(ValueError):  # which has been told
            found.update(keys_of(text, table.domains))
    if not table.recipients_file:
        return frozenset(found), ()
    listed, problems = read_recipients(find(table.recipients_file), table.recipients_file, table.domains)
    return listed.union(found), problems


def _password(table: Any, find: Find) -> str:
    """The first line of the file; empty where there is none, which has been told."""
    if not table.password_file:
        return ""
    try:
        return find(table.password_file).read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError):
        return ""


def read_roots(table: Any, find: Find) -> bytes:
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
        if table.to == "pipe":
            yield from _pipe_problems(table, wrong)
        yield from _secrecy_problems(table, wrong, find)
        yield from _acceptance_problems(table, wrong)
        if _accepts(table):
            yield from _recipients(table, find)[1]
    yield from _delivery_problems(file, locate, find)


def _delivery_problems(file: File, locate: Locate, find: Find) -> Iterator[Problem]:
    if file.delivery.tls == "none" and _wrapped(file.delivery.smarthost):
        yield Problem(locate("delivery", "tls"), "delivery.tls", '"none", and a smarthost is "smtps://"')
    if file.delivery.tls_roots and not read_roots(file.delivery, find):
        text = f'"{file.delivery.tls_roots}" cannot be read, or holds no certificate'
        yield Problem(locate("delivery", "tls_roots"), "delivery.tls_roots", text)


def _secrecy_problems(table: Any, wrong: Wrong, find: Find) -> Iterator[Problem]:
    if bool(table.username) != bool(table.password_file):
        yield wrong("username", "a name and a file with its password go together")
    elif table.password_file and not _password(table, find):
        yield wrong("password_file", f'"{table.password_file}" cannot be read, or begins with an empty line')
    if table.tls == "none" and _wrapped(table.smarthost):
        yield wrong("tls", '"none", and a smarthost is "smtps://"')
    if not table.tls_roots:
        return
    if not read_roots(table, find):
        yield wrong("tls_roots", f'"{table.tls_roots}" cannot be read, or holds no certificate')
    elif table.to in _WITHOUT_NETWORK or (table.lmtp and not table.lmtp.port):
        yield wrong("tls_roots", "has no effect: no TLS is spoken there", fatal=False)


def _acceptance_problems(table: Any, wrong: Wrong) -> Iterator[Problem]:
    if not _accepts(table):
        for key in ("recipients", "recipients_file", "lifetime"):
            if getattr(table, key):
                yield wrong(key, 'goes with to = "backup" or accept = true')
        return
    if table.to in _NOT_ACCEPTING:
        yield wrong("accept", f'does not go with to = "{table.to}"' + _NOT_ACCEPTING[table.to])
    if not table.domains or any(name.startswith(".") for name in table.domains):
        yield wrong("domains", "mail is taken for listed domains only: name each")
    for key in filter(table.__getattribute__, ("senders", "networks", "users")):
        yield wrong(key, "does not go with a route for which mail is taken from anybody")
    yield from _listing_problems(table, wrong)


def _listing_problems(table: Any, wrong: Wrong) -> Iterator[Problem]:
    for text in table.recipients:
        try:
            list(keys_of(text, table.domains))
        except ValueError as error:
            yield wrong("recipients", str(error))
    if not _lists_recipients(table):
        text = "nobody is listed: mail for whom the next host does not know is taken, and sent back"
        yield wrong("recipients", text, fatal=False)


def hosted_problems(routes: Sequence[Route], hosted: Collection[str]) -> Iterator[Problem]:
    """Routes for a domain hosted here that lead nowhere, or take mail for whoever may not live here."""
    for route in routes:
        for domain in sorted(route.domains.intersection(hosted)):
            if route.accepts:
                text = f"{domain} is hosted here: who exists there, its users and aliases say"
                yield Problem(route.source, "route.domains", text)
            elif route.to is To.MX:
                text = f"{domain} is hosted here: the route is not taken, its mail hosts are us"
                yield Problem(route.source, "route.domains", text, fatal=False)


def _wrapped(hops: list[NextHop]) -> bool:
    return any(hop.wrapped for hop in hops)
