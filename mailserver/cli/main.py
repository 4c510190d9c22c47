"""``mailctl``: the group that all of the admin's commands are registered in.

Every command reads the configuration that the server reads, found in the same way. What goes wrong is told
in lines on the standard error stream, never as a traceback, and ends with exit status 1.
"""

import errno
from typing import Any

import click

from mailserver import __version__
from mailserver.cli.access import access
from mailserver.cli.alias import alias
from mailserver.cli.check import check
from mailserver.cli.configuration import configuration
from mailserver.cli.devices import devices
from mailserver.cli.domain import domain
from mailserver.cli.explain import explain
from mailserver.cli.hello import hello
from mailserver.cli.mailbox import import_mail, mailbox, restore
from mailserver.cli.queue import queue
from mailserver.cli.reload import reload
from mailserver.cli.selftest import selftest
from mailserver.cli.trace import trace
from mailserver.cli.user import user
from mailserver.config import ConfigErrors

__all__ = ["configuration", "main"]


class _Mailctl(click.Group):
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


main.add_command(access)
main.add_command(check)
main.add_command(alias)
main.add_command(devices)
main.add_command(domain)
main.add_command(explain)
main.add_command(import_mail)
main.add_command(mailbox)
main.add_command(restore)
main.add_command(hello)
main.add_command(queue)
main.add_command(reload)
main.add_command(selftest)
main.add_command(trace)
main.add_command(user)


if __name__ == "__main__":
    main()
