"""MTA-STS, what a domain publishes about the TLS of its mail hosts: the record and the policy (RFC 8461 §3).

Both are read as strictly as their grammar says, and no more: fields that nobody here knows are passed over,
and so are all but the first of fields that may stand once. What does not fit is :class:`BadSyntax`, which
means for the record that the domain has no policy, and for the policy that it could not be fetched.
"""

import re
from collections.abc import Collection
from enum import Enum

from attrs import frozen

from mailserver.wire.syntax import BadSyntax

__all__ = ["LONGEST_AGE", "Mode", "Policy", "parse_policy", "parse_record"]

LONGEST_AGE = 31_557_600
"""A year, in seconds: for no longer is a policy kept (RFC 8461 §3.2)."""

_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_AGE = re.compile(r"[0-9]{1,10}")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*")


class Mode(Enum):
    """How a policy is meant."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@frozen
class Policy:
    """A policy.

    :ivar mx: the names of mail hosts, in lower case, some with ``*.`` for one label.
    :ivar max_age: for how long it may be kept, in seconds.
    """

    mode: Mode
    max_age: int
    mx: tuple[str, ...] = ()

    def names(self, host: str) -> bool:
        """Whether this is a mail host of the domain (RFC 8461 §4.1); ``host`` in lower case."""
        return host in self.mx or f"*.{host.partition('.')[2]}" in self.mx


def parse_record(texts: Collection[bytes]) -> str:
    """The id in the TXT records below ``_mta-sts`` (RFC 8461 §3.1). Raises :class:`BadSyntax`."""
    records = [text for text in texts if text.startswith(b"v=STSv1;")]
    if len(records) != 1:
        raise BadSyntax(f"{len(records)} records of MTA-STS")
    for field in records[0].decode("utf-8", "replace").split(";")[1:]:
        name, _, value = field.strip(" \t").partition("=")
        if name == "id":
            if not _ID.fullmatch(value):
                raise BadSyntax("the id is not 1 to 32 letters and digits")
            return value
    raise BadSyntax("no id")


def parse_policy(text: bytes) -> Policy:
    """The policy in a file (RFC 8461 §3.2). Raises :class:`BadSyntax`."""
    fields: dict[str, str] = {}
    mx: list[str] = []
    for line in text.decode("utf-8", "replace").replace("\r\n", "\n").split("\n"):
        name, colon, value = line.partition(":")
        name, value = name.rstrip(" \t"), value.strip(" \t")
        if not (colon and _NAME.fullmatch(name)):
            if line.strip(" \t"):
                raise BadSyntax("a line that is no field")
        elif name == "mx":
            mx.append(_parse_host(value))
        else:
            fields.setdefault(name, value)
    return _policy(fields, tuple(mx))


def _policy(fields: dict[str, str], mx: tuple[str, ...]) -> Policy:
    if fields.get("version") != "STSv1":
        raise BadSyntax("not of version STSv1")
    try:
        mode = Mode(fields.get("mode"))
    except ValueError:
        raise BadSyntax("the mode is not one of enforce, testing and none") from None
    age = fields.get("max_age", "")
    if not _AGE.fullmatch(age):
        raise BadSyntax("max_age is no number of seconds")
    if not mx and mode is not Mode.NONE:
        raise BadSyntax("names no mx")
    return Policy(mode, min(int(age), LONGEST_AGE), mx)


def _parse_host(text: str) -> str:
    host = text.lower()
    if not _HOST.fullmatch(host):
        raise BadSyntax("an mx that is no name of a host")
    return host
