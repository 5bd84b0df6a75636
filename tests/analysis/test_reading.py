"""What is read from the text of one function, by Python's own rules of scope."""

from __future__ import annotations

import ast
import dis
import textwrap
import types
from collections.abc import Iterator

import pytest

from runpod_flash.analysis.bytecode import facts_of_code
from runpod_flash.analysis.facts import Facts, Import
from runpod_flash.analysis.reading import Definition, facts_of


def read(text: str) -> Facts:
    """The facts of the only statement of `text`."""
    (node,) = ast.parse(textwrap.dedent(text)).body
    found: Definition = node.value if isinstance(node, ast.Expr) else node  # type: ignore[assignment]
    return facts_of(found)


def used(text: str) -> list[str]:
    return [use.name for use in read(text).uses if not use.builtin]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f(a, *b, c=1, **d): return a, b, c, d, outer", ["outer"]),
        ("def f():\n x = first\n def g(): return x, second\n return g", ["first", "second"]),
        ("def f():\n return [x for x in xs if x in ys for z in zs]", ["xs", "ys", "zs"]),
        ("def f():\n return [last := x for x in xs], last", ["xs"]),
        ("def f():\n return [x for x in xs], x", ["xs", "x"]),
        ("def f():\n class A:\n  y = 1\n  def m(self): return y\n return A", ["y"]),
        ("def f():\n class A:\n  y = 1\n  z = y\n return A", []),
        ("def f():\n class A:\n  y = y\n  z: Kind\n  w: Kind = y\n return A", ["y", "Kind"]),
        ("def f():\n try: pass\n except ValueError as e: print(e)\n with open('x') as w: w", []),
        ("def f(v):\n match v:\n  case {'a': a, **r}: a, r\n  case [b, *c]: c\n  case K(): d", ["K", "d"]),
        ("def f():\n import a.b, c as d\n from e import g as h\n return a, d, h, c", ["c"]),
        ("def f():\n del x\n return x", []),
        ("def f():\n global x\n x = 1\n return x", ["x"]),
        ("def f():\n def g():\n  global y\n  return y\n y = 2", ["y"]),
        ("def f():\n n = 0\n def g():\n  nonlocal n\n  n += 1", []),
        ("lambda x: (y for y in x if z)", ["z"]),
        ("def f():\n v: Late = 1\n return v", []),
        ("def f():\n def g(x: Hint = default) -> None: ...", ["default", "Hint"]),
        ("def f():\n if TYPE_CHECKING:\n  import never\n  use", ["TYPE_CHECKING"]),
        ("async def f():\n async for x in source:\n  async with lock as l: yield x, l", ["source", "lock"]),
        ("def f():\n return f(1)", ["f"]),
        ("class A(Base):\n x = one\n def m(self): return two, x", ["one", "two", "x"]),
        ("def f():\n return (lambda q=w: q)()", ["w"]),
    ],
)  # fmt: skip
def test_names_from_outside_are_those_that_no_scope_of_the_function_binds(text: str, names: list[str]) -> None:
    assert used(text) == names


def test_the_head_is_told_apart_from_the_body() -> None:
    found = read("@deco(options)\ndef f(x: Hint, y=DEFAULT) -> Result:\n  return body")
    assert [use.name for use in found.decorators] == ["deco", "options"]
    assert [use.name for use in found.defaults] == ["DEFAULT"]
    assert [use.name for use in found.uses] == ["body"]


def test_uses_have_their_lines_and_the_attributes_that_are_read() -> None:
    found = read("def f():\n  np.array(1)\n  return np.array(2) + np.pi")
    (use,) = found.uses
    assert (use.lines, use.members) == ((2, 3), ("array", "pi"))


def test_imports_say_what_is_asked_for_and_whether_its_failure_is_survived() -> None:
    found = read(
        """
        def f():
            import a.b as c
            from . import sibling
            from ..up.x import y as z
            try:
                import fast
            except ImportError:
                import slow
            else:
                import after
            with contextlib.suppress(ModuleNotFoundError):
                import maybe
            if importlib.util.find_spec("asked"):
                import asked
            try:
                import unguarded
            except ValueError:
                pass
            try:
                def later():
                    import inside
            except ImportError:
                pass
            importlib.import_module("dynamic.part")
            __import__("older")
        """
    )
    assert [one.module for one in found.imports if one.guarded] == ["fast", "maybe", "asked"]
    assert found.imports[:3] == (
        Import("a.b", 3, binds=("c",)),
        Import("", 4, ("sibling",), 1, binds=("sibling",)),
        Import("up.x", 5, ("y",), 2, binds=("z",)),
    )
    open_ones = [one.module for one in found.imports if not one.guarded][3:]
    assert open_ones == ["slow", "after", "unguarded", "inside", "dynamic.part", "older"]


def test_changes_of_what_is_outside_are_found_and_others_are_not() -> None:
    found = read(
        """
        def f(given):
            global TOTAL
            TOTAL += 1
            SEEN[given] = 1
            del SEEN[given]
            CONFIG.deep["x"] = 2
            state.count = 3
            RESULTS.append(given)
            TABLE["a"].update(b=1)
            own = []
            own.append(1)
            given.pop()
            given["x"] = RESULTS[0]
            print(SEEN.get(given))
        """
    )
    assert [(one.text, one.how, one.through) for one in found.mutations] == [
        ("TOTAL += …", "bind", ()),
        ("SEEN[given] = …", "item", ()),
        ("del SEEN[given]", "item", ()),
        ("CONFIG.deep['x'] = …", "item", ("deep",)),
        ("state.count = …", "attribute", ()),
        ("RESULTS.append(…)", "call", ()),
        ("TABLE['a'].update(…)", "call", ("[]",)),
    ]


def test_nonlocal_names_of_an_outer_function_are_assigned_outside() -> None:
    found = read("def f():\n  nonlocal n\n  def g():\n    nonlocal n\n    n += 1\n  n = 2")
    assert [(one.name, one.line) for one in found.mutations] == [("n", 5), ("n", 6)]


def test_a_use_that_survives_a_name_error_is_guarded() -> None:
    found = read("def f():\n  try:\n    x = maybe\n  except NameError:\n    x = fallback\n  return x")
    assert {use.name: use.guarded for use in found.uses if not use.builtin} == {"maybe": True, "fallback": False}


SAMPLES = """
def plain(a, b=default):
    c = a + CONST
    def inner(d):
        nonlocal c
        c = d + helper(d)
        return [c + e for e in items if e not in skipped]
    class Local(Base):
        y = y_outer
        late = late
        def method(self):
            return y, inner
    return inner, Local, {k: v for k, v in pairs.items()}, (lambda z: z + w)

async def assigned():
    global counter
    counter = counter + 1
    async for one in stream:
        yield one

def imports():
    import os.path as p, json
    from . import near
    return p, json, near, late
"""


def samples() -> Iterator[tuple[Definition, types.CodeType]]:
    tree = ast.parse(SAMPLES)
    code = compile(SAMPLES, "<samples>", "exec")
    codes = {one.co_name: one for one in code.co_consts if isinstance(one, types.CodeType)}
    for node in tree.body:
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield node, codes[node.name]


@pytest.mark.parametrize("node_and_code", list(samples()), ids=lambda pair: str(pair[0].name))
def test_text_and_code_agree_on_names_imports_and_assignments(node_and_code: tuple[Definition, types.CodeType]) -> None:
    node, code = node_and_code
    text, compiled = facts_of(node), facts_of_code(code)
    assert {use.name for use in text.uses} == {use.name for use in compiled.uses}, dis.Bytecode(code).dis()
    assert [(one.module, one.level) for one in text.imports] == [(one.module, one.level) for one in compiled.imports]
    assert {one.name for one in text.mutations if one.how == "bind"} == {one.name for one in compiled.mutations}
