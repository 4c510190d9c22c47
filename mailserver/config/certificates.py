"""The certificates that ``[tls]`` names, read; and what is wrong with them, or soon will be.

The server and ``mailctl check`` read them in the same way, so the one cannot be surprised by what the other
found in order.
"""

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from attrs import evolve

from mailserver.config.values import TLS
from mailserver.domains.naming import parse_domain
from mailserver.model.source import Problem, Source
from mailserver.net.certificates import BadCertificate, Credentials, fits, read_directory, read_pair, warnings

__all__ = ["read_certificates"]

_CERTBOTS_NUMBER = re.compile(r"-\d{4}$")


def read_certificates(
    tls: TLS, hostname: str, shown: Callable[[Path], str], now: datetime | None = None
) -> tuple[TLS, tuple[Problem, ...]]:
    """``tls`` with the certificates themselves, and the problems.

    :param shown: how a file is called when it is spoken of.
    """
    now = now or datetime.now(UTC)
    default: Credentials | None = None
    bad: list[BadCertificate] = []
    # Files that cannot be read have been told, with the lines that name them.
    if tls.pair is not None and all(os.access(path, os.R_OK) for path in tls.pair):
        try:
            default = read_pair(*tls.pair)
        except BadCertificate as error:
            bad.append(error)
    named, worse = read_directory(tls.directory)
    problems = [Problem(Source(shown(error.file)), "", error.text) for error in (*bad, *worse)]
    worries = [*_worries(default, hostname, now)]
    for credentials in named:
        worries += _worries(credentials, _expected(credentials.name), now)
    if tls.pair is None:
        default = next((it for it in named if hostname == it.name or fits(it, hostname)), None)
        if named and default is None:
            text = f"none of these is for {hostname}: who asks for no other name gets a self-signed one"
            problems.append(Problem(Source(shown(tls.directory)), "", text, fatal=False))
    problems += [Problem(Source(shown(file)), "", text, fatal=False) for file, text in worries]
    return evolve(tls, default=default, named=named), tuple(problems)


def _worries(credentials: Credentials | None, name: str, now: datetime) -> Iterator[tuple[Path, str]]:
    if credentials is not None:
        for text in warnings(credentials, name, now):
            yield credentials.file, text


def _expected(name: str) -> str:
    """The host name that a directory is called by; empty where it is called something else."""
    plain = _CERTBOTS_NUMBER.sub("", name)
    try:
        return parse_domain(plain) if "." in plain else ""
    except ValueError:
        return ""
