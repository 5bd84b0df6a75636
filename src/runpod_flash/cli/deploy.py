"""`flash deploy`, `flash rollback`, `flash undeploy`: what runs under an app's name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runpod_flash.cli import build as building
from runpod_flash.cli import consent, place, views
from runpod_flash.cli.apps import the_app
from runpod_flash.cli.consent import yes_option
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import json_option

if TYPE_CHECKING:
    from runpod_flash.apps.declared import AppRoute
    from runpod_flash.apps.deploying import Deployment

_SIGNS = {"new": "+", "changed": "~", "removed": "-"}
_COLOURS = {"new": "green", "changed": "yellow", "removed": "red"}


@click.command(
    cls=Page,
    codes={1: "it was not deployed, and what was before goes on; or the question was answered with no"},
    see=("build", "rollback", "undeploy", "app", "env", "secret"),
    epilog=examples(
        "flash deploy                        show what changes, ask, deploy",
        "flash deploy --yes                  without a question, as in CI",
        "flash deploy --env staging",
        "flash deploy --dry-run --json       what would change",
    ),
)
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@place.app_option
@place.env_option
@building.build_options
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@yes_option
@json_option
def deploy(
    folder: Path, app: str | None, env: str | None, exclude: tuple[str, ...], no_deps: bool, dry_run: bool, yes: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Build a project and put it in the place of what is deployed, without a request lost.

    Shows what changes first. The workers of what is new are ready before calls go there; those under way finish on the
    version before, which flash rollback brings back. Deployed endpoints stay as long as the engine runs.
    """
    from runpod_flash.apps.deploying import Deployment
    from runpod_flash.cli.connection import connect
    from runpod_flash.settings import load

    where = place.find(app, env, folder)
    built = building.build_for(where, exclude, no_deps)
    exact = load(project=where.root).hardware == "exact"
    with connect() as engine:
        deployment = Deployment(engine, where.app, where.env)
        plan = deployment.plan(built, exact=exact)
        path = _path_to_try(built.survey.routes)
        _carry_out(deployment, plan, dry_run=dry_run, yes=yes, as_json=as_json, path=path)


@click.command(
    cls=Page,
    codes={1: "it was not changed"},
    see=("deploy", "env"),
    epilog=examples("flash rollback                the version before", "flash rollback --to 7 --yes"),
)
@place.app_option
@place.env_option
@click.option("--to", type=click.IntRange(1), metavar="VERSION", help="Which version. Not given: the one before.")
@yes_option
@json_option
def rollback(app: str | None, env: str | None, to: int | None, yes: bool, as_json: bool) -> None:
    """Go back to a version that was deployed before.

    The last ten are kept. It is done as a deploy is: its workers are ready before calls go there. Secrets stay as they
    are now.
    """
    from runpod_flash.apps.deploying import Deployment
    from runpod_flash.cli.connection import connect

    where = place.find(app, env)
    with connect() as engine:
        deployment = Deployment(engine, where.app, where.env)
        _carry_out(deployment, deployment.plan_back(to or -1), dry_run=False, yes=yes, as_json=as_json)


@click.command(
    cls=Page,
    codes={
        1: "the question was answered with no",
        2: "nothing is deployed there, or wrong usage",
        3: "there is no app of that name",
    },
    see=("deploy", "env"),
    epilog=examples("flash undeploy --env staging", "flash undeploy --yes"),
)
@place.app_option
@place.env_option
@yes_option
@json_option
def undeploy(app: str | None, env: str | None, yes: bool, as_json: bool) -> None:
    """Take an app out of an environment: its endpoints answer no more.

    What runs finishes; what waits fails, and says why. The versions stay on record: flash rollback brings one back.
    Where nobody can be asked, --yes has to be given.
    """
    from runpod_flash.cli.connection import connect
    from runpod_flash.wire.messages import Admin

    where = place.find(app, env)
    the_app(where.app)
    consent.to_take_away(f"undeploy {where.app} from {where.env}", yes=yes)
    with connect() as engine:
        done = engine.ask(Admin(verb="undeploy", args={"app": where.app, "env": where.env})).data
    if as_json:
        views.show_json(done)
        return
    for name in done["endpoints"]:
        click.echo(name)
    views.note(f"undeployed: {where.app} in {where.env}")


# ── the plan, and what becomes of it ──────────────────────────────────────────────────────────────


def _carry_out(
    deployment: Deployment, plan: Mapping[str, Any], *, dry_run: bool, yes: bool, as_json: bool, path: str = "/"
) -> None:
    place_ = f"{deployment.app} in {deployment.env}"
    if not plan["changed"]:
        _tell(deployment, plan, as_json, path, f"no changes: {place_} is version {plan['version']}")
        return
    _show_plan(plan, place_)
    if dry_run:
        _tell(deployment, plan, as_json, path, "nothing was deployed (--dry-run)")
        return
    consent.to_change(f"make it version {plan['version']} of {place_}", yes=yes)
    done: Mapping[str, Any] = plan
    try:
        for reply in deployment.carry_out(plan["missing"]):
            done = _progress(reply) or done
    except KeyboardInterrupt:
        views.note(f"\ninterrupted; what is deployed: flash env get {deployment.env} --app {deployment.app}")
        raise
    _tell(deployment, done, as_json, path, f"deployed: {place_}, version {done['version']}")
    if not plan["was"]:
        views.note("\nIt answers while the engine runs; to start that with this machine: flash engine unit --help")


def _show_plan(plan: Mapping[str, Any], place_: str) -> None:
    was = f", in the place of version {plan['was']}" if plan["was"] else ""
    views.note(f"{place_}: version {plan['version']}{was}")
    if plan["moved"]:
        views.note(f"  that version came from another folder: {plan['moved']}")
    for change in plan["changes"]:
        line = f"  {_SIGNS[change['kind']]} {change['endpoint']:<24} {_told(change)}".rstrip()
        click.secho(line, fg=_COLOURS[change["kind"]], err=True)


def _told(change: Mapping[str, str]) -> str:
    if not change["what"]:
        return change["kind"]
    if change["before"] == change["after"]:
        return change["what"]
    if change["what"] == "dependencies":
        return " ".join(["dependencies", *_difference(change["before"], change["after"])])
    if not change["before"]:
        return f"{change['what']}: {change['after']}"
    return f"{change['what']} {change['before']}→{change['after']}"


def _difference(before: str, after: str) -> Iterator[str]:
    """`+polars -numpy`: of lists as long as these are, all else is the same."""
    was, now = ({one for one in text.split(", ") if one not in {"", "none"}} for text in (before, after))
    yield from (f"+{one}" for one in sorted(now - was))
    yield from (f"-{one}" for one in sorted(was - now))


def _progress(reply: Any) -> Mapping[str, Any] | None:
    """Shows what comes on the way; the facts, once it is done."""
    from runpod_flash.wire.messages import EnvState, Ok, State

    if isinstance(reply, Ok):
        return reply.data
    if isinstance(reply, EnvState) and reply.line:
        views.note(f"  {reply.line}")
    elif isinstance(reply, State) and reply.why:
        views.note(f"  {reply.why}")
    return None


def _tell(deployment: Deployment, done: Mapping[str, Any], as_json: bool, path: str, words: str) -> None:
    endpoints = done["endpoints"]
    if as_json:
        told = {key: done[key] for key in ("changed", "version", "was", "changes", "endpoints")}
        url = next((one["url"] for one in _by_worth(endpoints) if one["url"]), None)
        views.show_json({"app": deployment.app, "env": deployment.env, **told, "url": url})
        return
    views.note(words)
    for one in _by_worth(endpoints):
        click.echo(f"{one['name']}  {one['url'] or one['id']}")
    if line := _curl(endpoints, path):
        views.note(f"\nTry it:\n  {line}")
    elif endpoints:
        name = endpoints[0]["name"]
        views.note(f"\nCall it from any program with FLASH_APP={deployment.app} FLASH_ENV={deployment.env} ({name})")


def _by_worth(endpoints: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The app first, then what answers over HTTP."""
    return sorted(endpoints, key=lambda one: (not any(r.startswith("* ") for r in one["routes"]), not one["url"]))


def _path_to_try(routes: Iterable[AppRoute]) -> str:
    """A path of the app that answers whoever asks without knowing anything: the shortest."""
    paths = [route.path for route in routes if route.method == "GET" and "{" not in route.path]
    return min(paths, key=len, default="/")


def _curl(endpoints: Iterable[Mapping[str, Any]], to_try: str) -> str:
    """A line that works as it stands, in a shell of this user."""
    for one in _by_worth(endpoints):
        if not one["url"] or not one["routes"]:
            continue
        method, _, path = one["routes"][0].partition(" ")
        if method == "*":
            method, path = "GET", to_try
        verb = "" if method == "GET" else f"-X {method} "
        return f'curl {verb}-H "Authorization: Bearer $(flash engine token)" {one["url"]}{path}'
    return ""
