"""The courier to the program of a route: ``to = "pipe"``.

Only the configuration names the program: its words stand there one by one, and no shell is asked. In a word
these stand for what the envelope says:

======================  =========================================================================
``{sender}``            the envelope sender; ``<>`` for the null sender
``{recipient}``         the recipient; a word with it stands once for each, where a run is for several
``{user}`` ``{domain}`` its two parts; likewise
``{queue_id}``          under which the journal knows the message
``{size}``              octets, in wire form
``{client_address}``    where the message came from; empty for one made here
======================  =========================================================================

What a stranger chose never becomes an option: an address at the beginning of a word that begins with ``-`` is
spelled with quotes, which mean the same (RFC 5321 §4.1.2); a name that does is refused (5.1.3).

The message comes on standard input, with Return-Path and, where the run is for one recipient, Delivered-To
on top. HOME, USER and LOGNAME are those of the user that it runs as. What a run for several recipients says,
it says of all of them. The rest: :mod:`mailserver.delivery.couriers.programs`.
"""

import re
from collections.abc import Mapping, Sequence

from zope.interface import implementer

from mailserver.access.routes import Pipe
from mailserver.delivery.couriers.programs import Errand, Programs, environment
from mailserver.delivery.together import together
from mailserver.interfaces import IContent, ICourier
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Recipient
from mailserver.model.outcome import Failed, Outcome, Scope
from mailserver.wire.trace import delivered_to, return_path

__all__ = ["PipeCourier", "fill_in"]

_PLACE = re.compile(r"\{([a-z_]+)\}")
_RECIPIENTS = frozenset({"recipient", "user", "domain"})
_AN_OPTION = Failed(Scope.RECIPIENT, "no address to give to a program", "5.1.3")


@implementer(ICourier)
class PipeCourier:
    """Delivers to one program."""

    def __init__(self, pipe: Pipe, programs: Programs) -> None:
        self._pipe = pipe
        self._programs = programs

    async def deliver(
        self, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]
    ) -> dict[Recipient, Outcome]:
        """See :class:`ICourier`."""
        groups = [[one] for one in recipients] if self._pipe.each else [list(recipients)]
        outcomes = await together(self._run(envelope, content, group) for group in groups)
        return {one: outcome for group, outcome in zip(groups, outcomes, strict=True) for one in group}

    async def _run(self, envelope: Envelope, content: IContent, recipients: Sequence[Recipient]) -> Outcome:
        pipe = self._pipe
        try:
            words = fill_in(pipe.command, envelope, content, [one.address for one in recipients])
        except ValueError:
            return _AN_OPTION
        around = environment(envelope, content, recipients)
        if pipe.identity is not None:
            name = pipe.identity.name
            around |= {"HOME": pipe.identity.home, "USER": name, "LOGNAME": name}
        header = return_path(envelope.sender)
        if len(recipients) == 1:
            header += delivered_to(recipients[0].address)
        return await self._programs.run(
            Errand(
                envelope.id,
                " ".join(pipe.command),
                words,
                around,
                header,
                content,
                pipe.timeout,
                pipe.processes,
                pipe.identity,
            )
        )


def fill_in(
    command: Sequence[str], envelope: Envelope, content: IContent, recipients: Sequence[Address]
) -> list[str]:
    """The words of a run. Raises ``ValueError`` where one would become an option."""
    message = {
        "sender": "<>" if envelope.sender.is_null else _spell(envelope.sender),
        "queue_id": str(envelope.id),
        "size": str(content.size),
        "client_address": envelope.origin.address,
    }
    words: list[str] = []
    for word in command:
        about = recipients if _RECIPIENTS.intersection(_PLACE.findall(word)) else recipients[:1]
        for one in about:
            of_one = {"recipient": _spell(one), "user": one.local, "domain": one.domain}
            words.append(_fill(word, {**message, **of_one}))
    return words


def _fill(word: str, values: Mapping[str, str]) -> str:
    filled = _PLACE.sub(lambda place: values[place[1]], word)
    if filled.startswith("-") and not word.startswith("-"):
        raise ValueError(f"{filled} would be an option")
    return filled


def _spell(address: Address) -> str:
    text = str(address)
    if not text.startswith("-"):
        return text
    return f'"{address.local}"@{address.domain}'  # quotes, and nothing in it that wants a backslash
