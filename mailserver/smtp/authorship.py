"""A user who has logged in sends in its own name: in the envelope, and in the From field (RFC 6409 §6.1)."""

from attrs import frozen

from mailserver.access.ownership import may_send_as
from mailserver.interfaces import IDirectory, Verdict
from mailserver.model.address import Address
from mailserver.model.reply import NOT_YOUR_FROM_550
from mailserver.model.source import BUILT_IN
from mailserver.smtp.message import Objection
from mailserver.wire.authors import parse_authors
from mailserver.wire.headers import begins_with_field
from mailserver.wire.syntax import BadSyntax
from mailserver.wire.trace import field_values

__all__ = ["Authorship"]


@frozen
class Authorship:
    """Holds what a user sends against what is the user's."""

    directory: IDirectory
    login: str

    def judge(self, sender: Address) -> Verdict:
        """Whether the user may send as ``sender``."""
        rights = self.directory.sender_rights(self.login)
        return may_send_as(self.login, sender, rights, self.directory.find)

    def check(self, section: bytes) -> None:
        """Hold the header section, as it came, against it. Raises :class:`Objection`.

        A section without any From is not objected to here.
        """
        if not self.directory.sender_rights(self.login).check_from or not begins_with_field(section):
            return
        for field in field_values(section, "From"):
            for author in self._authors(field):
                verdict = self.judge(author)
                if not verdict.allowed:
                    raise Objection(f"From: {verdict.reason}", verdict.source, NOT_YOUR_FROM_550)

    def _authors(self, field: bytes) -> tuple[Address, ...]:
        try:
            return parse_authors(field)
        except BadSyntax as error:
            raise Objection(str(error), BUILT_IN, NOT_YOUR_FROM_550) from None
