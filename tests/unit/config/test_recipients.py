"""Who exists in domains for which mail is handed on, from a file."""

import pytest

from mailserver.config.recipients import keys_of, read_recipients

DOMAINS = ["a.example", "b.example"]


def test_a_file(tmp_path):
    path = tmp_path / "list"
    path.write_text("# who\n\nann\nBen@B.example OK\n@a.example\ncat@c.example\nx y@z\n")
    found, problems = read_recipients(path, "list", DOMAINS)
    assert found == {"ann@a.example", "ann@b.example", "ben@b.example", "x@a.example", "x@b.example"}
    assert [str(problem) for problem in problems] == [
        'list:5: "@a.example" is not an address: bad local part',
        'list:6: "cat@c.example" is in none of the domains of the route',
    ]


def test_no_file(tmp_path):
    found, problems = read_recipients(tmp_path / "none", "none", DOMAINS)
    assert found == frozenset()
    assert [str(problem) for problem in problems] == ["none: no such file"]


def test_what_is_no_address():
    with pytest.raises(ValueError, match="none of the domains"):
        list(keys_of("x@elsewhere.example", DOMAINS))
