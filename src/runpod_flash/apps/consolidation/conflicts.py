"""Which examples are to blame when no versions meet all requirements."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from runpod_flash.apps.consolidation.declared import OURS, Example
from runpod_flash.apps.consolidation.resolving import Ran, Resolver, of_flash
from runpod_flash.errors import DependencyError

T = TypeVar("T")


def explain(examples: Sequence[Example], resolver: Resolver, ran: Ran) -> DependencyError:
    """The smallest group of examples that cannot be had together, with those of their requirements that matter."""
    ours = of_flash()
    if not resolver.can_be_had(ours):
        return DependencyError("what Flash itself needs cannot be had", why=ran.words)
    guilty = smallest(lambda some: not resolver.can_be_had([*ours, *texts(some)]), examples)
    words = resolver.compile([*ours, *texts(guilty)]).words
    with_flash = resolver.can_be_had(texts(guilty))
    names = [one.name for one in guilty] + (["Flash itself"] if with_flash else [])
    what = f"{_listed(names)} cannot be had together" if len(names) > 1 else f"what {names[0]} needs cannot be had"
    width = max(len(one.name) for one in guilty)
    lines = [f"  {one.name:<{width}}  {', '.join(_relevant(one, words))}" for one in guilty]
    return DependencyError(
        "\n".join([f"{what}; nothing was changed", *lines]),
        why=words,
        fix=f"change dependencies in {_listed([f'{one.name}/pyproject.toml' for one in guilty], 'or')}",
    )


def texts(examples: Sequence[Example]) -> list[str]:
    """The requirements of examples, as a resolver takes them; without those that mean us."""
    every = (one for example in examples for one in example.requirements)
    return list(dict.fromkeys(str(one) for one in every if one.name.lower().replace("_", "-") not in OURS))


def smallest(fails: Callable[[Sequence[T]], bool], items: Sequence[T]) -> list[T]:
    """A smallest group of items that still fails, given that all of them do.

    By halves (QuickXplain): with n items of which k are to blame, about k·log(n) questions.
    """

    def within(base: list[T], known: bool, rest: list[T]) -> list[T]:
        if known and fails(base):
            return []
        if len(rest) == 1:
            return rest
        left, right = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        of_right = within([*base, *left], bool(left), right)
        return [*within([*base, *of_right], bool(of_right), left), *of_right]

    return within([], False, list(items))


def _relevant(example: Example, words: str) -> list[str]:
    """The requirements of an example that uv speaks of; all, if it speaks of none (what they need is at odds)."""
    named = [
        str(one)
        for one in example.requirements
        if re.search(rf"(?<![\w.-]){re.escape(one.name)}(?![\w-])", words, re.IGNORECASE)
    ]
    return named or [str(one) for one in example.requirements]


def _listed(names: Sequence[str], word: str = "and") -> str:
    return f" {word} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
