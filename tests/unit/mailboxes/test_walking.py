"""Every mailbox is found, under the name it has."""

import pytest

from mailserver.mailboxes.walking import directory_of, mailboxes


@pytest.mark.parametrize(
    "name",
    ["alice@example.lan", "jörg@bücher.example", "a/../b@example.lan", "x" * 400 + "@example.lan", "bare"],
)
def test_found_again(tmp_path, name):
    (directory_of(tmp_path, name) / "cur").mkdir(parents=True)
    assert list(mailboxes(tmp_path)) == [(name, directory_of(tmp_path, name))]


def test_other_things_are_passed_over(tmp_path):
    (tmp_path / "example.lan" / "alice%broken-1" / "cur").mkdir(parents=True)
    (tmp_path / "example.lan" / "bob").mkdir()
    (tmp_path / "file").write_text("")
    assert list(mailboxes(tmp_path)) == []
    assert list(mailboxes(tmp_path / "absent")) == []
