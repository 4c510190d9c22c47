"""mailctl explain: the decisions of the server, with their lines."""

import pytest

ROUTES = """[relay]
networks = ["192.0.2.0/24"]
[[route]]
domains = ["a.example"]
users = ["bob@a.example"]
to = "lmtp"
lmtp = "unix:/run/lmtp"
[[route]]
domains = ["backup.example"]
to = "backup"
recipients = ["ann"]
[[route]]
domains = ["piped.example"]
to = "pipe"
command = ["/bin/cat", "{user}"]
[[route]]
domains = ["gone.example"]
to = "refuse"
text = "no more"
[[route]]
domains = ["void.example"]
to = "discard"
[[route]]
domains = ["plain.example"]
[[route]]
domains = [".isp.example"]
to = "smarthost"
smarthost = ["smtps://relay.example", "[2001:db8::1]:587"]
"""


@pytest.fixture
def explained(site, mailctl):
    path = site / "mailserver.toml"
    path.write_text(path.read_text() + ROUTES)
    with (site / "domains" / "a.example" / "aliases").open("a") as aliases:
        aliases.write("away: alice, carol@x.example\nscan: |/bin/scan\n")

    def run(*arguments):
        return mailctl("explain", *arguments).splitlines()

    return run


LAN = ("--client", "192.0.2.7")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["alice@a.example"],
            [
                "alice@a.example: the mailbox alice@a.example (domains/a.example/users:2)",
                "  taken: the recipient lives here (domains/a.example/users:2)",
                "  alice@a.example goes to the mailbox alice@a.example (domains/a.example/users:2)",
            ],
        ),
        (
            ["alice@a.example", "--user", "bob@a.example"],
            [
                "alice@a.example: the mailbox alice@a.example (domains/a.example/users:2)",
                "  taken: the recipient lives here (domains/a.example/users:2)",
                "  alice@a.example goes by lmtp to /run/lmtp (mailserver.toml:8)",
            ],
        ),
        (
            ["eve@a.example"],
            [
                "eve@a.example: nobody in a domain that is hosted here (domains/a.example/users)",
                "  refused: no user eve@a.example in a domain hosted here (domains/a.example/users)",
            ],
        ),
        (
            ["away@a.example"],
            [
                "away@a.example: an alias for alice@a.example, carol@x.example (domains/a.example/aliases:3)",
                "  taken: the recipient lives here (domains/a.example/aliases:3)",
                "  alice@a.example goes to the mailbox alice@a.example (domains/a.example/users:2)",
                "  carol@x.example goes to the mail hosts of x.example",
            ],
        ),
        (
            ["scan@a.example"],
            [
                "scan@a.example: an alias for |/bin/scan (domains/a.example/aliases:4)",
                "  taken: the recipient lives here (domains/a.example/aliases:4)",
                "  scan@a.example goes to the program /bin/scan (domains/a.example/aliases:4)",
            ],
        ),
        (
            ["x@y.example", "--from", "<>"],
            [
                "x@y.example: in a domain that is not hosted here",
                "  refused: y.example is not hosted here, and the client is in no relay network (built-in)",
            ],
        ),
        (
            ["x@mx.isp.example", *LAN, "--from", "bob@a.example"],
            [
                "x@mx.isp.example: in a domain that is not hosted here",
                "  taken: relayed for 192.0.2.0/24 (mailserver.toml:7)",
                "  x@mx.isp.example goes by smarthost to smtps://relay.example:465, [2001:db8::1]:587"
                " (mailserver.toml:30)",
            ],
        ),
    ],
)
def test_explained(explained, arguments, said):
    assert explained(*arguments) == said


@pytest.mark.parametrize(
    ("domain", "way"),
    [
        ("piped.example", "goes to the program /bin/cat {user} (mailserver.toml:17)"),
        ("gone.example", "goes back: no more (mailserver.toml:21)"),
        ("void.example", "goes nowhere (mailserver.toml:25)"),
        ("plain.example", "goes to the mail hosts of plain.example (mailserver.toml:28)"),
    ],
)
def test_ways(explained, domain, way):
    assert explained(f"x@{domain}", *LAN)[-1] == f"  x@{domain} {way}"


def test_a_backup_domain(explained):
    what, taken, way = explained("ann@backup.example")
    assert what.endswith("not hosted here, for which mail is handed on (mailserver.toml:13)")
    assert taken == "  taken: mail for backup.example is handed on for anybody (mailserver.toml:13)"
    assert "better than us" in way
    _, refused = explained("eve@backup.example")
    assert refused.startswith("  refused: eve@backup.example is not among")


def test_smarthosts_for_all(site, mailctl):
    path = site / "mailserver.toml"
    path.write_text(path.read_text() + '[delivery]\nsmarthost = ["relay.example:587"]\n')
    said = mailctl("explain", "x@y.example", "--user", "bob@a.example").splitlines()
    assert said[-1] == "  x@y.example goes to the smarthosts relay.example:587 (delivery.smarthost)"


def test_no_address(mailctl):
    assert "is not an address" in mailctl("explain", "x", status=1)
