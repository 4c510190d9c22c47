"""``mailctl workers``: what it prints. That it reaches a server is for ``tests/functional``."""

from mailserver.cli import workers
from mailserver.control.client import NoServer, Refused


def answer(monkeypatch, result):
    def ask(path, verb, request):
        assert (path.name, verb, request) == ("control", "workers.list", {})
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(workers, "ask", ask)


def test_each_is_a_line(mailctl, monkeypatch):
    one = {"number": 1, "pid": 4711, "seconds": 86400.4, "accepts": True, "sessions": 12}
    two = {"number": 2, "pid": 4720, "seconds": 0.2, "accepts": False, "sessions": 0}
    answer(monkeypatch, [one, two])
    assert mailctl("workers") == (
        "1  pid 4711  86400 s old  12 sessions\n2  pid 4720  0 s old  does not accept yet\n"
    )


def test_one_process_has_none(mailctl, monkeypatch):
    answer(monkeypatch, [])
    assert mailctl("workers") == "no workers\n"


def test_without_a_server(mailctl, monkeypatch):
    for trouble in (NoServer("no server listens"), Refused("no such verb")):
        answer(monkeypatch, trouble)
        assert str(trouble) in mailctl("workers", status=1)
