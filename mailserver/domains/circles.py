"""Whether every alias leads somewhere: its targets exist, and following them comes to an end.

Only what is hosted here can be checked; addresses elsewhere are taken as they are. A target that nobody
but the catch-all would take is a slip of the pen and a problem.
"""

from collections.abc import Iterator, Mapping

from mailserver.domains.aliases import Alias
from mailserver.domains.domain import Domain
from mailserver.domains.naming import local_key
from mailserver.interfaces import Account
from mailserver.model.address import Address
from mailserver.model.source import Problem, Source

__all__ = ["check_aliases"]

_Key = tuple[str, str]  # domain, name


def check_aliases(domains: Mapping[str, Domain]) -> list[Problem]:
    """All that is wrong with where the aliases of all domains lead."""
    problems: list[Problem] = []
    # What each alias leads to among the aliases; the circles are sought in this.
    onward: dict[_Key, list[_Key]] = {}
    sources: dict[_Key, Source] = {}
    for domain in domains.values():
        for alias in _aliases_of(domain):
            key = (domain.name, alias.name)
            onward[key] = []
            sources[key] = alias.source
            for target, line in zip(alias.targets, alias.lines, strict=True):
                found = _look_up(domains, target)
                if isinstance(found, str):
                    problems.append(Problem(Source(alias.source.file, line), alias.name, found))
                elif isinstance(found, Alias):
                    onward[key].append((target.domain, found.name))
    problems += [
        Problem(sources[circle[0]], circle[0][1], "runs in a circle: " + _spell_circle(circle))
        for circle in _circles(onward)
    ]
    return problems


def _aliases_of(domain: Domain) -> Iterator[Alias]:
    yield from domain.aliases.values()
    if domain.catch_all:
        yield domain.catch_all


def _look_up(domains: Mapping[str, Domain], target: Address) -> Account | Alias | str | None:
    """What a target is; ``None`` if it is elsewhere, a text if it is nothing."""
    domain = domains.get(target.domain)
    if domain is None:
        return None
    found = domain.find(local_key(target))
    if found is not None:
        return found
    if domain.catch_all:
        return f'"{target}" does not exist; only the catch-all would take it'
    return f'"{target}" does not exist'


def _circles(onward: Mapping[_Key, list[_Key]]) -> Iterator[list[_Key]]:
    """One path for each circle met, walking everything once; by hand, because chains can be long."""
    done: set[_Key] = set()
    for start in onward:
        path: dict[_Key, Iterator[_Key]] = {}
        if start not in done:
            path[start] = iter(onward[start])
        while path:
            here = next(reversed(path))
            step = next(path[here], None)
            if step is None:
                done.add(here)
                del path[here]
            elif step in path:
                keys = list(path)
                yield keys[keys.index(step) :]
            elif step not in done:
                path[step] = iter(onward[step])


def _spell_circle(circle: list[_Key]) -> str:
    home = circle[0][0]
    names = [name if domain == home else f"{name}@{domain}" for domain, name in (*circle, circle[0])]
    if len(names) > 8:
        names[4:-3] = ["…"]
    return " -> ".join(names)
