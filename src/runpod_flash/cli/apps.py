"""`flash app` and `flash env`: apps, their environments, and what is deployed there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from runpod_flash.cli import consent, place, views
from runpod_flash.cli.consent import yes_option
from runpod_flash.cli.failures import unknown
from runpod_flash.cli.pages import Family, examples
from runpod_flash.cli.views import Column, json_option

APPS = (
    Column("APP", lambda row: row["app"]),
    Column("ENVIRONMENTS", lambda row: ", ".join(_env(one) for one in row["envs"]), flexible=True),
    Column("MADE", lambda row: views.when(row["created_at_ms"])),
)
ENVS = (
    Column("ENVIRONMENT", lambda row: row["env"]),
    Column("VERSION", lambda row: str(row["version"] or ""), right=True),
)
VERSIONS = (
    Column("VERSION", lambda row: str(row["version"]), right=True),
    Column("", lambda row: "called" if row["active"] else ""),
    Column("DEPLOYED", lambda row: views.when(row["activated_at_ms"])),
    Column("ENDPOINTS", lambda row: ", ".join(one["name"] for one in row["endpoints"]), flexible=True),
)


@click.group(cls=Family)
def app() -> None:
    """List, make and delete apps."""


@click.group(cls=Family)
def env() -> None:
    """List, make and delete environments of an app, and see what is deployed there."""


@app.command("list", epilog=examples("flash app list"))
@json_option
def list_apps(as_json: bool) -> None:
    """List apps, with their environments and the version that each has."""
    rows = _apps()
    if as_json:
        views.show_json(rows)
    elif rows:
        views.show_table(APPS, rows)
    else:
        views.note("no apps yet: flash deploy makes one, and so does flash app create NAME")


@app.command("get", codes={3: "there is none of that name"}, epilog=examples("flash app get shop --json"))
@click.argument("name")
@json_option
def get_app(name: str, as_json: bool) -> None:
    """Show one app: its environments, and the endpoints of each."""
    row = the_app(name)
    releases = [one for one in _releases(name) if one["active"]]
    endpoints = {one["env"]: one["endpoints"] for one in releases}
    row = {**row, "envs": [{**one, "endpoints": endpoints.get(one["env"], [])} for one in row["envs"]]}
    if as_json:
        views.show_json(row)
        return
    for one in row["envs"]:
        click.echo(_env(one))
        for each in one["endpoints"]:
            click.echo(f"  {each['name']}  {each['url'] or each['id']}")
    if not row["envs"]:
        views.note(f"{name} has no environments yet: flash deploy --app {name}")


@app.command("create", epilog=examples("flash app create shop"))
@click.argument("name")
@json_option
def create_app(name: str, as_json: bool) -> None:
    """Make an app. A deploy makes the one that it needs."""
    _report(_order("create_app", app=name), name, as_json, "created")


@app.command(
    "delete",
    codes={1: "the question was answered with no", 3: "there is none of that name"},
    epilog=examples("flash app delete shop --yes"),
)
@click.argument("name")
@yes_option
@json_option
def delete_app(name: str, yes: bool, as_json: bool) -> None:
    """Delete an app with all its environments, versions and secrets. What runs finishes.

    Where nobody can be asked, --yes has to be given.
    """
    the_app(name)
    consent.to_take_away(f"delete the app {name} with all that is deployed of it", yes=yes)
    _report(_order("delete_app", app=name), name, as_json, "")


@env.command("list", epilog=examples("flash env list --app shop"))
@place.app_option
@json_option
def list_envs(app: str | None, as_json: bool) -> None:
    """List the environments of an app, and the version that each has."""
    found = the_app(place.find(app, None).app)
    rows = [{"app": found["app"], **one} for one in found["envs"]]
    if as_json:
        views.show_json(rows)
    elif rows:
        views.show_table(ENVS, rows)
    else:
        views.note(f"{found['app']} has no environments yet: flash deploy --app {found['app']}")


@env.command("get", codes={3: "there is none of that name"}, epilog=examples("flash env get production --app shop"))
@click.argument("name")
@place.app_option
@json_option
def get_env(name: str, app: str | None, as_json: bool) -> None:
    """Show one environment: its versions that are kept, its endpoints, the names of its secrets."""
    from runpod_flash.settings import load
    from runpod_flash.wire.secrets import Secrets

    found = the_app(place.find(app, None).app)
    row = _env_of(found, name)
    versions = [one for one in _releases(found["app"]) if one["env"] == name]
    secrets = sorted(Secrets(load().home, found["app"], name).facts())
    endpoints: list[dict[str, Any]] = next((one["endpoints"] for one in versions if one["active"]), [])
    if as_json:
        kept = [{key: value for key, value in one.items() if key not in {"app", "env"}} for one in versions]
        told = {"endpoints": endpoints, "secrets": secrets, "versions": kept}
        views.show_json({"app": found["app"], "env": name, "version": row["version"], **told})
        return
    if versions:
        views.show_table(VERSIONS, versions)
    for each in endpoints:
        click.echo(f"{each['name']}  {each['url'] or each['id']}")
    if secrets:
        views.note(f"secrets: {', '.join(secrets)}")
    if not versions:
        views.note(f"nothing is deployed: flash deploy --app {found['app']} --env {name}")


@env.command("create", epilog=examples("flash env create staging --app shop"))
@click.argument("name")
@place.app_option
@json_option
def create_env(name: str, app: str | None, as_json: bool) -> None:
    """Make an environment of an app. A deploy makes the one that it needs."""
    where = place.find(app, None)
    _order("create_app", app=where.app)
    _report(_order("create_env", app=where.app, env=name), name, as_json, "created")


@env.command(
    "delete",
    codes={1: "the question was answered with no", 3: "there is none of that name"},
    epilog=examples("flash env delete staging --app shop --yes"),
)
@click.argument("name")
@place.app_option
@yes_option
@json_option
def delete_env(name: str, app: str | None, yes: bool, as_json: bool) -> None:
    """Delete an environment with its versions and secrets. What runs finishes.

    Where nobody can be asked, --yes has to be given.
    """
    found = the_app(place.find(app, None).app)
    _env_of(found, name)
    consent.to_take_away(f"delete the environment {name} of {found['app']} with all that is deployed there", yes=yes)
    _report(_order("delete_env", app=found["app"], env=name), name, as_json, "")


# ── asked ─────────────────────────────────────────────────────────────────────────────────────────


def _env(one: Mapping[str, Any]) -> str:
    return f"{one['env']} (version {one['version']})" if one["version"] else str(one["env"])


def _apps() -> list[dict[str, Any]]:
    from runpod_flash.cli.connection import connect

    with connect() as engine:
        return list(engine.all("apps"))


def _releases(app: str) -> list[dict[str, Any]]:
    from runpod_flash.cli.connection import connect

    with connect() as engine:
        return list(engine.all("releases", {"app": app}))


def the_app(name: str) -> dict[str, Any]:
    """The app of that name, with its environments; UnknownName if there is none."""
    rows = {row["app"]: row for row in _apps()}
    if name not in rows:
        fix = "see which there are: flash app list; name one with --app"
        raise unknown(f"there is no app {name!r}", name, rows, fix=fix, nothing="nothing was deployed or created yet")
    return rows[name]


def _env_of(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    envs: dict[str, Mapping[str, Any]] = {one["env"]: one for one in found["envs"]}
    if name not in envs:
        what, fix = f"{found['app']} has no environment {name!r}", f"flash env list --app {found['app']}"
        raise unknown(what, name, envs, fix=fix, nothing="it has none yet")
    return envs[name]


def _order(verb: str, **args: str) -> dict[str, Any]:
    from runpod_flash.cli.connection import connect
    from runpod_flash.wire.messages import Admin

    with connect() as engine:
        done: dict[str, Any] = engine.ask(Admin(verb=verb, args=args)).data
        return done


def _report(done: Mapping[str, Any], name: str, as_json: bool, what: str) -> None:
    if as_json:
        views.show_json(done)
        return
    click.echo(name)
    if what and not done[what]:
        views.note("it was there already")
