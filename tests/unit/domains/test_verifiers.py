"""SCRAM's verifiers, and what stands for those who have none."""

from mailserver.domains.directory import Directory
from mailserver.domains.domain import NO_DOMAINS, Domain, Tree
from mailserver.domains.users import parse_users
from mailserver.domains.verifiers import Verifiers
from mailserver.model.source import Source
from mailserver.wire.scram import ITERATIONS, make_verifier

ALICE = make_verifier(b"secret", b"salt-salt", 4096)


def directory(text: str) -> Directory:
    users, problems = parse_users(text, "users", "a.example")
    assert not [problem for problem in problems if problem.fatal]
    return Directory(Tree({"a.example": Domain("a.example", Source("users"), users, {})}))


def test_scram_is_offered_where_everybody_could_use_it() -> None:
    everybody = Verifiers(directory(f"alice:{{PLAIN}}x:scram={ALICE}\n"), b"key")
    assert everybody.mechanisms(None).names == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert everybody.mechanisms(lambda: {"tls-exporter": b"x"}).names[0] == "SCRAM-SHA-256-PLUS"
    some = Verifiers(directory(f"alice:{{PLAIN}}x:scram={ALICE}\nbob:{{PLAIN}}x\n"), b"key")
    assert some.mechanisms(dict).names == ("PLAIN", "LOGIN")
    assert Verifiers(Directory(NO_DOMAINS), b"key").mechanisms(dict).names == ("PLAIN", "LOGIN")


def test_a_reload_that_adds_somebody_without_one_ends_it() -> None:
    here = directory(f"alice:{{PLAIN}}x:scram={ALICE}\n")
    verifiers = Verifiers(here, b"key")
    here.replace(NO_DOMAINS)
    assert verifiers.mechanisms(None).names == ("PLAIN", "LOGIN")


def test_a_user_has_its_own_by_any_spelling() -> None:
    verifiers = Verifiers(directory(f"alice:{{PLAIN}}x:scram={ALICE}\n"), b"key")
    for name in (b"alice", b"Alice@A.EXAMPLE"):
        assert verifiers.find(name) == ALICE


def test_nobody_has_one_that_stays_the_same_and_is_nobody_elses() -> None:
    here = directory(f"alice:{{PLAIN}}x:scram={ALICE}\n")
    verifiers = Verifiers(here, b"key")
    nobody = verifiers.find(b"nobody@a.example")
    assert nobody.iterations == ITERATIONS
    assert (len(nobody.salt), len(nobody.stored_key), len(nobody.server_key)) == (16, 32, 32)
    # As that of somebody would: the same after a restart, and for every spelling of the name.
    assert Verifiers(here, b"key").find(b"NOBODY@a.example") == nobody
    assert verifiers.find(b"nobody") == nobody
    assert verifiers.find(b"somebody@a.example") != nobody
    assert Verifiers(here, b"another key").find(b"nobody@a.example") != nobody
    verifiers.find(b"\xff\xfe\0")
