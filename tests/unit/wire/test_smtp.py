"""Commands of SMTP clients, well-formed and hostile."""

import pytest

from mailserver.model.address import NULL_SENDER, Address
from mailserver.wire.smtp import (
    BadParameter,
    BadSyntax,
    Chunk,
    MailParameters,
    RcptParameters,
    UnknownParameter,
    mail_parameters,
    mend_helo,
    parse_bdat,
    parse_helo,
    parse_mail,
    parse_rcpt,
    rcpt_parameters,
    split_command,
)

MAIL = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH", "REQUIRETLS"})
RCPT = frozenset({"NOTIFY", "ORCPT"})


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"NOOP", (b"NOOP", b"")),
        (b"noop  ", (b"NOOP", b"")),
        (b"Mail  FROM:<> \t", (b"MAIL", b"FROM:<>")),
        (b"EHLO a b", (b"EHLO", b"a b")),
        (b"", (b"", b"")),
        (b" NOOP", (b"", b" NOOP")),
        (b"MAIL\tFROM:<>", (b"", b"MAIL\tFROM:<>")),
        (b"RCPT:", (b"", b"RCPT:")),
        (b"\xc3\x84 x", (b"", b"\xc3\x84 x")),
        (b"__class__", (b"", b"__class__")),
    ],
)
def test_commands(line: bytes, command: tuple[bytes, bytes]) -> None:
    assert split_command(line) == command


@pytest.mark.parametrize(
    ("argument", "address", "parameters"),
    [
        (b"FROM:<a@d>", Address("a", "d"), {}),
        (b"from:<a@d>", Address("a", "d"), {}),
        (b"FROM: <a@d>", Address("a", "d"), {}),
        (b"FROM:<>", NULL_SENDER, {}),
        (b"FROM:<a@d> SIZE=1 body=8BITMIME", Address("a", "d"), {"SIZE": "1", "BODY": "8BITMIME"}),
        (b"FROM:<a@d>   SMTPUTF8  ", Address("a", "d"), {"SMTPUTF8": ""}),
        (b'FROM:<"> SIZE=9"@d> SIZE=1', Address("> SIZE=9", "d"), {"SIZE": "1"}),
        (b'FROM:<"a\\">b"@d>', Address('a">b', "d"), {}),
        ("FROM:<ü@d> X=ü".encode(), Address("ü", "d"), {"X": "ü"}),
    ],
)
def test_mail(argument: bytes, address: Address, parameters: dict[str, str]) -> None:
    assert parse_mail(argument) == (address, parameters)


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"FROM",
        b"FROM:",
        b"FROM <a@d>",
        b" FROM:<a@d>",
        b"TO:<a@d>",
        b"FROM:a@d",
        b"FROM:a@d SIZE=1",
        b"FROM:<a@d",
        b"FROM:<a@d>SIZE=1",
        b"FROM:<a@d>\tSIZE=1",
        b'FROM:"Joe" <a@d>',
        b'FROM:<"a@d>',
        b"FROM:<a@d>>",
        b"FROM:<a\0@d>",
        b'FROM:<"a\0"@d>',
        b'FROM:<"a\nb"@d>',
        b"FROM:<\xff@d>",
        b"FROM:<a@d> X=\xff",
        b"FROM:<a@d> SIZE=",
        b"FROM:<a@d> =1",
        b"FROM:<a@d> -X=1",
        b"FROM:<a@d> X=1=2",
        b"FROM:<a@d> X=a\x01",
        b"FROM:<a@d> SIZE=1 size=2",
        b"FROM:<a@d> \xc3\xbc=1",
        b"FROM:<postmaster>",
        b"FROM:" + b" " * 100_000 + b"x",
        b"FROM:<a@b>" + b" " * 100_000 + b"=",
        b'FROM:<"' + b"\\a" * 100_000,
        b"FROM:<" + b'""' * 100_000,
        b"FROM:<" + b'"a"a' * 100_000,
        b"FROM:<" + b"@a," * 100_000,
        b"FROM:<" + b"." * 100_000 + b">",
        b"FROM:<a@d> " + b"x=" * 100_000,
    ],
)
def test_mail_refused(argument: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse_mail(argument)


def test_rcpt() -> None:
    assert parse_rcpt(b"To:<a@d> NOTIFY=NEVER") == (Address("a", "d"), {"NOTIFY": "NEVER"})
    assert parse_rcpt(b"TO:<PostMaster>") == (Address("PostMaster", ""), {})
    for argument in (b"TO:<>", b"FROM:<a@d>", b"TO:<alice>"):
        with pytest.raises(BadSyntax):
            parse_rcpt(argument)


@pytest.mark.parametrize(
    ("raw", "meaning"),
    [
        ({}, MailParameters()),
        ({"SIZE": "0"}, MailParameters(size=0)),
        ({"SIZE": "9" * 20}, MailParameters(size=10**20 - 1)),
        ({"BODY": "8bitmime"}, MailParameters(body="8BITMIME")),
        ({"BODY": "7BIT", "SMTPUTF8": ""}, MailParameters(smtputf8=True)),
        ({"RET": "hdrs", "ENVID": "a+2Bb+20c"}, MailParameters(ret="HDRS", envid="a+b c")),
        ({"AUTH": "<>"}, MailParameters(auth=NULL_SENDER)),
        ({"REQUIRETLS": ""}, MailParameters(requiretls=True)),
        ({"AUTH": "e+3Dmc2@example.com"}, MailParameters(auth=Address("e=mc2", "example.com"))),
    ],
)
def test_mail_parameters(raw: dict[str, str], meaning: MailParameters) -> None:
    assert mail_parameters(raw, MAIL) == meaning


@pytest.mark.parametrize(
    "raw",
    [
        {"SIZE": ""},
        {"SIZE": "-1"},
        {"SIZE": "1_0"},
        {"SIZE": "١"},
        {"SIZE": "9" * 21},
        {"BODY": ""},
        {"BODY": "BINARYMIME"},
        {"SMTPUTF8": "yes"},
        {"RET": "ALL"},
        {"ENVID": ""},
        {"ENVID": "x" * 101},
        {"ENVID": "a+0Ab"},
        {"ENVID": "a+0ab"},
        {"ENVID": "a+7F"},
        {"ENVID": "a+C3+BC"},
        {"ENVID": "a+2"},
        {"ENVID": "ü"},
        {"AUTH": ""},
        {"AUTH": "nobody"},
        {"AUTH": "+3C+3E+0D+0A"},
    ],
)
def test_mail_parameters_refused(raw: dict[str, str]) -> None:
    with pytest.raises(BadParameter) as caught:
        mail_parameters(raw, MAIL)
    assert not isinstance(caught.value, UnknownParameter)


def test_parameters_not_offered() -> None:
    with pytest.raises(UnknownParameter):
        mail_parameters({"SIZE": "1", "RET": "FULL"}, frozenset({"SIZE"}))
    with pytest.raises(UnknownParameter):
        rcpt_parameters({"NOTIFY": "NEVER"}, frozenset())


@pytest.mark.parametrize(
    ("raw", "meaning"),
    [
        ({}, RcptParameters()),
        ({"NOTIFY": "never"}, RcptParameters(notify=frozenset({"NEVER"}))),
        ({"NOTIFY": "SUCCESS,delay"}, RcptParameters(notify=frozenset({"SUCCESS", "DELAY"}))),
        ({"ORCPT": "rfc822;a+2Bb@d"}, RcptParameters(original="rfc822;a+b@d")),
        ({"ORCPT": "utf-8;ü\\x{20AC}@d"}, RcptParameters(original="utf-8;ü€@d")),
    ],
)
def test_rcpt_parameters(raw: dict[str, str], meaning: RcptParameters) -> None:
    assert rcpt_parameters(raw, RCPT) == meaning


@pytest.mark.parametrize(
    "raw",
    [
        {"NOTIFY": ""},
        {"NOTIFY": "NEVER,SUCCESS"},
        {"NOTIFY": "SUCCESS,"},
        {"NOTIFY": "SUCCESS,SUCCESS"},
        {"NOTIFY": "BOGUS"},
        {"ORCPT": ""},
        {"ORCPT": "a@d"},
        {"ORCPT": ";a@d"},
        {"ORCPT": "rfc822;"},
        {"ORCPT": "rfc 822;a@d"},
        {"ORCPT": "rfc822;a+0Ab"},
        {"ORCPT": "rfc822;" + "a" * 500},
        {"ORCPT": "utf-8;a\\b"},
        {"ORCPT": "utf-8;\\x{0A}"},
        {"ORCPT": "utf-8;\\x{D800}"},
        {"ORCPT": "utf-8;\\x{FFFFFF}"},
    ],
)
def test_rcpt_parameters_refused(raw: dict[str, str]) -> None:
    with pytest.raises(BadSyntax):
        rcpt_parameters(raw, RCPT)


@pytest.mark.parametrize(
    "name", ["mail.example.lan", "[192.0.2.1]", "printer", "PC_of(bob)", "münchen", "-", "x" * 255]
)
def test_helo(name: str) -> None:
    assert parse_helo(name.encode()) == name


@pytest.mark.parametrize(
    "argument",
    [b"", b"a b", b"a\tb", b"a\0", b"a\x1b[2J", b"\xff", "a\u2028".encode(), "\u00a0".encode(), b"x" * 256],
)
def test_helo_refused(argument: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse_helo(argument)


@pytest.mark.parametrize(
    ("argument", "chunk"),
    [
        (b"0", Chunk(0, False)),
        (b"86 LAST", Chunk(86, True)),
        (b"86  last ", Chunk(86, True)),
        (b"86 ", Chunk(86, False)),
        (b"9" * 20, Chunk(10**20 - 1, False)),
        (b"5 FIRST", Chunk(5, False, False)),
        (b"5 LAST LAST", Chunk(5, False, False)),
    ],
)
def test_bdat(argument: bytes, chunk: Chunk) -> None:
    assert parse_bdat(argument) == chunk


@pytest.mark.parametrize(
    "argument",
    [b"", b"LAST", b"-1", b"+1", b"1_0", b"1.0", b"0x10", b"9" * 21, b"5LAST", b"5\tLAST", b"\xd9\xa1"],
)
def test_bdat_without_a_size(argument: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse_bdat(argument)


@pytest.mark.parametrize(
    "argument",
    [
        b"FROM:<a@d> SIZE=",
        b"FROM:<a@d> =1",
        b"FROM:<a@d> SIZE=1 size=2",
        b"FROM:<a@d> X=\xff",
        b"FROM:<a@d> <b@d>",
    ],
)
def test_the_parameters_are_to_blame(argument: bytes) -> None:
    with pytest.raises(BadParameter):
        parse_mail(argument)
    with pytest.raises(BadSyntax) as caught:
        parse_mail(b"FROM:<..> X=\xc3\xbc=1")
    assert not isinstance(caught.value, BadParameter)


def test_what_is_remembered_of_an_argument_cannot_be_changed() -> None:
    address, parameters = parse_mail(b"FROM:<a@d> SIZE=1")
    with pytest.raises(TypeError):
        parameters["SIZE"] = "2"  # type: ignore[index]
    assert parse_mail(b"FROM:<a@d> SIZE=1") == (address, {"SIZE": "1"})


@pytest.mark.parametrize(
    ("argument", "name"),
    [(b"", "unknown"), (b"My Printer", "My-Printer"), (b"a\xffb\x1b", "a-b-"), (b"x" * 300, "x" * 255)],
)
def test_mend_helo(argument: bytes, name: str) -> None:
    assert mend_helo(argument) == name
