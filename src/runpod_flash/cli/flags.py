"""The flags of one remote function, from its signature; its help, from its docstring.

parameter                       flag
n: int = 3                      --n INT
max_tokens: int                 --max-tokens INT   (also --max_tokens, also by position)
loud: bool = False              --loud/--no-loud
mode: Literal["a", "b"]         --mode a|b         (an Enum: by name or value)
sizes: list[int]                --sizes 1 --sizes 2, or --sizes '[1, 2]'
options: Options                --options JSON, or --options.field VALUE   (dict, dataclass, Pydantic model)
data: bytes                     --data @file       (@file and - are read for every parameter)
*rest, **more                   by position; --arg name=value
"""

from __future__ import annotations

import enum
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from runpod_flash.cli import reading
from runpod_flash.cli.reading import Kind, Unreadable, Word, kind_of

_EMPTY: Final = inspect.Parameter.empty
_WORDS: Final = "_words"
_MORE: Final = "_more"
_NEGATIVE: Final = re.compile(r"-\.?\d")
_MARK: Final = "\0"
"""Before a word that begins like an option and is a number. No word of a command line can have this in it."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of the function."""

    name: str
    kind: Kind
    default: Any
    how: inspect._ParameterKind
    help: str

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def is_variable(self) -> bool:
        """Whether it is `*rest` or `**more`."""
        return self.how in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

    @property
    def required(self) -> bool:
        return self.default is _EMPTY and not self.is_variable


class Call(typing.NamedTuple):
    """What was asked for: the function's arguments, and the options of `flash call` among its flags."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]


def read_call(function: Callable[..., Any], program: str, words: Sequence[str], own: Sequence[click.Option]) -> Call:
    """Reads the words after the target. Prints help and leaves, if that was asked for."""
    signature = inspect.signature(function)
    # Only help shows it, and reading it costs more than all the rest.
    about = _docstring(function) if {"-h", "--help"} & set(words) else _About("", {})
    parameters = [
        Parameter(each.name, kind_of(hint), each.default, each.kind, about.parameters.get(each.name, ""))
        for each, hint in _hinted(function, signature)
    ]
    command = _FunctionCommand(parameters, about.text, own)
    help_names = [name for name in ("-h", "--help") if name not in {each.flag for each in parameters}]
    marked = [_MARK + word if _NEGATIVE.match(word) else word for word in words]
    with command.make_context(
        program,
        marked,
        help_option_names=help_names,
        token_normalize_func=lambda name: name.replace("_", "-"),
    ) as context:
        try:
            return _Reader(parameters, signature).read(context)
        except click.UsageError as error:
            error.ctx = context
            raise


# ── the command ───────────────────────────────────────────────────────────────────────────────────


class _FunctionCommand(click.Command):
    """A command that is one function."""

    def __init__(self, parameters: Sequence[Parameter], text: str, own: Sequence[click.Option]) -> None:
        taken = {each.flag for each in parameters} | {f"--no-{each.name}" for each in parameters if each.kind.flag}
        self.own = [option for option in own if not taken & set(option.opts)]
        self.theirs: list[click.Option] = [
            option for each in parameters for option in _options_of(each, {one.flag for one in parameters})
        ]
        words = click.Argument([_WORDS], nargs=-1, metavar=_positions(parameters))
        super().__init__(name=None, help=text or None, params=[words, *self.theirs, *self.own])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The function's own flags first, then those that every call has."""
        for title, options in (("Parameters", self.theirs), ("Options of flash call", [*self.own, *self._help(ctx)])):
            records = [record for option in options if (record := option.get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def _help(self, ctx: click.Context) -> list[click.Option]:
        option = self.get_help_option(ctx)
        return [option] if option else []


def _options_of(parameter: Parameter, taken: set[str]) -> Iterator[click.Option]:
    name, kind = parameter.name, parameter.kind
    if parameter.how is inspect.Parameter.VAR_POSITIONAL:
        return
    if parameter.how is inspect.Parameter.VAR_KEYWORD:
        flag = "--arg" if "--arg" not in taken else "--more-arg"
        told = f"{parameter.help} May be repeated.".strip()
        yield click.Option([flag, _MORE], multiple=True, metavar="NAME=VALUE", help=told)
        return
    told = " ".join(filter(None, (parameter.help, _default(parameter))))
    if kind.flag:
        opposite = f"--no-{parameter.flag[2:]}"
        both = parameter.flag if opposite in taken else f"{parameter.flag}/{opposite}"
        yield click.Option([both, name], is_flag=True, default=None, help=told)
        return
    yield click.Option([parameter.flag, name], multiple=kind.many is not None, metavar=kind.label, help=told)
    for field in kind.fields:
        if f"{parameter.flag}.{field}" not in taken:
            option = f"{parameter.flag}.{field.replace('_', '-')}"
            yield click.Option([option, _field(name, field)], metavar="VALUE", hidden=len(kind.fields) > _FIELDS_SHOWN)


_FIELDS_SHOWN: Final = 12


def _field(name: str, field: str) -> str:
    return f"{name}__field__{field}"


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "[required]"
    default = parameter.default
    if default is None:
        return ""
    if isinstance(default, bool) and parameter.kind.flag:
        return f"[default: {'' if default else 'no-'}{parameter.flag[2:]}]"
    return f"[default: {_written(default)}]"


def _written(value: object) -> str:
    """A default as one would type it, or nearly."""
    try:
        said = value.name if isinstance(value, enum.Enum) else str(value) if _is_path(value) else repr(value)
    except Exception:  # noqa: BLE001 - the user's own class
        said = f"a {type(value).__name__}"
    return said if len(said) <= 60 else f"{said[:60]}…"


def _is_path(value: object) -> bool:
    return isinstance(value, os.PathLike)


def _positions(parameters: Sequence[Parameter]) -> str:
    """How the function is called by position, for the line of usage."""
    told = []
    for each in parameters:
        if each.how is inspect.Parameter.VAR_POSITIONAL:
            told.append(f"[{each.name.upper()}]...")
        elif _by_position(each):
            told.append(each.name.upper() if each.required else f"[{each.name.upper()}]")
    return " ".join(told) or "[OPTIONS]"


def _by_position(parameter: Parameter) -> bool:
    return parameter.how in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


# ── the values ────────────────────────────────────────────────────────────────────────────────────


class _Reader:
    """Values from the words of one command line; standard input can be read for one of them."""

    def __init__(self, parameters: Sequence[Parameter], signature: inspect.Signature) -> None:
        self._parameters = parameters
        self._signature = signature
        self._stdin_for = ""

    def read(self, context: click.Context) -> Call:
        given = dict(context.params)
        words = list(given.pop(_WORDS) or ())
        found: dict[str, Any] = {}
        for each in self._parameters:
            if each.how is inspect.Parameter.VAR_KEYWORD:
                found[each.name] = self._more(each, given.pop(_MORE, None) or ())
            elif each.how is inspect.Parameter.VAR_POSITIONAL:
                found[each.name] = tuple(self._value(each, [word], f"*{each.name}") for word in words)
                words = []
            else:
                self._one(each, given, words, found)
        if words:
            takes = sum(map(_by_position, self._parameters))
            raise click.UsageError(
                f"{reading.shown(_unmarked(words[0]))} is one value too many: the function takes {takes} by position"
            )
        bound = inspect.BoundArguments(self._signature, found)
        if any(found.get(each.name) for each in self._parameters if each.how is inspect.Parameter.VAR_POSITIONAL):
            bound.apply_defaults()  # what stands before *rest has to be given by position as well
        return Call(bound.args, bound.kwargs, given)

    def _one(self, each: Parameter, given: dict[str, Any], words: list[str], found: dict[str, Any]) -> None:
        typed = given.pop(each.name, None)
        fields = {name: given.pop(_field(each.name, name), None) for name in each.kind.fields}
        fields = {name: word for name, word in fields.items() if word is not None}
        if typed in (None, ()) and not fields and words and _by_position(each):
            typed = self._next_words(each, words)
        if isinstance(typed, bool):
            found[each.name] = typed
        elif fields:
            found[each.name] = self._object(each, typed, fields)
        elif typed not in (None, ()):
            found[each.name] = self._value(each, list(typed) if isinstance(typed, tuple) else [typed], each.flag)
        elif each.required:
            written = each.flag if each.kind.flag else f"{each.flag} {each.kind.label}"
            raise click.UsageError(f"Missing {written}.")

    def _next_words(self, each: Parameter, words: list[str]) -> str | tuple[str, ...]:
        """The next word; all that are left for several values, if nothing follows that could want one."""
        if each.kind.many is None or each is not self._last_by_position():
            return words.pop(0)
        rest = tuple(words)
        words.clear()
        return rest

    def _last_by_position(self) -> Parameter:
        may = (each for each in self._parameters if each.how is not inspect.Parameter.KEYWORD_ONLY)
        return [each for each in may if each.how is not inspect.Parameter.VAR_KEYWORD][-1]

    def _value(self, parameter: Parameter, words: Sequence[str], flag: str) -> Any:
        loaded = [self._load(word, flag) for word in words]
        with _explained(flag):
            if parameter.kind.many is not None and not parameter.is_variable:
                return parameter.kind.many(loaded)
            return parameter.kind.read(loaded[0])

    def _object(self, parameter: Parameter, typed: str | None, fields: dict[str, str]) -> Any:
        """JSON, if it was given too, with single fields put over it."""
        base: Any = {}
        if typed is not None:
            with _explained(parameter.flag):
                base = reading.json_of(self._load(typed, parameter.flag))
        for name, word in fields.items():
            flag = f"{parameter.flag}.{name.replace('_', '-')}"
            loaded = self._load(word, flag)
            with _explained(flag):
                if not isinstance(base, dict):
                    raise Unreadable(f"it is a field, and {parameter.flag} is no JSON object")
                base[name] = reading.json_or_text(loaded)
        with _explained(parameter.flag):
            assert parameter.kind.build is not None
            return parameter.kind.build(base)

    def _more(self, parameter: Parameter, words: Sequence[str]) -> dict[str, Any]:
        found = {}
        known = {each.name for each in self._parameters if not each.is_variable}
        for word in words:
            name, separator, value = _unmarked(word).partition("=")
            if not separator or not name or name in known:
                why = "it has a flag of its own" if name in known and separator else "it is written NAME=VALUE"
                raise click.BadParameter(f"{reading.shown(word)}: {why}", param_hint="--arg")
            found[name] = self._value(parameter, [value], f"--arg {name}")
        return found

    def _load(self, word: str, flag: str) -> Word:
        """The word itself, or what stands in the file that it names, or in standard input."""
        word = _unmarked(word)
        if word in ("-", "@-"):
            if self._stdin_for:
                raise click.BadParameter(f"standard input was read for {self._stdin_for} already", param_hint=flag)
            if sys.stdin is None:
                raise click.BadParameter("standard input is closed", param_hint=flag)
            self._stdin_for = flag
            return sys.stdin.buffer.read()
        if word.startswith("@@"):
            return word[1:]
        if not word.startswith("@"):
            return word
        try:
            with open(word[1:], "rb") as file:
                return file.read()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            hint = "" if word[1:] else "a file's name follows @; "
            raise click.BadParameter(
                f"the file {word[1:]!r} cannot be read: {why} ({hint}text that begins with @ is written @@…)",
                param_hint=flag,
            ) from None


class _explained:
    """What cannot be read is a wrong usage that names the flag."""

    def __init__(self, flag: str) -> None:
        self._flag = flag

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Unreadable):
            raise click.BadParameter(str(error), param_hint=self._flag) from None
        if isinstance(error, RecursionError):
            raise click.BadParameter("it is nested too deeply", param_hint=self._flag) from None


def _unmarked(word: str) -> str:
    return word[1:] if word.startswith(_MARK) else word


# ── what the function says of itself ──────────────────────────────────────────────────────────────


class _About(typing.NamedTuple):
    text: str
    parameters: dict[str, str]


def _docstring(function: Callable[..., Any]) -> _About:
    """Its description, and what it says of each parameter: in Google's, NumPy's or reST's way."""
    from docstring_parser import parse

    try:
        found = parse(inspect.getdoc(function) or "")
    except Exception:  # noqa: BLE001 - a docstring is prose, and no error of it is worth a failing call
        return _About(summary(function), {})
    text = "\n\n".join(filter(None, (found.short_description, found.long_description)))
    described = {each.arg_name.lstrip("*"): " ".join((each.description or "").split()) for each in found.params}
    return _About(text, described)


def summary(function: Callable[..., Any]) -> str:
    """The first line of its docstring."""
    return (inspect.getdoc(function) or "").strip().partition("\n")[0]


def _hinted(function: Callable[..., Any], signature: inspect.Signature) -> Iterator[tuple[inspect.Parameter, Any]]:
    """Each parameter with its annotation, evaluated; one that cannot be is as good as none."""
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - annotations may name what only a type checker sees
        hints = {}
    for each in signature.parameters.values():
        written = Any if each.annotation is _EMPTY or isinstance(each.annotation, str) else each.annotation
        yield each, hints.get(each.name, written)
