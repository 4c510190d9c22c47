"""The sample and the docs name every key there is, and nothing else."""

import re
import tomllib
from pathlib import Path

import pytest

from mailserver.config.reading import load
from mailserver.config.shapes import File
from mailserver.domains.tomlfile import known_keys

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "etc" / "mailserver.toml"


def leaves(model):
    keys = [".".join(key) for key in known_keys(model)]
    return {key for key in keys if not any(other.startswith(f"{key}.") for other in keys)}


def named_in(data, above=""):
    for key, value in data.items():
        if isinstance(value, dict):
            yield from named_in(value, f"{above}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for table in value:
                yield from named_in(table, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def test_the_sample_names_every_key_and_nothing_else():
    assert set(named_in(tomllib.loads(SAMPLE.read_text()))) == leaves(File)


def test_the_sample_works_as_it_stands():
    config = load(SAMPLE)
    assert [(listen.service, listen.endpoint) for listen in config.listen] == [
        ("smtp", "tcp:2525:interface=127.0.0.1"),
        ("submission", "tcp:2587:interface=127.0.0.1"),
        ("submissions", "tcp:2465:interface=127.0.0.1"),
        ("pop3", "tcp:2110:interface=127.0.0.1"),
        ("pop3s", "tcp:2995:interface=127.0.0.1"),
    ]
    assert list(config.tree.domains) == ["example.lan"]


@pytest.mark.parametrize("text", [SAMPLE.read_text()])
def test_every_key_of_the_sample_has_a_comment(text):
    bare = [line for line in text.split("\n") if re.match(r"[a-z_]+ *=", line) and "#" not in line]
    # The first listener has them.
    assert bare == [
        line
        for service, port in [("submission", 2587), ("submissions", 2465), ("pop3", 2110), ("pop3s", 2995)]
        for line in (f'service  = "{service}"', f'endpoint = "tcp:{port}:interface=127.0.0.1"')
    ]


def test_the_docs_describe_every_key_and_nothing_else():
    text = (ROOT / "docs" / "configuration.rst").read_text()
    section = text.split("\nmailserver.toml\n---------------\n")[1].split("\ndomains/NAME/\n")[0]
    assert set(re.findall(r"^``([a-z0-9_.]+)``$", section, re.MULTILINE)) == leaves(File)


def test_the_docs_name_the_defaults_of_the_shape():
    defaults = File(hostname="mail.example.lan")
    text = (ROOT / "docs" / "configuration.rst").read_text()
    for name, value in [
        ("limits.recipients", defaults.limits.recipients),
        ("delivery.port", defaults.delivery.port),
        ("workers", defaults.workers),
        ("state", f'"{defaults.state}"'),
        ("domains", f'"{defaults.domains}"'),
    ]:
        described = text.split(f"\n``{name}``\n")[1].split("\n``")[0]
        assert f"Default: ``{value}``" in described, name
