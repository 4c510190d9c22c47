"""The ``[[route]]`` tables as values."""

import pwd

import pytest
import trustme

from mailserver.access.routes import Identity, Pipe, To
from mailserver.config.reading import ConfigErrors, load
from mailserver.interfaces import Relayed
from mailserver.model.address import Address
from mailserver.model.exchanger import Login, Manner, NextHop, Security
from mailserver.model.source import Source
from mailserver.settings import relay_domains, schedules, unable, unwise


@pytest.fixture
def write(tmp_path):
    (tmp_path / "domains").mkdir()
    (tmp_path / "relay.password").write_text("s3cret\r\nnothing\n")
    (tmp_path / "empty").write_text("\n")

    def write(text):
        path = tmp_path / "mailserver.toml"
        path.write_text(f'hostname = "mail.example.lan"\n{text}')
        return path

    return write


def test_defaults(write):
    config = load(write("[[route]]"))
    (route,) = config.delivery.routes
    assert (route.to, route.manner, route.networks) == (To.MX, Manner(), None)
    assert route.source == Source("mailserver.toml", 2)


def test_all_keys(write):
    (route,) = load(
        write(
            """[[route]]
domains = ["Example.ORG", ".example.net"]
senders = ["example.lan"]
networks = ["192.0.2.0/24"]
users = ["Ann@Example.lan"]
to = "smarthost"
smarthost = ["relay.example:587", "192.0.2.9"]
username = "relay"
password_file = "relay.password"
tls = "verify"
"""
        )
    ).delivery.routes
    assert route.domains == {"example.org", ".example.net"}
    assert route.senders == {"example.lan"}
    assert route.networks.match("192.0.2.7") == route.source
    assert route.users == {"ann@example.lan"}
    assert route.hops == (NextHop("relay.example", 587), NextHop("192.0.2.9"))
    assert route.manner == Manner(Security.VERIFY, Login("relay", "s3cret"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('to = "smarthost"', "route[0].smarthost: is missing: name a host"),
        ('smarthost = ["x"]', 'route[0].smarthost: goes with to = "smarthost"'),
        ('text = "no"', 'route[0].text: goes with to = "refuse"'),
        ('to = "smarthost"\nsmarthost = ["x"]\nusername = "u"', "go together"),
        ('to = "smarthost"\nsmarthost = ["x"]\nusername = "u"\npassword_file = "nowhere"', "cannot be read"),
        ('to = "smarthost"\nsmarthost = ["x"]\nusername = "u"\npassword_file = "empty"', "cannot be read"),
        ('smarthost = ["smtps://x:"]', "route[0].smarthost"),
        ('to = "smarthost"\nsmarthost = ["smtps://x"]\ntls = "none"', "route[0].tls"),
        ('to = "lmtp"', "route[0].lmtp: is missing"),
        ('to = "lmtp"\nlmtp = "unix:run/lmtp"', "no absolute path"),
        (f'to = "lmtp"\nlmtp = "unix:/{"x" * 107}"', "too long"),
        ('to = "lmtp"\nlmtp = "x:y"', "route[0].lmtp"),
        ('lmtp = "x"', 'route[0].lmtp: goes with to = "lmtp"'),
        ('tls = "verify"\ntls_roots = "nowhere"', "route[0].tls_roots"),
        ('tls = "verify"\ntls_roots = "empty"', "holds no certificate"),
        ('[delivery]\ntls = "none"\nsmarthost = ["smtps://x"]', "delivery.tls"),
        ('to = "pipe"', "route[0].command: is missing"),
        ('command = ["x"]', 'route[0].command: goes with to = "pipe"'),
        ('to = "pipe"\ncommand = ["x", "{nobody}"]', '"{nobody}" stands for nothing'),
        ('to = "pipe"\ncommand = ["{user}"]', "does not depend on the message"),
        ('to = "pipe"\ncommand = ["/bin/sh", "-c", "scan {user}"]', "a shell would run what strangers write"),
        ('to = "pipe"\ncommand = ["bash", "-e", "-uc", "scan \'{sender}\'"]', '"{sender}" behind it'),
        ('to = "pipe"\ncommand = ["x"]\nuser = "no such user"', "route[0].user: there is no user"),
        ('to = "pipe"\ncommand = ["x"]\nprocesses = 0', "route[0].processes"),
        ('to = "backup"', "route[0].domains"),
        ('to = "backup"\ndomains = [".example.org"]', "route[0].domains: mail is taken for listed domains"),
        ('to = "backup"\ndomains = ["example.org"]\nsenders = ["x.example"]', "route[0].senders"),
        ('to = "backup"\ndomains = ["example.org"]\nusers = ["a@x.example"]', "route[0].users"),
        ('to = "backup"\ndomains = ["example.org"]\nrecipients = ["a@x.example"]', "route[0].recipients"),
        ('to = "backup"\ndomains = ["example.org"]\nrecipients_file = "nowhere"', "nowhere: no such file"),
        ('to = "mx"\ndomains = ["example.org"]\naccept = true', 'say to = "backup"'),
        ('to = "refuse"\ndomains = ["example.org"]\naccept = true', "route[0].accept"),
        ('recipients = ["a"]', "route[0].recipients: goes with"),
        ('lifetime = "9d"', "route[0].lifetime: goes with"),
        ('to = "nowhere"', "route[0].to"),
        ('domains = ["a b"]', "route[0].domains"),
        ('tls = "perhaps"', "route[0].tls"),
    ],
)
def test_mistakes(write, text, said):
    with pytest.raises(ConfigErrors) as raised:
        load(write(f"[[route]]\n{text}"))
    assert any(said in str(problem) for problem in raised.value.problems)


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ('to = "lmtp"\nlmtp = "unix:/run/dovecot/lmtp"', NextHop("/run/dovecot/lmtp", 0)),
        ('to = "lmtp"\nlmtp = "MDA.example"', NextHop("mda.example", 24)),
        ('to = "lmtp"\nlmtp = "[::1]:2424"', NextHop("::1", 2424)),
        ('to = "smarthost"\nsmarthost = ["smtps://Relay.example"]', NextHop("relay.example", 465, True)),
        ('to = "smarthost"\nsmarthost = ["smtps://[::1]:4465"]', NextHop("::1", 4465, True)),
    ],
)
def test_next_hops(write, text, hop):
    (route,) = load(write(f"[[route]]\n{text}")).delivery.routes
    assert route.hops == (hop,)
    assert route.manner.lmtp is (route.to is To.LMTP)


def test_roots_of_ones_own(write, tmp_path):
    pem = trustme.CA().cert_pem.bytes()
    (tmp_path / "ca.pem").write_bytes(pem)
    (route,) = load(write('[[route]]\ntls = "verify"\ntls_roots = "ca.pem"')).delivery.routes
    assert route.manner.roots == pem
    # What a domain publishes may ask for a certificate that the route does not ask for.
    assert not load(write('[[route]]\ntls_roots = "ca.pem"')).problems[1:]
    (warning,) = load(write('[[route]]\nto = "lmtp"\nlmtp = "unix:/lmtp"\ntls_roots = "ca.pem"')).problems[1:]
    assert str(warning) == "mailserver.toml:5: route[0].tls_roots: has no effect: no TLS is spoken there"


def test_a_route_to_the_mail_hosts_of_a_hosted_domain(write, tmp_path):
    (tmp_path / "domains" / "example.lan").mkdir()
    problems = load(write('[[route]]\ndomains = ["example.lan"]')).problems
    assert "example.lan is hosted here" in str(problems[-1])
    problems = load(write('[[route]]\ndomains = ["example.lan"]\nto = "refuse"')).problems
    assert "hosted here" not in str(problems[-1])


def test_backup(write, tmp_path):
    (tmp_path / "known").write_text("ben\n")
    text = """[[route]]
domains = ["backup.example"]
to = "backup"
recipients = ["Ann"]
recipients_file = "known"
lifetime = "30d"
"""
    config = load(write(text))
    (route,) = config.delivery.routes
    assert route.accepts
    assert route.recipients == {"ann@backup.example", "ben@backup.example"}
    assert not [problem for problem in config.problems if "route" in str(problem)]
    relayed = relay_domains(config)
    assert relayed.find(Address("ben", "backup.example")) == Relayed(route.source)
    assert relayed.find(Address("cat", "backup.example")) == Relayed(route.source, known=False)
    assert schedules(config)["backup.example"].lifetime == 30 * 86400


def test_a_gateway_for_anybody(write):
    text = '[[route]]\ndomains = ["inside.example"]\nto = "lmtp"\nlmtp = "unix:/lmtp"\naccept = true'
    config = load(write(text))
    assert config.delivery.routes[0].recipients is None
    assert "nobody is listed" in str(config.problems[-1])


def test_mail_is_not_taken_for_anybody_in_a_hosted_domain(write, tmp_path):
    (tmp_path / "domains" / "example.lan").mkdir()
    with pytest.raises(ConfigErrors) as raised:
        load(write('[[route]]\ndomains = ["example.lan"]\nto = "backup"'))
    assert "example.lan is hosted here" in str(raised.value.problems[-1])


def test_pipe(write):
    text = """[[route]]
to = "pipe"
command = ["/bin/sh", "-c", "cat", "{recipient}"]
user = "nobody"
each = false
timeout = "9s"
processes = 2
"""
    config = load(write(text))
    user = pwd.getpwnam("nobody")
    identity = Identity("nobody", user.pw_uid, user.pw_gid, user.pw_dir)
    assert config.delivery.routes[0].pipe == Pipe(
        ("/bin/sh", "-c", "cat", "{recipient}"), identity, False, 9.0, 2
    )
    assert unable(config, 0) == unable(config, user.pw_uid) == []
    (problem,) = unable(config, 4711)
    assert "runs as root" in str(problem)
    assert unwise(config, 0) == []


def test_a_program_that_would_run_as_root(write):
    config = load(write('[[route]]\nto = "pipe"\ncommand = ["/bin/cat"]'))
    (warning,) = unwise(config, 0)
    assert str(warning) == "mailserver.toml:2: route.user: the program runs as root: name a user"
    assert not warning.fatal
    assert unwise(config, 4711) == []


def test_a_program_that_is_not_there(write):
    config = load(write('[[route]]\nto = "pipe"\ncommand = ["/no/such/program"]'))
    assert "cannot be run now" in str(config.problems[-1])


def test_what_a_shell_is_given_behind_its_script_is_no_script(write):
    command = """["sh", "-c", 'exec scan "$1" {queue_id}', "sh", "{user}"]"""
    (route,) = load(write(f'[[route]]\nto = "pipe"\ncommand = {command}')).delivery.routes
    assert route.pipe.command[-1] == "{user}"
