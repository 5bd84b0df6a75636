"""What takes something away asks first, and does nothing where nobody can be asked."""

from __future__ import annotations

from tests.cli.conftest import Flash


def test_a_secret_is_forgotten_only_by_somebody_who_says_so(flash: Flash) -> None:
    place = ("--app", "shop", "--env", "staging")
    assert flash("secret", "set", "TOKEN", "s3cr3t", *place).code == 0
    code, out, err = flash("secret", "rm", "TOKEN", *place)
    assert (code, out) == (2, "")
    assert "This would forget the secret TOKEN of shop in staging. Nobody can be asked here: add --yes." in err
    code, _, err = flash("secret", "rm", "TOKNE", *place, "--yes")
    assert code == 3
    assert "shop has no secret 'TOKNE' in staging. Did you mean 'TOKEN'?\n  why:   known: TOKEN\n" in err
    assert flash("secret", "rm", "TOKEN", *place, "--yes").out == "TOKEN\n"
    assert flash("secret", "list", *place, "--json").out == "[]\n"
