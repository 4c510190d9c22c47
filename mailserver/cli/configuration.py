"""Which configuration a command works on: the one that ``--config`` names, or that the server would find."""

import click

from mailserver.config import Config
from mailserver.config.reading import find_config, load, load_server

__all__ = ["configuration", "server_configuration"]


def configuration(context: click.Context) -> Config:
    """The whole configuration. Raises :class:`~mailserver.config.ConfigErrors`, which ``mailctl`` prints."""
    return load(find_config(context.obj))


def server_configuration(context: click.Context) -> Config:
    """``mailserver.toml`` alone, for commands that work while something in ``domains/`` is wrong."""
    return load_server(find_config(context.obj))
