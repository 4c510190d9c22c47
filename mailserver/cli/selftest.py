"""``mailctl selftest``: the whole server, played against a made-up Internet on loopback.

Starts a real server in a temporary directory, with a DNS authority and remote mail hosts of its own, plays
the scenes of :mod:`mailserver.rehearsal.story` and tells each step with its time. Exit status 0 only if
all of it happened. Touches no configuration and no network but loopback.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from mailserver.rehearsal.server import ServerProcess, StartFailed
from mailserver.rehearsal.story import SCENES, Scene, WentWrong
from mailserver.rehearsal.world import World

__all__ = ["selftest"]


@click.command()
@click.option("--keep", is_flag=True, help="Keep the temporary directory with the server's files and log.")
def selftest(keep: bool) -> None:
    """Rehearse everything on loopback: relay, MX fallback, refusals, reports, POP3."""
    directory = Path(tempfile.mkdtemp(prefix="mailserver-selftest-"))
    failures: list[str] = []
    try:
        react(lambda reactor: Deferred.fromCoroutine(_rehearse(reactor, directory, failures)))
    except SystemExit as end:
        if end.code:
            failures.append("the rehearsal itself broke")
    if failures or keep:
        click.echo(f"\nThe server's files and its log are in {directory}")
    else:
        shutil.rmtree(directory)
    if failures:
        click.echo(f"FAILED: {'; '.join(failures)}")
        raise SystemExit(1)
    click.echo(f"\nAll {len(SCENES)} scenes went as they should.")


async def _rehearse(reactor: Any, directory: Path, failures: list[str]) -> None:
    world = World(reactor, directory)
    server = await world.start()
    try:
        await deferToThread(_tell, world, server, failures)
    finally:
        await world.stop()


def _tell(world: World, server: ServerProcess, failures: list[str]) -> None:
    """Play all scenes, in a thread. A scene that fails does not keep the next from being played."""
    started = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - started:7.3f} s  {text}")

    try:
        server.start()
        smtp, pop3 = (":".join(map(str, server.address(name))) for name in ("smtp", "pop3"))
        say(f"the server listens: SMTP at {smtp}, POP3 at {pop3}")
        for number, scene in enumerate(SCENES, 1):
            click.echo(f"\n{number}. {scene.title}")
            _play(scene, world, server, failures, say)
        click.echo()
        status = server.stop()
        say(f"the server stopped with exit status {status}")
        if status:
            failures.append(f"the server ended with exit status {status}")
    except StartFailed as refusal:
        failures.append(f"the server did not start:\n{refusal}")
    finally:
        server.kill()


def _play(scene: Scene, world: World, server: ServerProcess, failures: list[str], say: Any) -> None:
    try:
        for step in scene.play(world, server):
            say(step)
    except WentWrong as trouble:
        say(f"WENT WRONG: {trouble}")
        failures.append(scene.title)
    except Exception as trouble:  # the clients' own errors have no base in common
        say(f"WENT WRONG: {type(trouble).__name__}: {trouble}")
        failures.append(scene.title)
