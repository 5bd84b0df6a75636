"""The names that code looks up in its module, on every version of Python that there is."""

from __future__ import annotations

import argparse
import ast
import asyncio.base_events
import dataclasses
import dis
import inspect
import tarfile
import types
import typing
from collections.abc import Iterator

from runpod_flash.payload.cloudpickle_private import module_names


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def test_they_are_those_that_dis_shows() -> None:
    for module in (argparse, ast, asyncio.base_events, dataclasses, inspect, tarfile, typing):
        whole = compile(inspect.getsource(module), module.__name__, "exec")
        for code in list(codes(whole))[1:]:
            steps = list(dis.get_instructions(code))
            of_module = {step.argval for step in steps if step.opname.endswith("_GLOBAL")}
            in_body = {step.argval for step in steps if step.opname in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")}
            stored = {step.argval for step in steps if step.opname == "STORE_NAME"}
            found = set(module_names(code))
            assert of_module | (in_body - stored) <= found <= of_module | in_body, code


def test_a_body_that_reads_a_name_before_it_binds_it_reads_the_modules() -> None:
    text = "class A:\n    limit = limit\n    own = 1\n    other = own\n"
    body = next(one for one in codes(compile(text, "<body>", "exec")) if one.co_name == "A")
    assert set(module_names(body)) == {"limit", "__name__"}
