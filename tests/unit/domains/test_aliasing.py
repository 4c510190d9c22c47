"""Changing an aliases file leaves everything else as it was."""

import pytest

from mailserver.domains.aliasing import AliasExists, NoSuchAlias, add_alias, remove_alias

TEXT = '# ours\nsales: alice,\n  bob,\n# and\n  carol\n"odd name":\n  alice\n\nteam: alice  # all\n*: bob\nbroken\n'


@pytest.fixture
def domain(tmp_path):
    (tmp_path / "aliases").write_text(TEXT)
    return tmp_path


def test_add(domain):
    add_alias(domain, "a.example", "info", ["alice", "x@elsewhere.example"])
    assert (domain / "aliases").read_text() == TEXT + "info: alice, x@elsewhere.example\n"


def test_add_to_nothing(tmp_path):
    add_alias(tmp_path, "a.example", "*", ["alice"])
    assert (tmp_path / "aliases").read_text() == "*: alice\n"


@pytest.mark.parametrize("name", ["sales", "SALES", '"odd name"', "team", "*", "sales@a.example"])
def test_an_alias_is_added_once(domain, name):
    with pytest.raises(AliasExists):
        add_alias(domain, "a.example", name, ["alice"])
    assert (domain / "aliases").read_text() == TEXT


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("Sales", '# ours\n# and\n"odd name":\n  alice\n\nteam: alice  # all\n*: bob\nbroken\n'),
        (
            '"odd name"',
            "# ours\nsales: alice,\n  bob,\n# and\n  carol\n\nteam: alice  # all\n*: bob\nbroken\n",
        ),
        ("*", TEXT.replace("*: bob\n", "")),
        ("team", TEXT.replace("team: alice  # all\n", "")),
    ],
)
def test_remove_takes_all_its_lines(domain, name, left):
    remove_alias(domain, "a.example", name)
    assert (domain / "aliases").read_text() == left


@pytest.mark.parametrize("name", ["nobody", "broken@b.example", "x y"])
def test_nothing_to_remove(domain, name):
    with pytest.raises(NoSuchAlias):
        remove_alias(domain, "a.example", name)


@pytest.mark.parametrize(
    ("name", "targets"),
    [("x", [""]), ("x", ["/var/mail/x"]), ("x", [":include:/x"]), ("x y", ["alice"]), ("x", ["a\nb: c"])],
)
def test_what_is_no_alias_is_not_written(domain, name, targets):
    with pytest.raises(ValueError, match=r"."):
        add_alias(domain, "a.example", name, targets)
    assert (domain / "aliases").read_text() == TEXT
