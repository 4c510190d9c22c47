"""A configuration in a directory, and mailctl on it."""

import pytest
from click.testing import CliRunner

from mailserver.cli.main import main


@pytest.fixture
def site(tmp_path):
    """A configuration with one domain."""
    (tmp_path / "mailserver.toml").write_text(
        'hostname = "mail.a.example"\nstate = "var"\n[[listen]]\nservice = "smtp"\nendpoint = "tcp:0"\n'
    )
    domain = tmp_path / "domains" / "a.example"
    domain.mkdir(parents=True)
    (domain / "users").write_text("# people\nalice:{PLAIN}secret:quota=50MB\nbob:{PLAIN}other\n")
    (domain / "aliases").write_text("postmaster: alice\nsales: alice\n")
    return tmp_path


@pytest.fixture
def mailctl(site):
    def run(*arguments, status=0, **options):
        result = CliRunner().invoke(main, ["--config", str(site / "mailserver.toml"), *arguments], **options)
        assert result.exit_code == status, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.output

    return run
