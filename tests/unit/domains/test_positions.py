"""Every key of a TOML text has its line."""

import tomllib

import pytest

from mailserver.domains.positions import locate, spell_path

SAMPLES = {
    "plain keys": ("a = 1\nb = 2", {("a",): 1, ("b",): 2}),
    "comments and blank lines": ("# a = 0\n\na = 1 # b = 2\n\n\nb = 2", {("a",): 3, ("b",): 6}),
    "tables": ("[t]\na = 1\n[u.v]\nb = 2", {("t",): 1, ("t", "a"): 2, ("u", "v"): 3, ("u", "v", "b"): 4}),
    "arrays of tables": (
        "[[l]]\na = 1\n\n[[l]]\na = 2",
        {("l",): 1, ("l", 0): 1, ("l", 0, "a"): 2, ("l", 1): 4, ("l", 1, "a"): 5},
    ),
    "tables in arrays of tables": (
        "[[l]]\n[l.t]\na = 1\n[[l]]\n[l.t]\na = 1\n[[l.m]]\nb = 1\n[[l.m]]\nb = 2",
        {("l", 0, "t", "a"): 3, ("l", 1, "t", "a"): 6, ("l", 1, "m", 0, "b"): 8, ("l", 1, "m", 1, "b"): 10},
    ),
    "an array on many lines": (
        'a = [\n  "x", # "no", ]\n  "]",\n\n  "#",\n]\nb = 1',
        {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 2): 5, ("b",): 7},
    ),
    "arrays in arrays": (
        "a = [[1,\n2], [3,\n4]]",
        {("a", 0, 0): 1, ("a", 0, 1): 2, ("a", 1): 2, ("a", 1, 0): 2, ("a", 1, 1): 3},
    ),
    "inline tables": (
        "a = { b = 1, c = { d = 2 } }\ne = [{ f = 1 },\n{ f = 2 }]",
        {("a", "b"): 1, ("a", "c", "d"): 1, ("e", 0, "f"): 2, ("e", 1, "f"): 3},
    ),
    "empty things": ("a = []\nb = {}\nc = ''\nd = 1", {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4}),
    "dotted keys": (
        "a.b.c = 1\na.b.d = 2",
        {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "b", "d"): 2},
    ),
    "dotted keys with spaces": ("a . b = 1\n[ t . u ]\nc=2", {("a", "b"): 1, ("t", "u", "c"): 3}),
    "quoted keys": (
        '"a.b" = 1\n\'c"\' = 2\n"d\\u0065" = 3\n["x]y"."z"]\n"#" = 4',
        {("a.b",): 1, ('c"',): 2, ("de",): 3, ("x]y", "z"): 4, ("x]y", "z", "#"): 5},
    ),
    "an empty quoted key": ('"" = 1\nb = 2', {("",): 1, ("b",): 2}),
    "strings that look like keys": ("a = \"b = 1\"\nc = '[d]'\ne = 1", {("a",): 1, ("c",): 2, ("e",): 3}),
    "escaped quotes": ('a = "x\\"y # "\nb = "\\\\"\nc = 1', {("a",): 1, ("b",): 2, ("c",): 3}),
    "strings on many lines": (
        'a = """\nb = 1\n"quoted" \\"""\n"""\nc = \'\'\'\nd = 1\n\'\'\'\ne = 1',
        {("a",): 1, ("c",): 5, ("e",): 8},
    ),
    "strings that end in quotes": ("a = \"\"\"x\"\"\"\"\"\nb = '''y'''''\nc = 1", {("b",): 2, ("c",): 3}),
    "empty strings on many lines": ("a = \"\"\"\"\"\"\nb = ''''''\nc = 1", {("b",): 2, ("c",): 3}),
    "dates and numbers": (
        "a = 1979-05-27 07:32:00Z # x\nb = 1_000.5e-3\nc = [1979-05-27, 07:32:00]\nd = inf",
        {("b",): 2, ("c", 1): 3, ("d",): 4},
    ),
    "CRLF line ends": (
        "a = 1\r\n[t]\r\nb = [\r\n1,\r\n2]\r\n",
        {("t",): 2, ("t", "b", 0): 4, ("t", "b", 1): 5},
    ),
    "no line end at the end": ("[t]\na = true", {("t", "a"): 2}),
    "a table after its parts": ("[t.u]\na = 1\n[t]\nb = 2", {("t", "u", "a"): 2, ("t", "b"): 4}),
    "non-ASCII": ('a = "é€"\n"ü" = 1', {("a",): 1, ("ü",): 2}),
    "nothing": ("# nothing\n", {}),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_lines(name):
    text, expected = SAMPLES[name]
    tomllib.loads(text)
    positions = locate(text)
    assert {path: positions.line(path) for path in expected} == expected


@pytest.mark.parametrize("name", SAMPLES)
def test_every_key_that_tomllib_finds_is_found(name):
    text, _ = SAMPLES[name]

    def paths(value, above=()):
        if above:
            yield above
        children = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, child in children:
            yield from paths(child, (*above, key))

    found = set(locate(text)._lines)
    wanted = set(paths(tomllib.loads(text)))
    assert wanted <= found | {path[:-1] for path in found}


def test_what_is_not_written_stands_where_its_table_does():
    positions = locate("a = 1\n[t]\n")
    assert positions.line(("t", "missing")) == 2
    assert positions.line(("missing",)) == 0


def test_paths_are_spelled_as_admins_read_them():
    assert spell_path(("relay", "networks", 2)) == "relay.networks[2]"
    assert spell_path(("listen", 0, "service")) == "listen[0].service"
    assert spell_path(()) == ""


def test_linear_time_on_a_large_file():
    text = "a = [\n" + '  "x", # comment\n' * 100_000 + "]\n"
    assert locate(text).line(("a", 99_999)) == 100_001
