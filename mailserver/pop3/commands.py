"""Which commands there are, and when each may be given (RFC 1939 §4, §5)."""

from attrs import frozen

__all__ = ["Refused", "method_of"]


class Refused(Exception):
    """The command is refused.

    :ivar key: why, as a key of :mod:`~mailserver.pop3.language`.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@frozen
class _Command:
    method: str
    before_login: bool = False
    after_login: bool = True
    least: int = 0
    most: int = 0


_COMMANDS = {
    b"CAPA": _Command("do_CAPA", before_login=True),
    b"LANG": _Command("do_LANG", before_login=True, most=1),
    b"QUIT": _Command("do_QUIT", before_login=True),
    b"STLS": _Command("do_STLS", before_login=True, after_login=False),
    b"UTF8": _Command("do_UTF8", before_login=True, after_login=False),
    b"USER": _Command("do_USER", before_login=True, after_login=False, least=1, most=1),
    b"PASS": _Command("do_PASS", before_login=True, after_login=False, least=1, most=1),
    b"AUTH": _Command("do_AUTH", before_login=True, after_login=False, least=1, most=1),
    b"STAT": _Command("do_STAT"),
    b"LIST": _Command("do_LIST", most=1),
    b"UIDL": _Command("do_UIDL", most=1),
    b"RETR": _Command("do_RETR", least=1, most=1),
    b"TOP": _Command("do_TOP", least=2, most=2),
    b"DELE": _Command("do_DELE", least=1, most=1),
    b"NOOP": _Command("do_NOOP"),
    b"RSET": _Command("do_RSET"),
}


def method_of(verb: bytes, arguments: int, logged_in: bool) -> str:
    """The name of the method for a command with so many arguments. Raises :class:`Refused`."""
    command = _COMMANDS.get(verb)
    if command is None:
        raise Refused("unknown-command")
    if not (command.after_login if logged_in else command.before_login):
        raise Refused("not-after-login" if logged_in else "not-before-login")
    if not command.least <= arguments <= command.most:
        raise Refused("arguments")
    return command.method
