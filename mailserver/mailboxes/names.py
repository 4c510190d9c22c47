"""Where an account's mailbox lies: one mapping between account names and relative paths.

``alice@example.lan`` lies in ``example.lan/alice``. The mapping is safe whatever a name holds: no result
is absolute, climbs with ``..``, is hidden, looks like an option, holds a control, a slash or a NUL, or is
longer than a file name may be. It is injective, also on a file system that folds case or Unicode forms:
two names never share a mailbox, and :func:`name_of` gives the name back.

Kept as they are, because an admin reads them: lower-case letters and digits of any script, and ``._+=-``
inside a name. Everything else is its UTF-8 octets as ``%2F``. Three more spellings begin with a percent
sign, and none of them can be an escape: ``%=`` is an empty part, ``%_`` stands for the domain of a name
that has none, and a part that is too long goes on in a directory below, its pieces ending in ``%``.
"""

import re
import unicodedata
from pathlib import PurePosixPath
from urllib.parse import unquote_to_bytes

__all__ = ["SET_ASIDE", "name_of", "path_of"]

SET_ASIDE = "%broken-"
"""What :mod:`~mailserver.mailboxes.maildir` puts behind the name of a thing that it sets aside: no name of an
account gives it."""

_PLAIN = re.compile(r"[a-z0-9_+=][a-z0-9_+=.-]*")
_PIECE = 200  # octets; file names have 255 on every file system, and a suffix must fit
_EMPTY = "%="
_NO_DOMAIN = "%_"


def path_of(name: str) -> PurePosixPath:
    """The path of the account ``name``, relative to the root of all mailboxes."""
    local, at, domain = name.rpartition("@")
    pieces = _spell(domain) if at else [_NO_DOMAIN]
    return PurePosixPath(*pieces, *_spell(local if at else name))


def name_of(path: PurePosixPath) -> str | None:
    """The account whose path this is; ``None`` when it is nobody's."""
    parts: list[str] = [""]
    for piece in path.parts:
        if piece.endswith("%"):
            parts[-1] += piece[:-1]
        else:
            parts[-1] += piece
            parts.append("")
    if len(parts) != 3 or parts[-1]:
        return None
    domain, local = parts[:2]
    try:
        name = _read(local) if domain == _NO_DOMAIN else f"{_read(local)}@{_read(domain)}"
    except UnicodeDecodeError:
        return None
    return name if path_of(name) == path else None


def _spell(text: str) -> list[str]:
    """One part of a name, as one file name or, when it is too long, several."""
    if _PLAIN.fullmatch(text) and len(text) <= _PIECE:
        return [text]
    tokens = [_token(letter, first=number == 0) for number, letter in enumerate(text)]
    spelled = "".join(tokens)
    if unicodedata.normalize("NFKC", spelled) != spelled:
        # Letters that would melt into one another, though each alone is stable.
        tokens = [token if token.isascii() else _escape(token) for token in tokens]
    return _cut(tokens or [_EMPTY])


def _token(letter: str, first: bool) -> str:
    if _PLAIN.fullmatch(letter) or (not first and letter in ".-"):
        return letter
    stable = letter.isalnum() and unicodedata.normalize("NFKC", letter) == letter == letter.casefold()
    return letter if stable and not letter.isascii() else _escape(letter)


def _escape(letter: str) -> str:
    return "".join(f"%{octet:02X}" for octet in letter.encode("utf-8", "surrogatepass"))


def _cut(tokens: list[str]) -> list[str]:
    pieces, piece, length = [], "", 0
    for token in tokens:
        octets = len(token.encode())
        if length + octets > _PIECE:
            pieces.append(piece + "%")
            piece, length = "", 0
        piece += token
        length += octets
    return [*pieces, piece]


def _read(spelled: str) -> str:
    return "" if spelled == _EMPTY else unquote_to_bytes(spelled).decode("utf-8", "surrogatepass")
