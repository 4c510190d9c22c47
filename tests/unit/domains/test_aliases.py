"""The aliases file."""

import pytest

from mailserver.domains.aliases import parse_aliases
from mailserver.model.source import Source


def parse(text):
    aliases, problems = parse_aliases(text, "aliases", "example.lan")
    return aliases, [str(problem) for problem in problems]


def targets(alias):
    return [str(target) for target in alias.targets]


def test_as_in_etc_aliases():
    aliases, problems = parse(
        "# comment\n"
        "postmaster: alice\n"
        "\n"
        "Sales:      alice, Bob,\n"
        "            # a comment among them\n"
        "\tcarol@elsewhere.example   # and one behind\n"
        'scanner:    |"/usr/local/bin/file-scan --to archive, \\"really\\"", alice\n'
        'other: "|/bin/x -y"\r\n'
        "third: |/bin/x -y\n"
        "*:          alice            # catch-all\n"
    )
    assert problems == []
    assert list(aliases) == ["postmaster", "sales", "scanner", "other", "third", "*"]
    sales = aliases["sales"]
    assert targets(sales) == ["alice@example.lan", "Bob@example.lan", "carol@elsewhere.example"]
    assert sales.lines == (4, 4, 6)
    assert sales.source == Source("aliases", 4)
    assert aliases["scanner"].commands == ('/usr/local/bin/file-scan --to archive, "really"',)
    assert targets(aliases["scanner"]) == ["alice@example.lan"]
    assert aliases["other"].commands == aliases["third"].commands == ("/bin/x -y",)
    assert targets(aliases["*"]) == ["alice@example.lan"]


def test_quoted_names_and_hashes_in_words():
    aliases, problems = parse('"a b": "c, d", e#f\n"x:y": alice\njosé: müller@bücher.example\n')
    assert problems == []
    assert list(aliases) == ["a b", "x:y", "josé"]
    assert [target.local for target in aliases["a b"].targets] == ["c, d", "e#f"]
    assert aliases["josé"].targets[0].domain == "xn--bcher-kva.example"


def test_a_target_named_twice_is_one():
    aliases, _ = parse("sales: alice, alice\n")
    assert len(aliases["sales"].targets) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sales", "aliases:1: is not an alias"),
        ("sales:", "aliases:1: sales: has no target"),
        ("sales: ,", "aliases:1: sales: has no target"),
        ("  alice", "aliases:1: goes on, but there is nothing before it"),
        (": alice", 'aliases:1: "" is not an address'),
        ("a b: alice", 'aliases:1: "a b" is not an address'),
        ("sales@elsewhere.example: alice", 'aliases:1: "sales@elsewhere.example" is not in this domain'),
        ("sales: alice\nSALES: bob", "aliases:2: SALES: is in line 1 already"),
        ("sales: alice,\n  b ob", 'aliases:2: sales: "b ob" is not an address'),
        ('sales: "alice', "aliases:1: sales: a quote is not closed"),
        ("sales: /var/mail/x", "aliases:1: sales: a file is no target here"),
        ("sales: :include:/etc/list", "aliases:1: sales: :include: is not understood here"),
        ("sales: |true", "aliases:1: sales: a program is named by its absolute path"),
        ('sales: |""', "aliases:1: sales: a program is named by its absolute path"),
        ("sales: alice@@x", 'aliases:1: sales: "alice@@x" is not an address'),
    ],
)
def test_errors(text, expected):
    _, problems = parse(text)
    assert len(problems) == 1, problems
    assert problems[0].startswith(expected)


def test_all_errors_at_once():
    _, problems = parse("one\ntwo: a b, c d\nthree: fine\nfour:\n")
    assert [problem.split(": ")[0] for problem in problems] == [
        "aliases:1",
        "aliases:2",
        "aliases:2",
        "aliases:4",
    ]


def test_linear_in_hostile_lines():
    for line in ("a: " + "x ," * 100_000, 'a: "' + '\\"' * 100_000, '"' * 100_001, "a: " + "# " * 100_000):
        parse(line)
