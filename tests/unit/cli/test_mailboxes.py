"""mailctl's commands for users, aliases, domains and the mail that lies here."""

import os
import time
from datetime import timedelta

import pytest

from mailserver.domains.passwords import verify
from mailserver.domains.users import split_user_line
from mailserver.mailboxes.lock import Lock
from mailserver.mailboxes.undo import local_day

WORDS = b"Subject: one\nFrom: x@y.example\n\nFrom here on\n>From there\n"


@pytest.fixture
def box(site):
    """Alice's mailbox with a read and a new message."""
    box = site / "var/mail/a.example/alice"
    for part in ("tmp", "new", "cur"):
        (box / part).mkdir(parents=True)
    read = box / "cur" / f"1700000001.M1P1Q1Rx.mail,S={len(WORDS)},W={len(WORDS) + 5}:2,FS"
    read.write_bytes(WORDS)
    os.utime(read, (1_700_000_001, 1_700_000_001))
    new = box / "new" / "1700000002.M1P1Q2Rx.mail,S=12,W=14"
    new.write_bytes(b"Subject: 2\n\n")
    os.utime(new, (1_700_000_002, 1_700_000_002))
    return box


def users(site):
    return (site / "domains/a.example/users").read_text()


class TestUsers:
    def test_quota_disable_and_enable_change_one_line(self, mailctl, site):
        mailctl("user", "quota", "alice@a.example", "1GB", "--messages", "100")
        mailctl("user", "disable", "alice@a.example")
        changed = "# people\nalice:{PLAIN}secret:quota=1GB:messages=100:disabled\nbob:{PLAIN}other\n"
        assert users(site) == changed
        assert "quota=1GB  messages=100  empty  disabled" in mailctl("user", "list")
        mailctl("user", "disable", "alice@a.example")
        assert users(site) == changed
        mailctl("user", "enable", "alice@a.example")
        assert "disabled" not in users(site)
        mailctl("check")

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["quota", "zoe@a.example", "1GB"], "does not exist"),
            (["quota", "alice@a.example", "much"], "is not a size"),
            (["disable", "alice@b.example"], "not hosted"),
        ],
    )
    def test_refused(self, mailctl, site, arguments, expected):
        before = users(site)
        assert expected in mailctl("user", *arguments, status=1)
        assert users(site) == before

    def test_list_shows_use(self, mailctl, box):
        text = mailctl("user", "list", "a.example")
        assert f"alice@a.example  quota=50MB  holds {len(WORDS) + 12} octets in 2 messages (0 %)" in text


class TestBulk:
    def test_import(self, mailctl, site):
        (site / "domains/b.example").mkdir()
        (site / "new.csv").write_text(
            "address,password,quota,messages\nCarol@a.example,pass word,1GB,\n"
            '"ü@b.example",{SSHA}x8jMkHs8QWw5dsWJ7Xs0rHXJ8jE=,,7\nerik@b.example,"a,b:c",,\n'
        )
        assert "added 3 users in 2 domains" in mailctl("user", "import", str(site / "new.csv"))
        name, stored, options = split_user_line(users(site).split("\n")[-2])
        assert name == "Carol"
        assert verify(stored, b"pass word")
        assert options.startswith("quota=1GB:scram=")
        assert (site / "domains/b.example/users").read_text().startswith("ü:{SSHA}")
        assert "erik@b.example" in mailctl("user", "list", "b.example")

    def test_all_that_is_wrong_at_once_and_nothing_written(self, mailctl, site):
        (site / "new.csv").write_text(
            "address,password,quota,messages\n"
            "carol@a.example,x,,\n"
            "nobody,x,,\n"
            "a@b.example,x,,\n"
            "ALICE@a.example,x,,\n"
            "sales@a.example,x,,\n"
            "Carol@a.example,x,,\n"
            "dora@a.example,,,\n"
            "ed@a.example,x,much,\n"
            "fi@a.example,x,,many\n"
            "go@a.example,x,1GB:disabled,\n"
            "hu@a.example,{WHAT}x,,\n"
            "in@a.example,x,1,2,3\n"
        )
        before = users(site)
        output = mailctl("user", "import", str(site / "new.csv"), status=1)
        for line in range(3, 14):
            assert f"new.csv:{line}: " in output
        assert "11 of the lines are wrong" in output
        assert "new.csv:7: Carol@a.example is in line 2 already" in output
        assert users(site) == before

    @pytest.mark.parametrize("content", [b"address,password\na@a.example,\xff\n", b"\xff\xfe\x00"])
    def test_what_is_no_csv(self, mailctl, site, content):
        (site / "new.csv").write_bytes(content)
        assert "no CSV file" in mailctl("user", "import", str(site / "new.csv"), status=1)

    def test_the_first_line_names_the_columns(self, mailctl, site):
        (site / "new.csv").write_text("carol@a.example,x\n")
        assert "names the columns" in mailctl("user", "import", str(site / "new.csv"), status=1)


class TestAliases:
    def test_add_list_remove(self, mailctl, site):
        mailctl("alias", "add", "team@a.example", "alice", "bob@a.example", "out@elsewhere.example")
        mailctl("alias", "add", "*@a.example", "alice")
        assert (
            "team: alice, bob@a.example, out@elsewhere.example\n*: alice\n"
            in (site / "domains/a.example/aliases").read_text()
        )
        text = mailctl("alias", "list", "a.example")
        assert "team@a.example: alice@a.example, bob@a.example, out@elsewhere.example" in text
        assert "*@a.example: alice@a.example" in text
        mailctl("alias", "remove", "Team@a.example")
        mailctl("alias", "remove", "*@a.example")
        assert (site / "domains/a.example/aliases").read_text() == "postmaster: alice\nsales: alice\n"

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["add", "alice@a.example", "bob"], "is a user"),
            (["add", "sales@a.example", "bob"], "exists already"),
            (["add", "team@a.example", "nobody"], "does not exist"),
            (["add", "team@b.example", "bob"], "not hosted"),
            (["add", "team@a.example", "|true"], "absolute"),
            (["remove", "team@a.example"], "does not exist"),
            (["list", "b.example"], "not hosted"),
        ],
    )
    def test_refused(self, mailctl, site, arguments, expected):
        before = (site / "domains/a.example/aliases").read_text()
        assert expected in mailctl("alias", *arguments, status=1)
        assert (site / "domains/a.example/aliases").read_text() == before


class TestDomains:
    def test_add_and_remove(self, mailctl, site):
        mailctl("domain", "add", "Bücher.example")
        assert "is hosted already" in mailctl("domain", "add", "xn--bcher-kva.example", status=1)
        mailctl("alias", "add", "team@a.example", "out@bücher.example", status=1)
        mailctl("user", "add", "carol@bücher.example", "--password-stdin", input="x\n")
        mailctl("alias", "add", "team@a.example", "carol@bücher.example")
        assert "--with-users" in mailctl("domain", "remove", "bücher.example", status=1)
        assert "leads to" in mailctl("domain", "remove", "bücher.example", "--with-users", status=1)
        mailctl("alias", "remove", "team@a.example")
        mailctl("domain", "remove", "bücher.example", "--with-users")
        assert "not hosted" in mailctl("domain", "remove", "bücher.example", status=1)
        assert "xn--" not in mailctl("domain", "list")
        (aside,) = (site / "domains").glob(".xn--*")
        assert (aside / "users").exists()
        assert "not a domain" in mailctl("domain", "add", "..", status=1)


class TestMail:
    @pytest.mark.parametrize("kind", [[], ["--mbox"]])
    def test_out_and_in_again(self, mailctl, site, box, kind):
        target = site / "out"
        mailctl("mailbox", "export", "alice@a.example", str(target), *kind)
        assert "exists already" in mailctl("mailbox", "export", "alice@a.example", str(target), status=1)
        assert "imported 2" in mailctl("import", "bob@a.example", str(target))
        bob = box.parent / "bob"
        (read,) = [path for path in (bob / "cur").iterdir() if path.name.endswith(":2,FS")]
        assert read.read_bytes() == WORDS
        assert read.stat().st_mtime == 1_700_000_001
        assert f",S={len(WORDS)},W={len(WORDS) + 5}:" in read.name
        # Listing a mailbox moves what is new to cur/, without marks.
        (other,) = [path for path in bob.glob("*/*") if path != read]
        assert other.read_bytes() == b"Subject: 2\n\n"
        assert other.name.partition(":2,")[2] == ""
        assert "no faults" in mailctl("mailbox", "check", "--thoroughly")

    def test_what_is_no_mail(self, mailctl, site):
        (site / "text").write_text("text\n")
        assert "not an mbox" in mailctl("import", "bob@a.example", str(site / "text"), status=1)
        assert "neither" in mailctl("import", "bob@a.example", str(site / "domains"), status=1)
        assert "does not exist" in mailctl("import", "zoe@a.example", str(site / "text"), status=1)
        (site / "text").write_text("")
        assert "imported 0" in mailctl("import", "bob@a.example", str(site / "text"))

    def test_check_and_repair(self, mailctl, box):
        assert "1 mailbox checked, no faults" in mailctl("mailbox", "check", "alice@a.example")
        (box / "new" / "1700000003.M1P1Q3Rx.mail,S=1,W=1").write_bytes(b"longer\n")
        (box / "cur" / "1700000002.M1P1Q2Rx.mail,S=12:2,").write_bytes(b"Subject: 2\n\n")
        (box / "new" / "dir").mkdir()
        (box / "tmp").rmdir()
        (box / "maildirsize").write_bytes(b"52428800S\n1 1\n")
        output = mailctl("mailbox", "check", status=1)
        for words in ("is missing", "wrong sizes: 7, 8", "unique part", "is no file"):
            assert words in output
        assert "put right" in mailctl("mailbox", "repair", "alice@a.example")
        assert (box / "new" / "1700000003.M1P1Q3Rx.mail,S=7,W=8").exists()
        output = mailctl("mailbox", "check", "alice@a.example", status=1)
        assert "sizes" not in output
        assert "maildirsize" not in output
        assert "is missing" not in output

    def test_repair_does_not_disturb_a_session(self, mailctl, box):
        lock = Lock()
        lock.acquire(box)
        assert "fetching mail" in mailctl("mailbox", "repair", "alice@a.example", status=1)
        lock.release()
        mailctl("mailbox", "repair", "alice@a.example")

    def test_import_onto_a_disk_in_trouble(self, mailctl, site, box):
        (site / "var/mail/a.example/bob").symlink_to("/nowhere/at/all")
        text = mailctl("import", "bob@a.example", str(box), status=1)
        assert "after 0 of 2 messages" in text

    def test_an_unreadable_message(self, mailctl, box, monkeypatch):
        def refuse(path):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("mailserver.mailboxes.examining.open_message", refuse)
        assert "cannot be read" in mailctl("mailbox", "check", "--thoroughly", status=1)

    def test_a_mailbox_that_is_nobodys(self, mailctl, box):
        box.rename(box.with_name("zoe"))
        assert "nobody's name" in mailctl("mailbox", "check")
        assert "0 mailboxes" in mailctl("mailbox", "check", "alice@a.example")

    def test_restore(self, mailctl, box):
        today = local_day(time.time())
        for day, name in ((today, "1.a,S=16,W=18:2,S"), (today - timedelta(3), "2.b")):
            kept = box / "deleted" / day.isoformat() / name
            kept.parent.mkdir(parents=True)
            kept.write_bytes(b"Subject: \x1b[2J\n\n")
        listed = mailctl("restore", "alice@a.example", "--list")
        assert len(listed.splitlines()) == 2
        assert "\x1b" not in listed
        assert "restored 1 message of" in mailctl("restore", "alice@a.example", "--since", "yesterday")
        assert len(list((box / "new").iterdir())) == 2
        assert "restored 1 message of" in mailctl("restore", "alice@a.example")
        assert "restored 0 messages" in mailctl("restore", "alice@a.example")
        assert "nothing that was deleted" in mailctl("restore", "alice@a.example", "--list")
        assert "is not a day" in mailctl("restore", "alice@a.example", "--since", "never", status=1)
