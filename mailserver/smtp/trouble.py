"""What a mail host's answer, or the lack of one, means for the recipients.

Troubles with a host are raised as :class:`HostTrouble` inside the SMTP client and become outcomes at its
edge; refusals of a message or a recipient are no troubles and become outcomes by :func:`judge` at once.
Text of the other side is recorded in one line, without controls, of bounded length (law 10).
"""

from mailserver.model.outcome import Delayed, Failed, Scope
from mailserver.model.reply import Reply
from mailserver.wire.replies import enhanced_status

__all__ = ["HostTrouble", "TLSTrouble", "in_one_line", "judge", "said"]

_LONGEST_TEXT = 500


class HostTrouble(Exception):
    """With this host, now, it goes no further.

    :ivar reply: what the host said that means so; ``None`` when the trouble was found here.
    :ivar status: the enhanced status code of trouble found here.
    """

    def __init__(self, text: str, status: str = "4.4.2", reply: Reply | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.reply = reply

    def outcome(self, scope: Scope, host: str) -> Delayed | Failed:
        """What that means for recipients within its reach."""
        if self.reply is not None:
            return judge(self.reply, scope, host)
        return Delayed(scope, in_one_line(self.text), self.status, host)


class TLSTrouble(HostTrouble):
    """The host offered TLS, and it did not come about. Without TLS things may go well."""


def judge(reply: Reply, scope: Scope, host: str) -> Delayed | Failed:
    """The outcome of a reply that is not the one hoped for.

    Only 5yz is for ever; a code that makes no sense at its place may make sense another time.
    """
    kind = Failed if reply.code >= 500 else Delayed
    status = enhanced_status(500 if reply.code >= 500 else 400, reply)
    return kind(scope, said(reply), status, host, reply.code)


def said(reply: Reply) -> str:
    """A reply as it is recorded: in one line, with its codes."""
    return in_one_line(f"{reply.code} {reply.status} {reply.text}")


def in_one_line(text: str) -> str:
    """A stranger's text made fit for journal and reports: one line, printable, of bounded length."""
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
