"""Whatever comes and however it is cut: the same values, or BadSyntax, and nothing else."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.model.address import Address
from mailserver.model.reply import Reply
from mailserver.wire import pop3, smtp
from mailserver.wire.dots import Stuffer, Unstuffer, WireForm, stuffed
from mailserver.wire.lines import Flaw, Lines
from mailserver.wire.replies import ReplyReader, spell_reply
from mailserver.wire.syntax import BadSyntax
from mailserver.wire.trace import HeaderScan, field_values, header_end
from mailserver.wire.xtext import from_unitext, from_xtext, to_xtext

# Made of what framing turns on, so that chance finds the corners.
PIECES = [
    b"\r\n",
    b"\r",
    b"\n",
    b".",
    b"\r\n.\r\n",
    b"\r\n..",
    b"\0",
    b"a",
    b"bcd ",
    b"250-",
    b"250 ",
    b"Received:",
]
WIRE = st.one_of(st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join), st.binary(max_size=60))
CONTENT = st.lists(st.sampled_from([b"\r\n", b".", b"a", b"..", b"\r\n."]), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=12)


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def one_by_one(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def unstuffed(pieces: Sequence[bytes]) -> tuple[object, ...]:
    unstuffer = Unstuffer(longest_line=12)
    content = b"".join(map(unstuffer.feed, pieces))
    # What a flawed message gave before its flaw showed depends on the pieces, and is worth nothing.
    kept = None if unstuffer.flawed else content
    return kept, unstuffer.finished, unstuffer.rest, unstuffer.flawed, unstuffer.size


def reference_unstuffed(data: bytes) -> tuple[object, ...]:
    """The same, written for the reader and for messages that end."""
    whole = b"\r\n" + data
    end = whole.index(b"\r\n.\r\n") + 2
    lines = whole[2:end].split(b"\r\n")[:-1]
    lines = [line.removeprefix(b".") for line in lines]
    content = b"".join(line + b"\r\n" for line in lines)
    flawed = any(len(line) > 10 or set(line) & set(b"\r\n\0") for line in lines)
    return None if flawed else content, True, whole[end + 3 :], flawed, len(content)


@given(WIRE, CUTS)
def test_unstuffer_however_cut(data: bytes, cuts: list[int]) -> None:
    assert unstuffed(cut(data, cuts)) == unstuffed([data]) == unstuffed(one_by_one(data))


@given(WIRE, CUTS)
@example(b".", [])
@example(b"..\r\n.\r", [])
@example(b"\ra\n", [])
@example(b"\ra\n.\r\n", [])
@example(b"a\r\n\ra\n.\ra\na\r\n", [5])
def test_unstuffer_is_what_the_rfc_says(data: bytes, cuts: list[int]) -> None:
    data += b"\r\n.\r\nrest"
    assert unstuffed(cut(data, cuts)) == reference_unstuffed(data)


@given(CONTENT, CUTS, CUTS)
def test_stuffing_there_and_back(content: bytes, cuts: list[int], other_cuts: list[int]) -> None:
    stuffer = Stuffer()
    wire = b"".join(map(stuffer.feed, cut(content, cuts))) + stuffer.finish()
    assert wire == stuffed(content)
    assert wire.endswith(b"\r\n.\r\n") or wire == b".\r\n"
    unstuffer = Unstuffer()
    got = b"".join(map(unstuffer.feed, cut(wire + b"QUIT", other_cuts)))
    whole = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
    assert (got, unstuffer.finished, unstuffer.rest, unstuffer.flawed) == (whole, True, b"QUIT", False)


@given(WIRE, CUTS)
def test_wire_form_however_cut(data: bytes, cuts: list[int]) -> None:
    form = WireForm()
    got = b"".join(map(form.feed, cut(data, cuts)))
    assert got == data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def lines_of(pieces: Sequence[bytes]) -> tuple[list[bytes | Flaw], int]:
    lines = Lines(8)
    found: list[bytes | Flaw] = []
    for piece in pieces:
        lines.feed(piece)
        while (line := lines.next()) is not None:
            found.append(line)
    return found, lines.dropped


@given(WIRE, CUTS)
def test_lines_however_cut(data: bytes, cuts: list[int]) -> None:
    assert lines_of(cut(data, cuts)) == lines_of([data]) == lines_of(one_by_one(data))


@given(WIRE, CUTS)
def test_lines_hold_no_more_than_one(data: bytes, cuts: list[int]) -> None:
    lines = Lines(8)
    for piece in cut(data, cuts):
        lines.feed(piece)
        while (line := lines.next()) is not None:
            assert isinstance(line, Flaw) or (len(line) <= 6 and not set(line) & set(b"\r\n\0"))
        assert len(lines) < 8


def replies_of(pieces: Sequence[bytes]) -> tuple[list[Reply], bool, int]:
    reader = ReplyReader(longest_line=30, most_lines=3)
    replies: list[Reply] = []
    try:
        for piece in pieces:
            replies += reader.feed(piece)
        reader.feed(b"")
    except BadSyntax:
        return replies, True, 0
    return replies, False, reader.pending


REPLY_PIECES = [
    b"250 ",
    b"250-",
    b"2.1.0 ",
    b"550 ",
    b"x",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"y" * 20,
]
REPLIES = st.lists(st.sampled_from(REPLY_PIECES), max_size=20).map(b"".join)


@given(st.one_of(REPLIES, WIRE), CUTS)
def test_replies_however_cut(data: bytes, cuts: list[int]) -> None:
    assert replies_of(cut(data, cuts)) == replies_of([data]) == replies_of(one_by_one(data))


@given(st.integers(200, 599), st.sampled_from(["", "2.1.0", "5.7.1"]), st.text(max_size=40))
def test_every_reply_is_spelled_readably(code: int, status: str, text: str) -> None:
    if status and int(status[0]) != code // 100:
        status = ""
    reader = ReplyReader()
    wire = spell_reply(Reply(code, status, text))
    [reply] = reader.feed(wire)
    assert reader.pending == 0
    assert wire.isascii()
    assert reply.code == code
    assert reply.status.startswith(status)


def scanned(pieces: Sequence[bytes]) -> tuple[bool, int, bytes]:
    scan = HeaderScan(limit=40)
    for piece in pieces:
        scan.feed(piece)
    return scan.finished, scan.hops, scan.header


@given(WIRE, CUTS)
def test_header_scan_however_cut(data: bytes, cuts: list[int]) -> None:
    assert scanned(cut(data, cuts)) == scanned([data]) == scanned(one_by_one(data))
    assert (header_end(data) == -1) == (not scanned([data])[0]) or len(data) >= 40


# --- grammars: a value or BadSyntax ----------------------------------------------------------------------

ADDRESS_PIECES = [
    "<",
    ">",
    "@",
    ".",
    '"',
    "\\",
    "a",
    "B",
    "ü",
    "[",
    "]",
    ":",
    "IPv6:",
    "1.2.3.4",
    " ",
    "\0",
    "-",
    "=",
    ",",
]
SNIPPETS = st.lists(st.sampled_from(ADDRESS_PIECES), max_size=20).map("".join)
TEXT = st.one_of(SNIPPETS, st.text(max_size=40))
ARGUMENT = st.one_of(TEXT.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=40))
LOCAL = st.one_of(
    st.from_regex(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-z]{1,5}){0,3}", fullmatch=True),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20),
    st.text(st.characters(min_codepoint=0xA0, max_codepoint=0x2000), min_size=1, max_size=15),
)
DOMAIN = st.one_of(
    st.from_regex(r"[a-z0-9]{1,20}(\.[a-z0-9]{1,5}){0,3}", fullmatch=True),
    st.ip_addresses(v=4).map(lambda ip: f"[{ip}]"),
    st.ip_addresses(v=6).map(lambda ip: f"[IPv6:{ip}]"),
)


@given(LOCAL, DOMAIN)
def test_every_address_is_read_as_it_is_spelled(local: str, domain: str) -> None:
    address = Address(local, domain)
    assert smtp.parse_address(str(address)) == address
    assert smtp.parse_mail(f"FROM:<{address}>".encode()) == (address, {})
    assert smtp.parse_rcpt(f"TO:<{address}> NOTIFY=NEVER".encode()) == (address, {"NOTIFY": "NEVER"})


@given(st.one_of(TEXT, st.builds("{}@{}".format, TEXT, TEXT)))
@example("a@ﬁ.example")
@example("a@İ.example")
@example("a@ab。cd")
def test_what_is_read_as_an_address_has_one_spelling(text: str) -> None:
    try:
        address = smtp.parse_address(text)
    except BadSyntax:
        return
    assert address.domain.isascii()
    assert address.domain == address.domain.lower() or address.is_literal
    assert smtp.parse_address(str(address)) == address


@pytest.mark.parametrize("parse", [smtp.parse_mail, smtp.parse_rcpt, smtp.parse_helo])
@given(data=st.data())
def test_arguments_give_a_value_or_bad_syntax(parse: Callable[[bytes], object], data: st.DataObject) -> None:
    prefix = data.draw(st.sampled_from([b"", b"FROM:", b"TO:<", b"FROM:<", b"TO:<a@b> ", b"FROM:<a@b> "]))
    try:
        parse(prefix + data.draw(ARGUMENT))
    except BadSyntax:
        return


@given(st.dictionaries(st.sampled_from(["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH", "X"]), TEXT))
def test_mail_parameters_give_a_value_or_bad_syntax(raw: dict[str, str]) -> None:
    try:
        parameters = smtp.mail_parameters(raw, frozenset(raw) - {"X"})
    except BadSyntax:
        return
    assert parameters.envid.isprintable()


@given(
    st.dictionaries(st.sampled_from(["NOTIFY", "ORCPT", "X"]), st.one_of(TEXT, TEXT.map("utf-8;{}".format)))
)
def test_rcpt_parameters_give_a_value_or_bad_syntax(raw: dict[str, str]) -> None:
    try:
        parameters = smtp.rcpt_parameters(raw, frozenset(raw) - {"X"})
    except BadSyntax:
        return
    assert parameters.original.isprintable()


@given(st.binary(max_size=40))
def test_commands_are_split_without_a_loss(line: bytes) -> None:
    verb, argument = smtp.split_command(line)
    assert line == argument if not verb else argument in line
    word, arguments = pop3.split_command(line)
    assert word.isalnum() or (word, arguments) == (b"", (line,))
    try:
        assert pop3.message_number(line) > 0
    except BadSyntax:
        return


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_xtext_there_and_back(text: str) -> None:
    assert from_xtext(to_xtext(text)) == text


@given(TEXT, st.sampled_from([from_xtext, from_unitext]))
def test_encoded_text_decodes_to_printable_or_bad_syntax(text: str, decode: Callable[[str], str]) -> None:
    try:
        assert decode(text).isprintable()
    except BadSyntax:
        return


@given(WIRE, st.sampled_from(["Received", "a", "X.Y"]))
def test_field_values_are_unfolded(data: bytes, name: str) -> None:
    assert all(b"\r\n" not in value for value in field_values(data, name))
