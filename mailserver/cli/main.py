"""``mailctl``: the group that all of the admin's commands are registered in.

Every command reads the configuration that the server reads, found in the same way. What goes wrong is told
in lines on the standard error stream, never as a traceback, and ends with exit status 1.
"""

import errno
from importlib import import_module
from typing import Any

import click

from mailserver import __version__
from mailserver.config.reading import ConfigErrors

__all__ = ["main"]

_COMMANDS = {
    "access": "access:access",
    "alias": "alias:alias",
    "check": "check:check",
    "devices": "devices:devices",
    "domain": "domain:domain",
    "explain": "explain:explain",
    "hello": "hello:hello",
    "import": "mailbox:import_mail",
    "mailbox": "mailbox:mailbox",
    "queue": "queue:queue",
    "reload": "reload:reload",
    "restore": "mailbox:restore",
    "selftest": "selftest:selftest",
    "trace": "trace:trace",
    "user": "user:user",
    "workers": "workers:workers",
}
"""Each command's module and name in this package: only the one that is asked for is imported."""


class _Mailctl(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        place = _COMMANDS.get(name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(f"mailserver.cli.{module}"), attribute)
        return command

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except ConfigErrors as errors:
            for problem in errors.problems:
                click.echo(str(problem), err=True)
            context.exit(1)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            what = error.strerror or str(error)
            raise click.ClickException(f"{error.filename}: {what}" if error.filename else what) from error


@click.group(cls=_Mailctl, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mailctl")
@click.option("--config", metavar="FILE", help="The configuration; else it is looked for as the server does.")
@click.pass_context
def main(context: click.Context, config: str | None) -> None:
    """Look after the mail server."""
    context.obj = config


if __name__ == "__main__":
    main()
