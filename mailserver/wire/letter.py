"""The part of a report that a person reads: what happened, to whose copy, and what can be done.

Plain English at 72 columns. What the other server said is quoted as it is, bounded and without anything
that could move a cursor or pass for our own words; it is indented under whom it is about.
"""

import re
import textwrap
from collections.abc import Sequence
from enum import Enum

from attrs import frozen

from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.outcome import Delivered, Outcome
from mailserver.wire.trace import date

__all__ = ["Kind", "Told", "letter", "spelled_reply", "visible"]

_WIDTH = 72
_MOST_NAMED = 100
_LONGEST_QUOTE = 500


class Kind(Enum):
    """What a report is about (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"


@frozen
class Told:
    """What is told about one recipient.

    :ivar action: ``failed``, ``delayed``, ``delivered``, ``relayed`` or ``expanded`` (RFC 3464 §2.3.3).
    :ivar attempted: when it was last tried, in seconds since 1970.
    :ivar retry_until: until when it will be tried, where it will.
    """

    recipient: Recipient
    outcome: Outcome
    action: str
    attempted: float
    retry_until: float | None = None


_OPENING = {
    Kind.FAILED: "Your message could not be delivered to {whom} below. It will not be tried again.",
    Kind.DELAYED: "Your message has not yet been delivered to {whom} below.",
    Kind.DELIVERED: "You asked to be told: your message has been delivered to {whom} below.",
}

# Of a report that failed itself.
_TO_POSTMASTER = (
    "A message that this server wrote could not be delivered to {whom} below. Nobody else is told."
)

_CLOSING = {
    Kind.FAILED: "This server keeps no copy. To try once more, please send it as a new message.",
    Kind.DELAYED: "You need not do anything. This server keeps trying until {until}; if it does not "
    "succeed by then, you will be told.",
    Kind.DELIVERED: "This says that the mail arrived there, not that anybody has read it.",
}

# What a person can do, by enhanced status code without its class (RFC 3463); the first that fits.
_ADVICE = (
    (("1.1", "1.2", "1.3", "1.10"), "Please check the address for a typing error."),
    (("2.2",), "The mailbox is full. The recipient must make room before it can take mail."),
    (("2.1",), "The mailbox is closed. Please ask the recipient, by another way, for a new address."),
    (("3.4", "2.3"), "The message is too big for them. Try it smaller, or without what is attached."),
    (
        ("4.7", "4.1", "4.4"),
        "Their mail server could not be reached, or would not take it, in all that time.",
    ),
    (("4.6",), "The mail went round in a circle. The postmaster of {domain} should be told."),
    (("6.7",), "Their mail server cannot take addresses with letters beyond ASCII."),
    (("7.",), "Their mail server does not take this message, or mail from here, by its own rules."),
)

_STATUS_CLASS = re.compile(r"[245]\.")


def letter(kind: Kind, envelope: Envelope, told: Sequence[Told], hostname: str, subject: str) -> str:
    """The text, with ``\\n`` at line ends.

    :param subject: the original's, as printable ASCII; empty where there is none to show.
    """
    whom = "the recipient" if len(told) == 1 else f"the {len(told)} recipients"
    blocks = [
        f"This is the mail server {visible(hostname)}.",
        _wrap((_TO_POSTMASTER if envelope.sender.is_null else _OPENING[kind]).format(whom=whom)),
        *(_about(kind, one, envelope) for one in told[:_MOST_NAMED]),
    ]
    if len(told) > _MOST_NAMED:
        blocks.append(_wrap(f"The other {len(told) - _MOST_NAMED} are in the second part of this report."))
    until = told[0].retry_until
    blocks.append(_wrap(_CLOSING[kind].format(until=date(until) if until is not None else "it succeeds")))
    if kind is not Kind.DELIVERED:
        blocks.append(
            _wrap(
                "For help with an address, ask the recipient or the postmaster of its domain. For help with "
                f"this server, write to postmaster@{visible(hostname)} and name {envelope.id}."
            )
        )
    blocks.append(_message(envelope, subject))
    return "\n\n".join(blocks) + "\n"


def _about(kind: Kind, one: Told, envelope: Envelope) -> str:
    """One recipient: the address, what was said, what can be done."""
    lines = [f"  <{visible(str(one.recipient.address))}>"]
    named = one.recipient.original.partition(";")[2]
    if named and named != str(one.recipient.address):
        lines.append(f"    (you wrote to {visible(named)})")
    lines += [*_indent(_who_said(one)), *_quote(spelled_reply(one.outcome))]
    if kind is Kind.FAILED:
        lines += _indent(_advice(one, envelope))
    return "\n".join(lines)


def _who_said(one: Told) -> str:
    outcome = one.outcome
    if isinstance(outcome, Delivered):
        if one.action == "expanded":
            return "Sent on to all behind this address; there is no further report:"
        if not outcome.host:
            return "It has arrived here:"
        if one.action == "relayed":
            return f"Handed on to {visible(outcome.host)}, which may send no further report. It said:"
        return f"The mail server {visible(outcome.host)} took it and said:"
    if outcome.code:
        return f"The mail server {visible(outcome.host) or 'there'} said:"
    return f"Trying {visible(outcome.host)}:" if outcome.host else "The reason:"


def _advice(one: Told, envelope: Envelope) -> str:
    status = one.outcome.status
    reach = status[2:] if _STATUS_CLASS.match(status) else ""
    given_up = ""
    if status == "4.4.7":
        given_up = f"It was tried for {_duration(one.attempted - envelope.arrived)}. "
    for classes, advice in _ADVICE:
        if any(reach == known or (known.endswith(".") and reach.startswith(known)) for known in classes):
            return given_up + advice.format(domain=visible(one.recipient.address.domain))
    return f"The postmaster of {visible(one.recipient.address.domain)} may know more."


def _message(envelope: Envelope, subject: str) -> str:
    lines = ["Your message:"]
    if subject:
        lines.append(f"  Subject: {visible(subject)[: _WIDTH - 11]}")
    lines += [f"  Arrived: {date(envelope.arrived)}", f"  Queue:   {envelope.id}"]
    return "\n".join(lines)


def spelled_reply(outcome: Outcome) -> str:
    """A reply with its code in front, once."""
    code = "" if isinstance(outcome, Delivered) or not outcome.code else str(outcome.code)
    if not code or outcome.reply.startswith(code):
        return outcome.reply
    return f"{code} {outcome.reply}".rstrip()


def visible(text: str) -> str:
    """Text for a person to see: one line, nothing that cannot be printed, bounded."""
    return "".join(
        c if c == " " or (c.isprintable() and not c.isspace()) else "?" for c in text[:_LONGEST_QUOTE]
    )


def _duration(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = round(seconds / length)
        if count >= 1:
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return "a short time"


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _WIDTH, break_on_hyphens=False, break_long_words=False))


def _indent(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 4, break_on_hyphens=False
    )


def _quote(text: str) -> list[str]:
    """What somebody else said, each line with a mark that none of our own lines has."""
    mark = "    | "
    return textwrap.wrap(
        visible(text), _WIDTH, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False
    )
