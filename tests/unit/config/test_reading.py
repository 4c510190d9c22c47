"""The configuration is read whole, and refused whole with every error named."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from mailserver.config import TLS, Config
from mailserver.config.reading import ConfigErrors, find_config, load, load_server
from mailserver.model.exchanger import NextHop
from mailserver.model.source import Source
from mailserver.net.certificates import ensure_self_signed
from mailserver.net.tls import Version


@pytest.fixture
def write(tmp_path):
    """Writes mailserver.toml, and an empty domains directory beside it."""

    def write(text: str, name: str = "mailserver.toml") -> Path:
        (tmp_path / "domains").mkdir(exist_ok=True)
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def errors_of(path: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(path)
    return [str(problem) for problem in caught.value.problems if problem.fatal]


def read(path: Path) -> Config:
    return load(path)


class TestValues:
    def test_defaults(self, write, tmp_path):
        config = read(write('hostname = "mail.example.lan"'))
        assert config.hostname == "mail.example.lan"
        assert config.state == tmp_path.parent / "var"
        assert config.domains == tmp_path / "domains"
        assert config.workers == 0
        assert config.listen == ()
        loopback = [ip_network("127.0.0.0/8"), ip_network("::1/128")]
        assert [network for network, _ in config.relay.networks] == loopback
        assert [network for network, _ in config.login.plaintext_networks] == loopback
        assert config.tls == TLS(None, tmp_path / "certs", Version.TLS_1_2)
        assert config.proxy.networks == ()
        assert config.dns.servers == ()
        assert config.dns.timeout == 5
        assert config.delivery.port == 25
        assert config.delivery.schedule.waits == (60, 300, 900, 1800, 3600, 7200, 14400)
        assert config.delivery.schedule.lifetime == 5 * 86400
        assert config.delivery.schedule.warn_after == 4 * 3600
        assert config.delivery.smarthost == ()
        assert config.delivery.loopback is False
        assert (config.delivery.connect_timeout, config.delivery.greeting_timeout) == (30, 300)
        assert (config.limits.message_size, config.limits.recipients) == (50 * 2**20, 1000)

    def test_everything_set(self, write, tmp_path):
        pair = ensure_self_signed(tmp_path, "xn--bcher-kva.example").file
        pair.rename(tmp_path / "chain.pem")
        (tmp_path / "key.pem").symlink_to(tmp_path / "chain.pem")
        config = read(
            write(
                """
hostname = "Bücher.example"
state = "/var/lib/mailserver"
workers = "auto"
[[listen]]
service = "submissions"
endpoint = "tcp6:465:interface=\\\\:\\\\:1"
[[listen]]
service = "smtp"
endpoint = "haproxy:tcp:0"
[relay]
networks = [
  "10.0.0.0/8",   # the office
  "2001:db8::1",
]
[tls]
certificate = "chain.pem"
key = "key.pem"
minimum = "1.3"
[proxy]
networks = ["192.0.2.0/24"]
[dns]
servers = ["127.0.0.1:5300", "[::1]:53", "::1", "192.0.2.1"]
timeout = "500ms"
[delivery]
port = 2525
retry = ["1s", "90s"]
lifetime = "10s"
warn_after = "0s"
smarthost = ["Relay.isp.example:587", "192.0.2.1"]
loopback = true
[limits]
message_size = 65536
"""
            )
        )
        assert config.hostname == "xn--bcher-kva.example"
        assert config.state == Path("/var/lib/mailserver")
        assert config.workers == "auto"
        assert [listen.source.line for listen in config.listen] == [5, 8]
        assert config.relay.networks == (
            (ip_network("10.0.0.0/8"), Source("mailserver.toml", 13)),
            (ip_network("2001:db8::1/128"), Source("mailserver.toml", 14)),
        )
        assert config.tls.pair == (tmp_path / "chain.pem", tmp_path / "key.pem")
        assert config.tls.default is not None
        assert config.tls.minimum is Version.TLS_1_3
        assert config.proxy.networks == ((ip_network("192.0.2.0/24"), Source("mailserver.toml", 21)),)
        assert config.dns.servers == (("127.0.0.1", 5300), ("::1", 53), ("::1", 53), ("192.0.2.1", 53))
        assert config.dns.timeout == 0.5
        assert config.delivery.schedule.waits == (1, 90)
        assert config.delivery.schedule.warn_after == 0
        assert config.delivery.smarthost == (NextHop("relay.isp.example", 587), NextHop("192.0.2.1"))
        assert config.limits.message_size == 65536

    def test_systemd_sockets_need_not_be_there_to_be_checked(self, write, monkeypatch):
        monkeypatch.delenv("LISTEN_FDS", raising=False)
        text = '[[listen]]\nservice = "smtp"\nendpoint = "systemd:domain=INET:index=0"'
        assert len(read(write(f'hostname = "a.example"\n{text}')).listen) == 1

    def test_domains_are_read_and_warnings_kept(self, write, tmp_path):
        path = write('hostname = "a.example"')
        (tmp_path / "domains/example.lan").mkdir()
        (tmp_path / "domains/example.lan/users").write_text("alice:{PLAIN}secret\n")
        config = load(path)
        assert list(config.tree.domains) == ["example.lan"]
        assert any("{PLAIN}" in problem.text for problem in config.problems)
        assert not any(problem.fatal for problem in config.problems)
        assert "secret" not in repr(config)

    def test_tools_read_the_file_alone(self, write, tmp_path):
        path = write('hostname = "a.example"')
        (tmp_path / "domains/example.lan").mkdir()
        (tmp_path / "domains/example.lan/users").write_text("wrong\n")
        assert load_server(path).tree.domains == {}

    def test_limits_below_the_rfc_are_warned_of(self, write):
        config = read(write('hostname = "a.example"\n[limits]\nrecipients = 5\nmessage_size = "1KB"'))
        warned = {problem.key for problem in config.problems}
        assert {"limits.recipients", "limits.message_size"} <= warned


class TestErrors:
    def test_all_at_once_with_file_line_and_key(self, write, tmp_path):
        path = write(
            """hostnam = "mail.example.lan"
hostname = "no domain"
[relay]
networks = [
  "127.0.0.0/8",
  "192.168.0.0/33",
  "192.168.1.5/24",
]
[delivery]
port = "25"
"""
        )
        (tmp_path / "domains/example.lan").mkdir()
        (tmp_path / "domains/example.lan/aliases").write_text("sales: nobody\n")
        assert errors_of(path) == [
            'mailserver.toml:1: hostnam: unknown key, did you mean "hostname"?',
            'mailserver.toml:2: hostname: "no domain" is not a domain: not a domain name',
            'mailserver.toml:6: relay.networks[1]: "192.168.0.0/33" is not a network',
            'mailserver.toml:7: relay.networks[2]: "192.168.1.5/24" is an address in a network; '
            'the network is "192.168.1.0/24"',
            'mailserver.toml:10: delivery.port: must be a whole number, not "25"',
            'domains/example.lan/aliases:1: sales: "nobody@example.lan" does not exist',
        ]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("workers = 65", '2: workers: 65 is not a number from 0 to 64, or "auto"'),
            ("workers = -1", '2: workers: -1 is not a number from 0 to 64, or "auto"'),
            ("workers = true", '2: workers: true is not a number from 0 to 64, or "auto"'),
            ('workers = "many"', '2: workers: "many" is not a number from 0 to 64, or "auto"'),
            ("state = 3", "2: state: must be text in quotes"),
            (
                '[[listen]]\nservice = "imap"\nendpoint = "tcp:1"',
                '3: listen[0].service: "imap" is not one of',
            ),
            ('[[listen]]\nservice = "smtp"', "2: listen[0].endpoint: is missing"),
            ('[[listen]]\nservice = "smtp"\nendpoint = "tpc:1"', "4: listen[0].endpoint:"),
            ('[[listen]]\nservice = "smtp"\nendpoint = "tcp:70000"', "4: listen[0].endpoint:"),
            ('[[listen]]\nservice = "smtp"\nendpoint = "tcp:abc"', "4: listen[0].endpoint:"),
            ('[[listen]]\nservice = "smtp"\nendpoint = "tcp"', "4: listen[0].endpoint:"),
            ('[[listen]]\nservice = "smtp"\nendpoint = "tcp:1:colour=red"', "4: listen[0].endpoint:"),
            ('[[listen]]\nservice = "smtp"\nendpoint = "tcp:1:interface=lo"', "4: listen[0].endpoint:"),
            ('[[listen]]\nservice = "smtp"\nendpoint = ""', "4: listen[0].endpoint:"),
            ('[[listen]]\nservice = "smtp"\nendpoint = "ssl:1"', "4: listen[0].endpoint:"),
            (
                '[[listen]]\nservice = "smtp"\nendpoint = "tcp:1"\n'
                '[[listen]]\nservice = "pop3"\nendpoint = "tcp:1"',
                '7: listen[1].endpoint: "tcp:1" is listened on by line 4 already',
            ),
            (
                '[[listen]]\nservice = "smtp"\nendpoint = "tcp:1"\nworkers = 0',
                "5: listen[0].workers: unknown key here; it belongs at the top",
            ),
            ('[limits]\nnetworks = ["::1"]', "3: limits.networks: unknown key here; it belongs in [relay]"),
            ('listen = "tcp:25"', "2: listen: must be a list"),
            ("[[relay]]", "2: relay: must be a table"),
            ('[dns]\ntimeout = "5"', '3: dns.timeout: "5" is not a duration'),
            ("[dns]\ntimeout = 5", "3: dns.timeout: 5 is not a duration"),
            ('[dns]\ntimeout = "0s"', '3: dns.timeout: "0s" is too short'),
            ('[dns]\nservers = ["localhost"]', '3: dns.servers[0]: "localhost" is not an IP address'),
            ('[dns]\nservers = ["127.0.0.1:0"]', "3: dns.servers[0]:"),
            ("[delivery]\nretry = []", "3: delivery.retry: names no wait"),
            ('[delivery]\nretry = ["1m",\n"x"]', '4: delivery.retry[1]: "x" is not a duration'),
            ("[delivery]\nport = 0", "3: delivery.port: must be greater than or equal to 1, not 0"),
            ('[delivery]\nloopback = "no"', "3: delivery.loopback: must be true or false"),
            ('[delivery]\nsmarthost = ["a b"]', "3: delivery.smarthost[0]:"),
            ('[delivery]\nown_names = ["a b"]', "3: delivery.own_names[0]:"),
            ("[delivery]\nown_names = [1]", "3: delivery.own_names[0]:"),
            ('[delivery]\nsmarthost = ["a.example:x"]', "3: delivery.smarthost[0]:"),
            ('[limits]\nmessage_size = "50 parsecs"', '3: limits.message_size: "50 parsecs" is not a size'),
            ("[limits]\nmessage_size = 0", "3: limits.message_size:"),
            ("[limits]\nrecipients = 0", "3: limits.recipients:"),
            (
                '[tls]\ncertificate = "absent.pem"\nkey = "k"',
                '3: tls.certificate: "absent.pem": no such file',
            ),
            ('[tls]\nkey = "k"', "2: tls.certificate: is missing"),
            ('domains = "elsewhere"', "elsewhere: cannot be read: No such file or directory"),
            ("state = ", "2: not TOML:"),
            ("[relay\n", "2: not TOML:"),
            ("state = '''\n\n", "not TOML:"),
        ],
    )
    def test_each_error_is_named(self, write, text, expected):
        told = errors_of(write(f'hostname = "mail.example.lan"\n{text}\n'))
        assert any(expected in line for line in told), told

    def test_a_file_that_is_not_there(self, tmp_path):
        assert errors_of(tmp_path / "absent.toml") == ["absent.toml: no such file"]

    def test_a_file_that_is_not_utf8(self, write, tmp_path):
        path = write("")
        path.write_bytes(b'hostname = "a.example"\n# caf\xe9\n')
        assert errors_of(path) == ["mailserver.toml:2: is not UTF-8 text"]

    def test_a_missing_name_is_the_systems(self, write, monkeypatch):
        monkeypatch.setattr("socket.gethostname", lambda: "not a name")
        assert errors_of(write(""))[0].startswith("mailserver.toml: hostname:")


class TestFindConfig:
    def test_the_option_goes_first(self, write, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/mailserver.toml").write_text("")
        path = write("", "mine.toml")
        assert find_config(str(path)) == path
        assert find_config(None) == Path("etc/mailserver.toml")

    def test_an_option_that_names_nothing_is_an_error(self, tmp_path):
        with pytest.raises(ConfigErrors, match="no such file"):
            find_config(str(tmp_path / "absent"))

    def test_nothing_anywhere(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("mailserver.config.reading._PLACES", (Path("etc/mailserver.toml"),))
        with pytest.raises(ConfigErrors, match="--config"):
            find_config(None)


class TestLogins:
    def test_lock_outs(self, write):
        login = read(write("")).login
        assert (login.failures, login.lockout, login.exempt_networks) == (10, 900.0, ())
        table = '[login]\nfailures = 3\nlockout = "1h"\nexempt_networks = ["192.0.2.0/24"]\n'
        login = read(write(table)).login
        assert (login.failures, login.lockout) == (3, 3600.0)
        assert login.exempt_networks == ((ip_network("192.0.2.0/24"), Source("mailserver.toml", 4)),)

    def test_what_cannot_be(self, write):
        errors = errors_of(write('[login]\nfailures = -1\nlockout = "0s"\nexempt_networks = ["x"]\n'))
        assert [error.split(": ")[1] for error in errors] == [
            "login.failures",
            "login.lockout",
            "login.exempt_networks[0]",
        ]
