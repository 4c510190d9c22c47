"""Reports about mail: multipart/report with three parts (RFC 3464, RFC 6522, RFC 3461 §6, RFC 3834).

:func:`make_report` spells a report as content in wire form: CRLF, not dot-stuffed. It is a pure function;
who is owed a report, and that it is stored, is :mod:`mailserver.delivery.bounce`'s matter.

1. ``text/plain`` for a person: :mod:`mailserver.wire.letter`.
2. ``message/delivery-status`` for programs: one group of fields for each recipient.
3. The original: ``message/rfc822`` whole, or its header as ``text/rfc822-headers``.

Where the message came with SMTPUTF8 and there is something beyond ASCII to tell, the last two are what
RFC 6533 has for them: ``message/global-delivery-status``, and ``message/global`` or
``message/global-headers``, all in UTF-8. They stand in the body, so the report needs SMTPUTF8 only where its
receiver's address does.

Promises: everything else but a whole 8-bit original is 7-bit, so that any host can take it. What strangers
wrote (addresses, replies, host names) is bounded and printable wherever it stands in a field, in ASCII but
for the UTF-8 addresses of RFC 6533, so that nobody can add a field or a part of their own. Any octets are
taken as an original; one that cannot travel whole (a line over 998 octets, a header that is neither ASCII nor
such UTF-8) is returned as its header.
"""

import binascii
import re
from collections.abc import Iterable, Sequence

from attrs import frozen

from mailserver.model.envelope import Envelope, QueueID, Recipient
from mailserver.model.outcome import Delivered
from mailserver.wire.letter import Kind, Told, letter, spelled_reply, visible
from mailserver.wire.trace import date, header_end, message_id

__all__ = ["Kind", "Original", "Reporter", "Told", "header_part", "make_report"]

_LONGEST_LINE = 998  # RFC 5322 §2.1.1
_LONGEST_FIELD = 700
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]{1,40}")
_MESSAGE_ID = re.compile(rb"^message-id:[ \t]*(?:\r\n[ \t]+)?(<[!-;=?-~]{3,250}>)[ \t]*\r?$", re.I | re.M)
_SUBJECT = re.compile(rb"^subject:[ \t]*([!-~][ -~]{0,200})\r?$", re.I | re.M)
_STATUS_TYPE = {
    False: b"\r\nContent-Type: message/delivery-status\r\n\r\n",
    True: b"\r\nContent-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
}
_DEFAULT_STATUS = {"failed": "5.0.0", "delayed": "4.0.0"}


@frozen
class Original:
    """What is returned of the message that the report is about.

    :ivar content: the message, or as much of its beginning as is at hand.
    :ivar whole: whether that is all of it and is to be returned as such.
    """

    content: bytes
    whole: bool = False


@frozen
class Reporter:
    """Who reports, and when.

    :ivar hostname: this server's name.
    :ivar id: the queue ID of the report itself; it makes the Message-ID and the boundaries.
    :ivar now: the time of the report, in seconds since 1970.
    """

    hostname: str
    id: QueueID
    now: float


def make_report(
    kind: Kind, envelope: Envelope, told: Sequence[Told], original: Original, reporter: Reporter
) -> bytes:
    """Spell the report about a message to its sender.

    :param envelope: of the message that is reported about; its sender gets the report.
    :param told: what became of whom; not empty.
    :returns: header and body; 7-bit unless a whole 8-bit original is in it.
    """
    header = header_part(original.content)
    utf8 = envelope.smtputf8 and _is_beyond_ascii(told, header)
    returned, encoding = _returned(original, header, utf8)
    text, text_encoding = _text(letter(kind, envelope, told, reporter.hostname, _subject(header)))
    boundary = _boundary(reporter.id, returned)
    delimiter = b"\r\n--" + boundary
    head = _head(kind, envelope, told, header, reporter)
    head.append(b"Content-Type: multipart/report; report-type=delivery-status;")
    head.append(b' boundary="' + boundary + b'"')
    head.append(b"Content-Transfer-Encoding: " + (b"8bit" if utf8 or encoding == b"8bit" else b"7bit"))
    parts = [
        b"\r\n".join(head),
        b"\r\n\r\nThis is a report in MIME format (RFC 3464).\r\n",
        *(delimiter, b"\r\nContent-Description: Notification", text_encoding, text),
        *(delimiter, b"\r\nContent-Description: Delivery report"),
        *(_STATUS_TYPE[utf8], _status(envelope, told, reporter, utf8)),
        *(delimiter, returned, delimiter, b"--\r\n"),
    ]
    return b"".join(parts)


def header_part(content: bytes) -> bytes:
    """The header at the beginning of content in wire form, without the empty line; whole lines only."""
    end = header_end(content)
    if end >= 0:
        return content[: end - 2]
    return content[: content.rfind(b"\r\n") + 2] if b"\r\n" in content else b""


def _head(
    kind: Kind, envelope: Envelope, told: Sequence[Told], header: bytes, reporter: Reporter
) -> list[bytes]:
    """The report's own header fields, up to the MIME ones."""
    host = _printable(reporter.hostname)
    lines = [
        f"From: MAILER-DAEMON <postmaster@{host}>",
        # A sender that is not ASCII gets its report by SMTPUTF8, which allows it here (RFC 6532).
        f"To: <{visible(str(envelope.sender)) or f'postmaster@{host}'}>",
        f"Subject: {_title(kind, told)}",
        f"Date: {date(reporter.now)}",
        f"Message-ID: {message_id(reporter.id, host)}",
    ]
    if found := _MESSAGE_ID.search(header):
        answered = found[1].decode("ascii")
        lines += [f"In-Reply-To: {answered}", f"References: {answered}"]
    # RFC 3834 §5: so that no vacation program answers it.
    lines += ["Auto-Submitted: auto-replied", "MIME-Version: 1.0"]
    return [line.encode("utf-8", "replace") for line in lines]


def _title(kind: Kind, told: Sequence[Told]) -> str:
    what = {Kind.FAILED: "Not delivered", Kind.DELAYED: "Not delivered yet", Kind.DELIVERED: "Delivered"}[
        kind
    ]
    address = str(told[0].recipient.address)
    whom = f"your mail to {address}" if address.isascii() and len(address) <= 60 else "your mail"
    others = f" and {len(told) - 1} more" if len(told) > 1 and whom != "your mail" else ""
    return _printable(f"{what}: {whom}{others}")


def _is_beyond_ascii(told: Sequence[Told], header: bytes) -> bool:
    """Whether there is something to tell that ASCII cannot."""
    addresses = all(one.recipient.address.is_ascii and one.recipient.original.isascii() for one in told)
    return not addresses or (not header.isascii() and _is_utf8(header))


def _status(envelope: Envelope, told: Sequence[Told], reporter: Reporter, utf8: bool) -> bytes:
    """The fields of the machine-readable part (RFC 3464 §2.2, §2.3)."""
    lines = [f"Reporting-MTA: dns; {_printable(reporter.hostname)}"]
    if envelope.envid:
        lines.append(f"Original-Envelope-Id: {_printable(envelope.envid)}")
    lines.append(f"Arrival-Date: {date(envelope.arrived)}")
    for one in told:
        lines += ["", *_recipient_fields(one, envelope, utf8)]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8" if utf8 else "ascii", "replace")


def _recipient_fields(one: Told, envelope: Envelope, utf8: bool) -> Iterable[str]:
    outcome = one.outcome
    if original := _original_recipient(one.recipient, utf8):
        yield f"Original-Recipient: {original}"
    yield f"Final-Recipient: {_typed('rfc822', str(one.recipient.address), utf8)}"
    yield f"Action: {one.action}"
    good = _STATUS.fullmatch(outcome.status)
    yield f"Status: {outcome.status if good else _DEFAULT_STATUS.get(one.action, '2.0.0')}"
    if outcome.host:
        yield f"Remote-MTA: dns; {_printable(outcome.host)}"
    from_remote = bool(outcome.host) if isinstance(outcome, Delivered) else bool(outcome.code)
    if outcome.reply:
        # RFC 3464 §2.3.6: "smtp" is for what a server said; what was found here has a type of its own.
        yield f"Diagnostic-Code: {'smtp' if from_remote else 'x-local'}; {_printable(spelled_reply(outcome))}"
    yield f"Last-Attempt-Date: {date(one.attempted)}"
    yield f"Final-Log-Id: {envelope.id}"
    if one.retry_until is not None:
        yield f"Will-Retry-Until: {date(one.retry_until)}"


def _original_recipient(recipient: Recipient, utf8: bool) -> str:
    kind, semicolon, address = recipient.original.partition(";")
    if not semicolon or not _ADDRESS_TYPE.fullmatch(kind):
        return ""
    return _typed(kind, address.strip(), utf8)


def _typed(kind: str, address: str, utf8: bool) -> str:
    """An address in a status field; not ASCII: as utf-8-addr-unitext or utf-8-addr-xtext (RFC 6533 §3)."""
    if address.isascii():
        return f"{kind}; {_printable(address)}"
    spelled = (c if _is_plain(c, utf8) else f"\\x{{{ord(c):X}}}" for c in address[:100])
    return f"utf-8; {''.join(spelled)}"


def _is_plain(character: str, utf8: bool) -> bool:
    if character.isascii():
        return "!" <= character <= "~" and character not in "+=\\"
    return utf8 and character.isprintable()


def _printable(text: str) -> str:
    """Text as it may stand in a field: printable ASCII on one line, bounded."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:_LONGEST_FIELD])


def _subject(header: bytes) -> str:
    found = _SUBJECT.search(header)
    return found[1].decode("ascii").strip() if found and b"=?" not in found[1] else ""


def _text(text: str) -> tuple[bytes, bytes]:
    """The part for a person, and the field lines before it."""
    data = text.replace("\n", "\r\n").encode("utf-8", "replace")
    if data.isascii():
        return data, b"\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    fields = (
        b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    return _quoted_printable(data), fields


def _returned(original: Original, header: bytes, utf8: bool) -> tuple[bytes, bytes]:
    """The third part with its fields, and its transfer encoding."""
    international = utf8 and not header.isascii() and _is_utf8(header)
    if original.whole and _travels(original.content) and (international or header.isascii()):
        encoding = b"7bit" if original.content.isascii() else b"8bit"
        kind = b"message/global" if international else b"message/rfc822"
        fields = b"\r\nContent-Description: Your message\r\nContent-Type: " + kind
        fields += b"\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n"
        return fields + original.content, encoding
    if international and _travels(header):
        fields = b"\r\nContent-Description: Header of your message\r\nContent-Type: message/global-headers"
        return fields + b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + header, b"8bit"
    fields = b"\r\nContent-Description: Header of your message\r\nContent-Type: text/rfc822-headers\r\n"
    if header.isascii() and _travels(header):
        return fields + b"\r\n" + header, b"7bit"
    fields += b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    return fields + _quoted_printable(header), b"quoted-printable"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _travels(content: bytes) -> bool:
    """Whether every line is one that a mail host must take (RFC 5321 §4.5.3.1.6) and no octet is odd."""
    if b"\0" in content or content.count(b"\r") != content.count(b"\n"):
        return False
    lines = content.split(b"\r\n")
    return max(map(len, lines)) <= _LONGEST_LINE and not any(b"\r" in line or b"\n" in line for line in lines)


def _quoted_printable(data: bytes) -> bytes:
    # Line by line, so that only CRLF is a line end and whatever else is odd becomes =XX (RFC 2045 §6.7).
    lines = (binascii.b2a_qp(line, istext=False).replace(b"\n", b"\r\n") for line in data.split(b"\r\n"))
    return b"\r\n".join(lines)


def _boundary(id: QueueID, returned: bytes) -> bytes:
    """A boundary that the returned part does not hold (RFC 2046 §5.1.1)."""
    number = 0
    while (boundary := f"=_{id}.{number}".encode("ascii")) in returned:
        number += 1
    return boundary
