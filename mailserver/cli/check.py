"""``mailctl check``: what the server would say of its configuration, without starting it."""

import click

from mailserver.cli.configuration import configuration
from mailserver.config.reading import ConfigErrors

__all__ = ["check"]


@click.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Check the configuration: all errors and warnings at once.

    Ends with exit status 1 if the server would not start with it.
    """
    try:
        config = configuration(context)
    except ConfigErrors as errors:
        for problem in errors.problems:
            click.echo(f"{problem}" if problem.fatal else f"{problem} (warning)")
        raise SystemExit(1) from None
    for problem in config.problems:
        click.echo(f"{problem} (warning)")
    counts = (
        _count(len(config.tree.domains), "domain"),
        _count(config.tree.user_count, "user"),
        _count(len(config.listen), "listener"),
    )
    click.echo(f"ok: {', '.join(counts)}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
