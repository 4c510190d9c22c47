"""The ``[[route]]`` tables as values."""

import pytest

from mailserver.access.routes import To
from mailserver.config import ConfigErrors, load
from mailserver.model.exchanger import Login, Security
from mailserver.model.source import Source


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
    assert (route.to, route.security, route.login, route.networks) == (To.MX, Security.MAY, None, None)
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
    assert route.smarthosts == (("relay.example", 587), ("192.0.2.9", 25))
    assert route.login == Login("relay", "s3cret")
    assert route.security is Security.VERIFY


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('to = "smarthost"', "route[0].smarthost: is missing: name a host"),
        ('smarthost = ["x"]', 'route[0].smarthost: goes with to = "smarthost"'),
        ('text = "no"', 'route[0].text: goes with to = "refuse"'),
        ('to = "smarthost"\nsmarthost = ["x"]\nusername = "u"', "go together"),
        ('to = "smarthost"\nsmarthost = ["x"]\nusername = "u"\npassword_file = "nowhere"', "cannot be read"),
        ('to = "smarthost"\nsmarthost = ["x"]\nusername = "u"\npassword_file = "empty"', "cannot be read"),
        ('to = "nowhere"', "route[0].to"),
        ('domains = ["a b"]', "route[0].domains"),
        ('tls = "perhaps"', "route[0].tls"),
    ],
)
def test_mistakes(write, text, said):
    with pytest.raises(ConfigErrors) as raised:
        load(write(f"[[route]]\n{text}"))
    assert any(said in str(problem) for problem in raised.value.problems)
