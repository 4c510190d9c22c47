"""The domains directory, whole: what is read, and what is wrong across files and domains."""

import os
import time

import pytest

from mailserver.domains.passwords import DECOY
from mailserver.domains.tree import directory_of, load_tree


@pytest.fixture
def make(tmp_path):
    """Makes files from ``domain/file`` names, and loads the tree."""

    def make(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        tree, problems = load_tree(tmp_path, "domains")
        return tree, [str(problem) for problem in problems if problem.fatal]

    return make


USERS = "alice:{PLAIN}x\nbob:{PLAIN}x\n"


def test_domains_are_directories(make, tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "empty.example").mkdir()
    tree, problems = make({"Example.LAN/users": USERS, "bücher.example/users": USERS, "README": "text"})
    assert problems == []
    assert list(tree.domains) == ["empty.example", "example.lan", "xn--bcher-kva.example"]
    assert tree.user_count == 4
    assert list(tree.domains["example.lan"].users) == ["alice", "bob"]
    assert directory_of(tmp_path, "example.lan") == tmp_path / "Example.LAN"
    assert directory_of(tmp_path, "xn--bcher-kva.example") == tmp_path / "bücher.example"
    assert directory_of(tmp_path, "absent.example") is None


@pytest.mark.parametrize("name", ["not a domain", "-.example", "a..b", "[192.0.2.1]", "trailing."])
def test_names_that_are_no_domain(make, tmp_path, name):
    (tmp_path / name).mkdir()
    _, problems = make({})
    assert len(problems) == 1
    assert problems[0].startswith(f"domains/{name}: ")


def test_two_spellings_of_one_domain(make):
    _, problems = make({"bücher.example/users": USERS, "xn--bcher-kva.example/users": USERS})
    assert len(problems) == 1
    assert "is the domain xn--bcher-kva.example, which another directory is already" in problems[0]


def test_no_such_directory(tmp_path):
    _, problems = load_tree(tmp_path / "absent", "domains")
    assert [str(problem) for problem in problems] == ["domains: cannot be read: No such file or directory"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(make, tmp_path):
    make({"a.example/users": USERS})
    (tmp_path / "a.example/users").chmod(0)
    _, problems = load_tree(tmp_path, "domains")
    assert "cannot be read" in str(problems[0])


def test_a_directory_where_a_file_should_be(make, tmp_path):
    (tmp_path / "a.example/users").mkdir(parents=True)
    _, problems = make({})
    assert problems == ["domains/a.example/users: cannot be read: Is a directory"]


def test_what_has_no_end_is_not_waited_for(make, tmp_path):
    (tmp_path / "a.example").mkdir()
    os.mkfifo(tmp_path / "a.example/users")
    (tmp_path / "a.example/aliases").symlink_to("/dev/zero")
    _, problems = make({})
    assert problems == [
        "domains/a.example/users: cannot be read: not a regular file",
        "domains/a.example/aliases: cannot be read: not a regular file",
    ]


def test_settings(make):
    tree, problems = make(
        {
            "a.example/users": "alice:{PLAIN}x\nbob:{PLAIN}x:quota=0\n",
            "a.example/domain.toml": 'quota = "1GB"\nseparators = "+-"\n\ncatch_all = "alice"\n',
        }
    )
    assert problems == []
    domain = tree.domains["a.example"]
    assert [user.account.quota for user in domain.users.values()] == [2**30, 0]
    assert domain.separators == "+-"
    assert str(domain.catch_all.source) == "domains/a.example/domain.toml:4"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("qouta = 1", 'domain.toml:1: qouta: unknown key, did you mean "quota"?'),
        ('\nquota = "much"', 'domain.toml:2: quota: "much" is not a size'),
        ('separators = "a"', "domain.toml:1: separators:"),
        ('separators = "@"', "domain.toml:1: separators:"),
        ('catch_all = "a b"', 'domain.toml:1: catch_all: "a b" is not an address'),
        ('catch_all = "nobody"', 'domain.toml:1: *: "nobody@a.example" does not exist'),
        ("quota = ", "domain.toml:1: not TOML:"),
    ],
)
def test_errors_in_settings(make, text, expected):
    _, problems = make({"a.example/users": USERS, "a.example/domain.toml": text})
    assert len(problems) == 1
    assert problems[0].startswith(f"domains/a.example/{expected}")


def test_two_catch_alls(make):
    _, problems = make(
        {
            "a.example/users": USERS,
            "a.example/aliases": "*: bob\n",
            "a.example/domain.toml": 'catch_all = "alice"',
        }
    )
    assert problems == [
        "domains/a.example/aliases:1: *: there is one in domains/a.example/domain.toml:1 already"
    ]


def test_a_name_is_a_user_or_an_alias(make):
    _, problems = make({"a.example/users": USERS, "a.example/aliases": "x: bob\nAlice: bob\n"})
    assert len(problems) == 1
    assert problems[0].startswith(
        "domains/a.example/aliases:2: alice: is a user too (domains/a.example/users:1)"
    )


def test_targets_must_exist_where_we_host(make):
    _, problems = make(
        {
            "a.example/users": USERS,
            "a.example/aliases": "x: alice+tag, y, postmaster, who@else.example,\n  nobody, gone@b.example\ny: bob@b.example\n",
            "b.example/users": USERS,
        }
    )
    assert problems == [
        'domains/a.example/aliases:2: x: "nobody@a.example" does not exist',
        'domains/a.example/aliases:2: x: "gone@b.example" does not exist',
    ]


def test_a_target_for_the_catch_all_alone_is_a_slip(make):
    _, problems = make({"a.example/users": USERS, "a.example/aliases": "sales: alcie\n*: alice\n"})
    assert problems == [
        'domains/a.example/aliases:1: sales: "alcie@a.example" does not exist; only the catch-all would take it'
    ]


@pytest.mark.parametrize(
    ("aliases", "expected"),
    [
        ("x: x", "aliases:1: x: runs in a circle: x -> x"),
        ("x: y\ny: alice, z\nz: x", "aliases:1: x: runs in a circle: x -> y -> z -> x"),
        ("w: x\nx: y\ny: x", "aliases:2: x: runs in a circle: x -> y -> x"),
        ("x: x+tag", "aliases:1: x: runs in a circle: x -> x"),
        (
            "postmaster: x\nx: postmaster",
            "aliases:1: postmaster: runs in a circle: postmaster -> x -> postmaster",
        ),
    ],
)
def test_circles(make, aliases, expected):
    _, problems = make({"a.example/users": USERS, "a.example/aliases": aliases})
    assert problems == [f"domains/a.example/{expected}"]


def test_a_circle_through_two_domains(make):
    _, problems = make({"a.example/aliases": "x: x@b.example\n", "b.example/aliases": "x: x@a.example\n"})
    assert problems == ["domains/a.example/aliases:1: x: runs in a circle: x -> x@b.example -> x"]


def test_diamonds_are_no_circles(make):
    _, problems = make({"a.example/users": USERS, "a.example/aliases": "w: x, y\nx: z\ny: z\nz: bob\n"})
    assert problems == []


def test_a_very_long_chain(make):
    chain = "".join(f"a{number}: a{number + 1}\n" for number in range(20_000))
    _, problems = make({"a.example/users": USERS, "a.example/aliases": chain + "a20000: alice\n"})
    assert problems == []
    _, problems = make({"a.example/users": USERS, "a.example/aliases": chain + "a20000: a0\n"})
    assert len(problems) == 1
    assert len(problems[0]) < 300


def test_mistyped_file_names_are_warned_of(make, tmp_path):
    make({"a.example/user": USERS, "a.example/users~": USERS})
    _, problems = load_tree(tmp_path, "domains")
    assert [str(problem) for problem in problems] == [
        'domains/a.example/user: is not read, did you mean "users"?'
    ]
    assert not problems[0].fatal


def test_many_domains(make, tmp_path):
    users = "".join(f"user{number}:{DECOY}\n" for number in range(10))
    for number in range(1000):
        directory = tmp_path / f"domain{number}.example"
        directory.mkdir()
        (directory / "users").write_text(users)
        (directory / "aliases").write_text("postmaster: user1\nsales: user2, user3\n")
    started = time.process_time()
    tree, problems = load_tree(tmp_path, "domains")
    assert (len(tree.domains), tree.user_count, problems) == (1000, 10_000, ())
    assert time.process_time() - started < 10  # about half a second on an idle machine
