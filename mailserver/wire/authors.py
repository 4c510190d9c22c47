"""Who a message says has written it: the addresses in the body of a From field (RFC 5322 §3.6.2, §3.4).

Read for permission and not for display: whatever could be taken for an address is one. So an unquoted ``@``
before the angle brackets makes an address of what stands there, and what no two readers would agree on is
refused: two pairs of brackets, groups, text behind brackets. Quoted strings and comments are display alone.
Takes time linear in the field, and names no more than 20, for each of whom somebody is looked up.
"""

import re
from collections.abc import Iterator

from mailserver.model.address import Address
from mailserver.wire.addresses import parse_address
from mailserver.wire.syntax import BadSyntax

__all__ = ["parse_authors"]

_MOST = 20

_QUOTED = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*"', re.DOTALL)
_BLANK = re.compile(r"[ \t\r\n]++")
_TEXT = re.compile(r"[^\"()<>,:;\\ \t\r\n]++")
_IN_COMMENT = re.compile(r"[()]|\\.", re.DOTALL)


def parse_authors(value: bytes) -> tuple[Address, ...]:
    """The addresses of a From field's body, folded or not; at least one. Raises :class:`BadSyntax`."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise BadSyntax("From not in UTF-8") from None
    authors: list[Address] = []
    mailbox: list[str] = []
    for piece in (*_tokens(text), ","):
        if piece != ",":
            mailbox.append(piece)
            continue
        if "".join(mailbox).strip():
            authors += _mailbox(mailbox)
        if len(authors) > _MOST:
            raise BadSyntax("too many addresses in From")
        mailbox = []
    if not authors:
        raise BadSyntax("no address in From")
    return tuple(authors)


def _tokens(text: str) -> Iterator[str]:
    """Quoted strings, words, signs, and one blank for any number of them; no comments."""
    at = 0
    while at < len(text):
        if text[at] == "(":
            at = _behind_comment(text, at)
            yield " "
        elif match := _BLANK.match(text, at):
            at = match.end()
            yield " "
        elif match := _QUOTED.match(text, at) or _TEXT.match(text, at):
            at = match.end()
            yield match.group()
        elif text[at] in "<>,":
            yield text[at]
            at += 1
        else:
            raise BadSyntax("a sign in From that stands for nothing there")


def _behind_comment(text: str, at: int) -> int:
    depth = 0
    for mark in _IN_COMMENT.finditer(text, at):
        depth += {"(": 1, ")": -1}.get(mark.group(), 0)
        if depth == 0:
            return mark.end()
    raise BadSyntax("a comment without an end in From")


def _mailbox(tokens: list[str]) -> list[Address]:
    if "<" not in tokens:
        return [_address(tokens)]
    begin = tokens.index("<")
    phrase, rest = tokens[:begin], tokens[begin + 1 :]
    if ">" not in rest or "".join(rest[rest.index(">") + 1 :]).strip() or "<" in rest or ">" in phrase:
        raise BadSyntax("angle brackets that do not belong together in From")
    address = _address(rest[: rest.index(">")])
    if any("@" in word and not word.startswith('"') for word in phrase):
        return [parse_address("".join(phrase).strip()), address]
    return [address]


def _address(pieces: list[str]) -> Address:
    return parse_address("".join(piece for piece in pieces if piece != " "))
