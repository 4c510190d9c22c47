"""mailctl, from its command line to the files."""

import fcntl
import os
import signal
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mailserver.cli.main import main
from mailserver.domains.passwords import verify
from mailserver.domains.users import split_user_line


def users(site: Path) -> str:
    return (site / "domains/a.example/users").read_text()


class TestCheck:
    def test_ok(self, mailctl):
        assert mailctl("check") == (
            "domains/a.example/users:2: 2 passwords, from here on, are readable {PLAIN}: set them with "
            "mailctl user passwd (warning)\nok: 1 domain, 2 users, 1 listener\n"
        )

    def test_all_problems_and_status_1(self, mailctl, site):
        (site / "domains/a.example/aliases").write_text("sales: nobody\n")
        (site / "mailserver.toml").write_text('hostnam = "x"\n[relay]\nnetworks = ["192.168.0.0/33"]\n')
        lines = mailctl("check", status=1).split("\n")
        assert 'mailserver.toml:1: hostnam: unknown key, did you mean "hostname"?' in lines
        assert 'mailserver.toml:3: relay.networks[0]: "192.168.0.0/33" is not a network' in lines
        assert 'domains/a.example/aliases:1: sales: "nobody@a.example" does not exist' in lines

    def test_no_configuration(self, site):
        result = CliRunner().invoke(main, ["--config", str(site / "absent"), "check"])
        assert result.exit_code == 1
        assert "no such file" in result.output


class TestUser:
    def test_add_from_the_input(self, mailctl, site):
        output = mailctl(
            "user", "add", "Carol@a.example", "--password-stdin", "--quota", "1GB", input="s3cret\n"
        )
        assert output == "added Carol@a.example\n"
        before, line, _ = users(site).rsplit("\n", 2)
        assert before == "# people\nalice:{PLAIN}secret:quota=50MB\nbob:{PLAIN}other"
        name, stored, options = split_user_line(line)
        assert name == "Carol"
        assert options.startswith("quota=1GB:scram=")
        assert stored.startswith("{ARGON2ID}")
        assert verify(stored, b"s3cret")
        assert "3 users" in mailctl("check")

    def test_add_asks_twice(self, mailctl, site):
        mailctl("user", "add", "carol@a.example", input="s3cret\ns3cret\n")
        assert "carol:{ARGON2ID}" in users(site)

    def test_add_with_two_different_passwords_asks_on(self, mailctl, site):
        mailctl("user", "add", "carol@a.example", input="one\ntwo\n", status=1)
        assert "carol" not in users(site)

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["alice@a.example"], "alice@a.example exists already"),
            (["ALICE@a.example"], "ALICE@a.example exists already"),
            (["sales@a.example"], "domains/a.example/aliases:2)"),
            (["carol@b.example"], "b.example is not hosted here"),
            (["carol"], '"carol" is not an address'),
            (["../x@a.example"], "is not an address"),
            (["carol@../../etc"], "is not an address"),
            (["carol@a.example", "--quota", "much"], '"much" is not a size'),
            (["carol@a.example", "--quota", "1GB:x"], "is not a size"),
        ],
    )
    def test_add_refused(self, mailctl, site, arguments, expected):
        before = users(site)
        assert expected in mailctl("user", "add", *arguments, "--password-stdin", input="x\n", status=1)
        assert users(site) == before

    @pytest.mark.parametrize("password", ["\n", "", "x" * 1025 + "\n", "a\0b\n", "x" * 100_000])
    def test_impossible_passwords(self, mailctl, site, password):
        output = mailctl("user", "add", "carol@a.example", "--password-stdin", input=password, status=1)
        assert "the password" in output
        assert "carol" not in users(site)

    def test_the_first_user_of_a_new_domain(self, mailctl, site):
        (site / "domains/b.example").mkdir()
        mailctl("user", "add", "carol@b.example", "--password-stdin", input="x\n")
        file = site / "domains/b.example/users"
        assert file.read_text().startswith("carol:{ARGON2ID}")
        assert file.stat().st_mode & 0o777 == 0o600

    def test_names_that_need_quotes(self, mailctl, site):
        mailctl("user", "add", '"john doe"@a.example', "--password-stdin", input="x\n")
        mailctl("user", "add", "#1@a.example", "--password-stdin", input="x\n")
        assert "4 users" in mailctl("check")
        mailctl("user", "remove", "#1@a.example")
        mailctl("user", "remove", '"john doe"@a.example')
        assert "2 users" in mailctl("check")

    def test_passwd(self, mailctl, site):
        mailctl("user", "passwd", "alice@a.example", "--password-stdin", input="new\n")
        _, line, rest = users(site).split("\n", 2)
        name, stored, options = split_user_line(line)
        assert (name, rest) == ("alice", "bob:{PLAIN}other\n")
        assert options.startswith("quota=50MB:scram=")
        assert verify(stored, b"new")
        assert "does not exist" in mailctl("user", "passwd", "zoe@a.example", "--password-stdin", status=1)

    def test_passwd_mends_a_broken_line(self, mailctl, site):
        (site / "domains/a.example/users").write_text("alice:broken\n")
        mailctl("check", status=1)
        mailctl("user", "passwd", "alice@a.example", "--password-stdin", input="new\n")
        mailctl("check")

    def test_remove(self, mailctl, site):
        mailctl("user", "remove", "bob@a.example")
        assert users(site) == "# people\nalice:{PLAIN}secret:quota=50MB\n"
        assert "does not exist" in mailctl("user", "remove", "bob@a.example", status=1)

    def test_remove_would_leave_an_alias_hanging(self, mailctl, site):
        output = mailctl("user", "remove", "alice@a.example", status=1)
        assert "alice@a.example is a target of postmaster (domains/a.example/aliases:1)" in output.replace(
            f"{site}/", ""
        )
        assert "alice" in users(site)

    def test_list(self, mailctl):
        expected = "alice@a.example  quota=50MB  empty\nbob@a.example    quota=-  empty\n"
        assert mailctl("user", "list") == expected
        assert mailctl("user", "list", "A.example") == expected
        assert "is not hosted here" in mailctl("user", "list", "b.example", status=1)
        assert "is not a domain" in mailctl("user", "list", "not a domain", status=1)

    def test_an_unwritable_directory_is_told(self, mailctl, monkeypatch):
        def fail(*arguments, **options):
            raise PermissionError(13, "Permission denied", "users")

        monkeypatch.setattr("mailserver.domains.rewriting.tempfile.mkstemp", fail)
        output = mailctl("user", "remove", "bob@a.example", status=1)
        assert output == "Error: users: Permission denied\n"


class TestDomain:
    def test_list(self, mailctl, site):
        (site / "domains/bücher.example").mkdir()
        assert mailctl("domain", "list") == (
            "a.example              users=2  aliases=2\nxn--bcher-kva.example  users=0  aliases=0\n"
        )


class TestReload:
    @pytest.fixture
    def signals(self, monkeypatch):
        sent = []
        monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
        return sent

    @pytest.fixture
    def lock(self, site):
        path = site / "var/run/lock"
        path.parent.mkdir(parents=True)
        path.write_text("4711\n")
        with path.open() as file:
            yield file

    def test_the_running_server_is_told(self, mailctl, signals, lock):
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "process 4711" in mailctl("reload")
        assert [it for it in signals if it[1]] == [(4711, signal.SIGHUP)]  # 0 asks whether it lives

    def test_a_lock_that_nobody_holds_gets_no_signal(self, mailctl, signals, lock):
        assert "no server runs" in mailctl("reload", status=1)
        assert signals == []

    def test_no_lock_at_all(self, mailctl, signals):
        assert "no server runs" in mailctl("reload", status=1)

    def test_a_wrong_configuration_is_not_even_tried(self, mailctl, signals, lock, site):
        fcntl.flock(lock, fcntl.LOCK_EX)
        (site / "domains/a.example/users").write_text("broken\n")
        assert "domains/a.example/users:1: broken:" in mailctl("reload", status=1)
        assert signals == []

    @pytest.mark.parametrize("error", [ProcessLookupError, PermissionError])
    def test_a_server_that_cannot_be_told(self, mailctl, lock, monkeypatch, error):
        fcntl.flock(lock, fcntl.LOCK_EX)

        def fail(process, number):
            raise error

        monkeypatch.setattr(os, "kill", fail)
        assert "Error: " in mailctl("reload", status=1)


def test_every_command_has_help(mailctl):
    def walk(group, path):
        for name, command in group.commands.items():
            assert command.get_short_help_str(), name
            assert "Usage" in mailctl(*path, name, "--help")
            if isinstance(command, click.Group):
                walk(command, [*path, name])

    walk(main, [])
    assert "mailctl" in mailctl("--version")
