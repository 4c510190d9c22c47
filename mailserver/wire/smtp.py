"""The SMTP command grammar (RFC 5321 §4.1, §4.1.1.11; RFC 6531, 1870, 3030, 6152, 3461, 4954, 8689).

Commands come as lines without their CRLF, from :class:`mailserver.wire.lines.Lines`; values come out.
Whatever is wrong raises :class:`BadSyntax`, and nothing else is ever raised, in time linear in the line.
Addresses and replies have modules of their own; their names are here, too. The latest arguments of MAIL and
RCPT are remembered, some hundreds of each, with what they mean: the same people are named again and again.

Where the RFC is stricter than clients are, this is taken: blanks between ``FROM:`` or ``TO:`` and the path,
more than one blank between parameters, and blanks at the end of the line. Angle brackets are insisted on:
without them it is anybody's guess where the address ends.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import MappingProxyType

from attrs import frozen

from mailserver.model.address import NULL_SENDER, Address
from mailserver.wire.addresses import (
    parse_address,
    parse_domain,
    parse_forward_path,
    parse_reverse_path,
)
from mailserver.wire.replies import ReplyReader, enhanced_status, parse_extensions, spell_reply
from mailserver.wire.syntax import BadParameter, BadSyntax, UnknownParameter
from mailserver.wire.xtext import from_unitext, from_xtext

__all__ = [
    "BadParameter",
    "BadSyntax",
    "Chunk",
    "MailParameters",
    "RcptParameters",
    "ReplyReader",
    "UnknownParameter",
    "enhanced_status",
    "mail_parameters",
    "mend_helo",
    "parse_address",
    "parse_bdat",
    "parse_domain",
    "parse_extensions",
    "parse_helo",
    "parse_mail",
    "parse_rcpt",
    "rcpt_parameters",
    "spell_reply",
    "split_command",
]

# Up to the first ">" outside quotes; behind it nothing, or parameters.
_PATH = rb'(<(?:[^"<>\\\x00-\x20\x7f]++|"(?:[^"\\\x00-\x1f\x7f]++|\\[\x20-\x7e])*")*>)(?: (.*+))?'
_FROM = re.compile(rb"(?i:FROM:) *+" + _PATH, re.DOTALL)
_TO = re.compile(rb"(?i:TO:) *+" + _PATH, re.DOTALL)
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*+")
_VALUE = re.compile(r"[^\x00-\x20=\x7f-\x9f\u2028\u2029]++")
_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870 §4
_CHUNK_SIZE = re.compile(rb"[0-9]{1,20}")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*/?^_`{|}~.-]++")  # an atom, but for + and = (RFC 3461 §4.2)

_REMEMBERED = 500
_LONGEST_HELO = 255
_NOT_IN_HELO = re.compile(r"[^\x21-\x7e]")
_LONGEST_ENVID = 100  # RFC 3461 §4.4
_LONGEST_ORCPT = 500  # RFC 3461 §4.2
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})


@frozen
class MailParameters:
    """What the parameters of MAIL say.

    :ivar size: the octets announced; ``None`` if they were not (RFC 1870).
    :ivar body: ``7BIT`` or ``8BITMIME`` (RFC 6152).
    :ivar smtputf8: whether it was asked for (RFC 6531 §3.4).
    :ivar ret: ``FULL``, ``HDRS`` or empty (RFC 3461 §4.3).
    :ivar envid: decoded; empty if none (RFC 3461 §4.4).
    :ivar auth: who submitted the message, the null sender for ``<>``; ``None`` if not said (RFC 4954 §5).
    :ivar requiretls: whether it was asked for (RFC 8689 §2).
    """

    size: int | None = None
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    auth: Address | None = None
    requiretls: bool = False


@frozen
class RcptParameters:
    """What the parameters of RCPT say, as :class:`mailserver.model.envelope.Recipient` keeps it.

    :ivar notify: the NOTIFY words in upper case; ``None`` if there were none (RFC 3461 §4.1).
    :ivar original: the ORCPT, ``type;decoded address``; empty if none (RFC 3461 §4.2).
    """

    notify: frozenset[str] | None = None
    original: str = ""


@frozen
class Chunk:
    """What BDAT announces.

    :ivar size: the octets that follow.
    :ivar last: the message ends with them.
    :ivar valid: nothing else was said.
    """

    size: int
    last: bool
    valid: bool = True


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """The verb in upper case and its argument; ``(b"", line)`` where the line begins with no verb."""
    verb, _, argument = line.partition(b" ")
    if not verb.isalpha():
        return b"", line
    return verb.upper(), argument.strip(b" \t")


def parse_helo(argument: bytes) -> str:
    """The name in EHLO or HELO, for Received and the journal.

    Devices call themselves all sorts of things, which proves nothing: anything printable without blanks,
    in UTF-8, of up to 255 octets is taken.
    """
    try:
        name = argument.decode()
    except UnicodeDecodeError:
        raise BadSyntax("HELO name not in UTF-8") from None
    if not name or len(argument) > _LONGEST_HELO or " " in name or not name.isprintable():
        raise BadSyntax("not a HELO name")
    return name


def mend_helo(argument: bytes) -> str:
    """A name out of what a device says that is no name at all."""
    return _NOT_IN_HELO.sub("-", argument[:_LONGEST_HELO].decode("ascii", "replace")) or "unknown"


@lru_cache(_REMEMBERED)
def parse_mail(argument: bytes) -> tuple[Address, Mapping[str, str]]:
    """The sender and the parameters of ``FROM:<path> …``: keyword in upper case → value, or ``""``."""
    path, parameters = _split_path(argument, _FROM)
    return parse_reverse_path(path), _split_parameters(parameters)


@lru_cache(_REMEMBERED)
def parse_rcpt(argument: bytes) -> tuple[Address, Mapping[str, str]]:
    """The recipient and the parameters of ``TO:<path> …``, as in :func:`parse_mail`."""
    path, parameters = _split_path(argument, _TO)
    return parse_forward_path(path), _split_parameters(parameters)


def mail_parameters(raw: Mapping[str, str], known: frozenset[str]) -> MailParameters:
    """What the parameters of MAIL mean.

    :param known: the keywords that are allowed now, of SIZE BODY SMTPUTF8 RET ENVID AUTH REQUIRETLS.
    :raises UnknownParameter: for any other (555).
    :raises BadParameter: for a bad value (501).
    """
    _refuse_unknown(raw, known)
    with _blaming_parameters():
        return MailParameters(
            size=_size(raw["SIZE"]) if "SIZE" in raw else None,
            body=_word(raw, "BODY", ("7BIT", "8BITMIME")) or "7BIT",
            smtputf8=_flag(raw, "SMTPUTF8"),
            ret=_word(raw, "RET", ("FULL", "HDRS")),
            envid=_envid(raw["ENVID"]) if "ENVID" in raw else "",
            auth=_submitter(raw["AUTH"]) if "AUTH" in raw else None,
            requiretls=_flag(raw, "REQUIRETLS"),
        )


def rcpt_parameters(raw: Mapping[str, str], known: frozenset[str]) -> RcptParameters:
    """What the parameters of RCPT mean; ``known`` may hold NOTIFY and ORCPT. Raises as above."""
    _refuse_unknown(raw, known)
    with _blaming_parameters():
        return RcptParameters(
            notify=_notify(raw["NOTIFY"]) if "NOTIFY" in raw else None,
            original=_original(raw["ORCPT"]) if "ORCPT" in raw else "",
        )


def parse_bdat(argument: bytes) -> Chunk:
    """The argument of BDAT (RFC 3030 §2).

    Raises :class:`BadSyntax` only where it cannot be told how many octets follow; other faults are said of
    the chunk, for its octets must be read all the same.
    """
    size, _, word = argument.partition(b" ")
    if not _CHUNK_SIZE.fullmatch(size):
        raise BadSyntax("no chunk size")
    word = word.strip(b" ").upper()
    return Chunk(int(size), word == b"LAST", word in (b"", b"LAST"))


def _split_path(argument: bytes, pattern: re.Pattern[bytes]) -> tuple[str, str]:
    match = pattern.fullmatch(argument)
    if not match:
        raise BadSyntax("no path between angle brackets")
    path, parameters = match.groups()
    return _decode(path, BadSyntax), _decode(parameters, BadParameter) if parameters else ""


def _decode(octets: bytes, otherwise: type[BadSyntax]) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise otherwise("not in UTF-8") from None


def _split_parameters(text: str) -> Mapping[str, str]:
    parameters: dict[str, str] = {}
    for word in text.split(" "):
        if not word:
            continue
        keyword, equals, value = word.partition("=")
        if not _KEYWORD.fullmatch(keyword) or (equals and not _VALUE.fullmatch(value)):
            raise BadParameter("bad parameter")
        keyword = keyword.upper()
        if keyword in parameters:
            raise BadParameter("parameter given twice")
        parameters[keyword] = value
    return MappingProxyType(parameters)  # many are given the same


@contextmanager
def _blaming_parameters() -> Iterator[None]:
    try:
        yield
    except BadSyntax as bad:
        raise BadParameter(str(bad)) from None


def _refuse_unknown(raw: Mapping[str, str], known: frozenset[str]) -> None:
    if not known.issuperset(raw):
        raise UnknownParameter("parameter not offered")


def _size(value: str) -> int:
    if not _SIZE.fullmatch(value):
        raise BadSyntax("SIZE is not a number")
    return int(value)


def _word(raw: Mapping[str, str], keyword: str, words: tuple[str, ...]) -> str:
    """The value of a keyword, one of ``words``; empty where it is not given."""
    if keyword not in raw:
        return ""
    if (value := raw[keyword].upper()) not in words:
        raise BadSyntax(f"{keyword} is none of {', '.join(words)}")
    return value


def _flag(raw: Mapping[str, str], keyword: str) -> bool:
    if raw.get(keyword):
        raise BadSyntax(f"{keyword} takes no value")
    return keyword in raw


def _envid(value: str) -> str:
    if not 0 < len(value) <= _LONGEST_ENVID:
        raise BadSyntax("ENVID empty or too long")
    return from_xtext(value)


def _submitter(value: str) -> Address:
    mailbox = from_xtext(value)
    return NULL_SENDER if mailbox == "<>" else parse_address(mailbox)


def _notify(value: str) -> frozenset[str]:
    words = value.upper().split(",")
    notify = frozenset(words)
    if len(notify) != len(words) or not (notify == {"NEVER"} or notify <= _NOTIFY):
        raise BadSyntax("NOTIFY is neither NEVER nor a list of SUCCESS, FAILURE, DELAY")
    return notify


def _original(value: str) -> str:
    kind, _, encoded = value.partition(";")
    if len(value) > _LONGEST_ORCPT or not encoded or not _ADDRESS_TYPE.fullmatch(kind):
        raise BadSyntax("ORCPT is not type;address, or too long")
    decode = from_unitext if kind.lower() == "utf-8" else from_xtext
    return f"{kind};{decode(encoded)}"
