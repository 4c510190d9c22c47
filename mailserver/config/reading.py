"""Reading the configuration: ``mailserver.toml``, the files it names, and ``domains/``.

All that is wrong is told at once, each with its file, line and key, as
``mailserver.toml:17: relay.networks[2]: "192.168.0.0/33" is not a network``. Files are called by their path
from the configuration's directory. Reading blocks; it changes nothing.
"""

import os
import tomllib
from collections.abc import Iterator
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from attrs import evolve

from mailserver.access.profiles import anywhere
from mailserver.config.certificates import read_certificates
from mailserver.config.networks import network_problems, read_profiles, read_rates
from mailserver.config.routes import hosted_problems, read_roots, read_routes, route_problems
from mailserver.config.shapes import File
from mailserver.config.values import (
    DNS,
    POP3,
    TLS,
    Config,
    Delivery,
    Forwarding,
    Limits,
    Listen,
    Login,
    Mailboxes,
    Networks,
    Proxy,
    Relay,
    Submission,
)
from mailserver.domains.domain import NO_DOMAINS
from mailserver.domains.positions import Positions
from mailserver.domains.textfile import read_text
from mailserver.domains.tomlfile import read_toml
from mailserver.domains.tree import load_tree
from mailserver.model.exchanger import Security
from mailserver.model.retry import Schedule
from mailserver.model.source import Problem, Source
from mailserver.net.proxy import PREFIX
from mailserver.net.tls import Version

__all__ = ["ConfigErrors", "find_config", "load", "load_server"]

_PLACES = (Path("etc/mailserver.toml"), Path("/etc/mailserver/mailserver.toml"))


class ConfigErrors(Exception):
    """The configuration is not to be used.

    :ivar problems: all that is wrong with it, warnings included; at least one is fatal.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def find_config(option: str | None) -> Path:
    """The file that ``--config`` names, else the first that exists of the usual places.

    :raises ConfigErrors: there is none.
    """
    places = (Path(option),) if option else _PLACES
    for place in places:
        if place.is_file():
            return place
    if option:
        raise ConfigErrors((Problem(Source(option), "", "no such file"),))
    where = " nor ".join(str(place) for place in places)
    raise ConfigErrors((Problem(Source("mailserver.toml"), "", f"found neither at {where}: use --config"),))


def load(path: Path) -> Config:
    """Read the whole configuration.

    :raises ConfigErrors: anything in it is wrong, in whatever file.
    """
    config, problems, directory = _read(path)
    tree, found = load_tree(directory, _shown(directory, path)) if directory else (NO_DOMAINS, ())
    problems = (*problems, *found)
    if config is not None:
        tls, found = read_certificates(config.tls, config.hostname, partial(_shown, path=path))
        led_astray = hosted_problems(config.delivery.routes, tree.domains)
        config, problems = evolve(config, tls=tls), (*problems, *found, *led_astray)
    if config is None or any(problem.fatal for problem in problems):
        raise ConfigErrors(problems)
    return evolve(config, tree=tree, problems=problems)


def load_server(path: Path) -> Config:
    """Read ``mailserver.toml`` alone, for tools that mend what is wrong in ``domains/``.

    :raises ConfigErrors: anything in that file is wrong.
    """
    config, problems, _ = _read(path)
    if config is None or any(problem.fatal for problem in problems):
        raise ConfigErrors(problems)
    return evolve(config, problems=problems)


def _read(path: Path) -> tuple[Config | None, tuple[Problem, ...], Path | None]:
    """The configuration without the domains, what is wrong with it, and where the domains are.

    Where the file is wrong its domains are looked at all the same if it can be told where they are, so
    that their problems are told with its own.
    """
    text, problems = read_text(path, path.name)
    if text is None:
        return None, problems, None
    file, problems, positions = read_toml(text, path.name, File)
    base = path.parent.resolve()
    if file is None:
        return None, problems, _guess_domains(text, base)
    reading = _Reading(path, base, file, positions)
    return reading.config(), tuple(reading.problems()), reading.path(file.domains)


def _guess_domains(text: str, base: Path) -> Path | None:
    try:
        named = tomllib.loads(text).get("domains", "domains")
    except tomllib.TOMLDecodeError:
        return None
    return Path(os.path.normpath(base / named)) if isinstance(named, str) else None


def _shown(directory: Path, path: Path) -> str:
    base = path.parent.resolve()
    return str(directory.relative_to(base)) if directory.is_relative_to(base) else str(directory)


class _Reading:
    """One file's shape being turned into values."""

    def __init__(self, path: Path, base: Path, file: File, positions: Positions) -> None:
        self._path = path
        self._base = base
        self._file = file
        self._positions = positions

    def path(self, text: str) -> Path:
        """A path in the file, from the file's directory."""
        return Path(os.path.normpath(self._base / text))

    def config(self) -> Config:
        """The values."""
        file = self._file
        delivery = file.delivery
        tls = file.tls
        relay = Relay(self._networks(file.relay.networks, "relay", "networks"))
        return Config(
            file=self._path,
            hostname=file.hostname,
            state=self.path(file.state),
            domains=self.path(file.domains),
            workers=file.workers,
            listen=tuple(
                Listen(listen.service, listen.endpoint, self._source("listen", index))
                for index, listen in enumerate(file.listen)
            ),
            relay=relay,
            profiles=(*read_profiles(file, self._source), *anywhere(relay.networks)),
            rates=read_rates(file, self._source),
            greeting_delay=file.smtp.greeting_delay,
            login=self._login(),
            tls=TLS(
                pair=(self.path(tls.certificate), self.path(tls.key)) if tls.certificate else None,
                directory=self.path(tls.directory),
                minimum=Version(tls.minimum),
            ),
            proxy=Proxy(self._networks(file.proxy.networks, "proxy", "networks")),
            dns=DNS(tuple(file.dns.servers), file.dns.timeout, file.dns.validating),
            delivery=Delivery(
                port=delivery.port,
                schedule=Schedule(tuple(delivery.retry), delivery.lifetime, delivery.warn_after),
                smarthost=tuple(delivery.smarthost),
                loopback=delivery.loopback,
                connect_timeout=delivery.connect_timeout,
                greeting_timeout=delivery.greeting_timeout,
                history=delivery.history,
                security=Security(delivery.tls),
                dane=delivery.dane,
                mta_sts=delivery.mta_sts,
                mta_sts_port=delivery.mta_sts_port,
                roots=read_roots(delivery, self.path),
                routes=read_routes(file, self._source, self.path),
                own_names=tuple(delivery.own_names),
            ),
            forwarding=Forwarding(file.forwarding.srs),
            mailboxes=Mailboxes(
                quota_warnings=tuple(sorted(set(file.mailboxes.quota_warnings))),
                keep_deleted=ceil(file.mailboxes.keep_deleted / 86400),
            ),
            pop3=POP3(file.pop3.login_delay),
            limits=Limits(
                file.limits.message_size,
                file.limits.recipients,
                file.limits.unknown_recipients,
                file.limits.connections,
                file.limits.connections_per_address,
                file.limits.disk_reserve,
            ),
            submission=Submission(file.submission.hide_client),
            tree=NO_DOMAINS,
            problems=(),
        )

    def _login(self) -> Login:
        login = self._file.login
        return Login(
            self._networks(login.plaintext_networks, "login", "plaintext_networks"),
            login.failures,
            login.lockout,
            self._networks(login.exempt_networks, "login", "exempt_networks"),
            login.remember,
        )

    def problems(self) -> Iterator[Problem]:
        """What is wrong though every key by itself is right, and what is unwise."""
        yield from self._tls_problems()
        yield from self._listen_problems()
        yield from network_problems(self._file, self._source)
        yield from route_problems(self._file, self._source, self.path)
        if self._file.limits.recipients < 100:
            yield self._warn("RFC 5321 §4.5.3.1.8 asks for at least 100", "limits", "recipients")
        if self._file.limits.message_size < 64 * 1024:
            yield self._warn("RFC 5321 §4.5.3.1.7 asks for at least 64KB", "limits", "message_size")

    def _tls_problems(self) -> Iterator[Problem]:
        pair = {"certificate": self._file.tls.certificate, "key": self._file.tls.key}
        if not any(pair.values()):
            return
        for name, value in pair.items():
            source = self._source("tls", name)
            if not value:
                yield Problem(source, f"tls.{name}", "is missing: a certificate and its key go together")
            elif not self.path(value).is_file():
                yield Problem(source, f"tls.{name}", f'"{value}": no such file')
            elif not os.access(self.path(value), os.R_OK):
                yield Problem(source, f"tls.{name}", f'"{value}" cannot be read')

    def _listen_problems(self) -> Iterator[Problem]:
        if not self._file.listen:
            yield self._warn("nothing is listened on: add a [[listen]] table", "listen")
        if not self._file.proxy.networks and any(it.endpoint.startswith(PREFIX) for it in self._file.listen):
            yield self._warn("is empty: nobody can connect to the haproxy: listeners", "proxy", "networks")
        seen: dict[str, int] = {}
        for index, listen in enumerate(self._file.listen):
            plain = listen.endpoint.removeprefix(PREFIX)
            any_port = plain.startswith(("tcp:0", "tcp6:0", "tcp:port=0", "tcp6:port=0"))
            if listen.endpoint in seen and not any_port:
                line = self._source("listen", seen[listen.endpoint], "endpoint").line
                text = f'"{listen.endpoint}" is listened on by line {line} already'
                yield Problem(self._source("listen", index, "endpoint"), f"listen[{index}].endpoint", text)
            seen.setdefault(listen.endpoint, index)

    def _networks(self, networks: list[Any], *key: str) -> Networks:
        return tuple((network, self._source(*key, index)) for index, network in enumerate(networks))

    def _source(self, *key: str | int) -> Source:
        return Source(self._path.name, self._positions.line(key))

    def _warn(self, text: str, *key: str) -> Problem:
        return Problem(self._source(*key), ".".join(key), text, fatal=False)
