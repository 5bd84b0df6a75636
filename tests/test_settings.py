"""Settings: each is read once, says where it came from, and what is wrong with it where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash import settings
from runpod_flash.errors import ConfigError


@pytest.fixture
def project(tmp_path: Path) -> Any:
    """Writes a pyproject.toml and returns its folder."""

    def write(text: str) -> Path:
        (tmp_path / "pyproject.toml").write_text(text)
        return tmp_path

    return write


def test_a_variable_wins_over_the_project_and_that_over_the_default(project: Any) -> None:
    folder = project('[project]\nname = "x"\n\n[tool.flash]\napp = "shop"\nenv = "staging"\n')
    found = settings.load({"FLASH_ENV": "test"}, folder)
    assert (found.app, found.env, found.durability) == ("shop", "test", "process")
    assert found.provenance["app"] == ("shop", f"{folder}/pyproject.toml:5 [tool.flash] app")
    assert found.provenance["env"] == ("test", "FLASH_ENV")
    assert found.provenance["durability"] == ("process", "default")
    assert set(found.provenance) == set(settings.OPTIONS)


def test_a_variable_that_is_empty_is_not_set() -> None:
    assert settings.load({"FLASH_ENV": ""}, Path("/nowhere")).env == "dev"


@pytest.mark.parametrize(
    ("text", "what", "line", "why"),
    [
        ('[tool.flash]\nhardwear = "exact"', "no key 'hardwear'. Did you mean 'hardware'?", 2, "its keys are app, "),
        ("[tool.flash]\n\nlease = 3", "no key 'lease'", 3, "lease is set by the variable FLASH_LEASE alone"),
        ('[tool.flash]\n"hardware" = "exakt"', "[tool.flash] hardware = 'exakt'", 2, "nearest or exact. Did you mean"),
        ('[tool.flash]\napp = "a"\nidle_stop = -1', "idle_stop = '-1'", 3, "a number of seconds, 0 or more"),
        ('[tool.flash]\nidle_stop = "soon"', "idle_stop = 'soon'", 2, "a number of seconds"),
        ("[tool.flash]\nidle_stop = nan", "idle_stop = 'nan'", 2, "a number of seconds"),
        ("[tool.other]\nenv = 3\n[tool.flash]\nenv = ' '", "env = ' '", 4, "text on one line"),
        ("[tool]\nflash = 3", "tool.flash = 3 cannot be used", 0, "it must be a table"),
        ("[tool.flash]\nenv = \n", "cannot be read", 0, "line 2"),
        ("tool = 3", "", 0, ""),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_line(
    project: Any, text: str, what: str, line: int, why: str
) -> None:
    folder = project(text)
    if not what:
        assert settings.load({}, folder).env == "dev"
        return
    with pytest.raises(ConfigError) as caught:
        settings.load({}, folder)
    assert what in caught.value.what
    assert why in str(caught.value.why)
    assert caught.value.where == f"{folder}/pyproject.toml" + (f":{line}" if line else "")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("FLASH_ENGINE", "deamon", "daemon or child. Did you mean 'daemon'?"),
        ("FLASH_LOCAL_RAISES", "maybe", "1 or 0"),
        ("FLASH_IDLE_STOP", "inf", "a number of seconds, 0 or more"),
        ("FLASH_MAX_VALUE", "inf", "a size of at least one byte"),
        ("FLASH_MAX_VALUE", "lots", "such as 500MB"),
        ("FLASH_APP", "a\nb", "text on one line"),
        ("FLASH_HOME", "~nobody_of_that_name/flash", "no user of that name"),
    ],
)
def test_what_is_wrong_in_a_variable_names_it(variable: str, value: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.load({variable: value}, Path("/nowhere"))
    assert caught.value.what == f"{variable} = {value!r} cannot be used"
    assert caught.value.where == "the environment of this program"
    assert why in str(caught.value.why)
    assert variable in str(caught.value.fix)


@given(st.sampled_from(sorted(settings.OPTIONS)), st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_whatever_a_variable_holds_is_taken_or_refused(name: str, value: str) -> None:
    variable = settings.OPTIONS[name].variable
    try:
        found = settings.load({variable: value}, Path("/nowhere"))
    except ConfigError as error:
        refused = error
    else:
        assert found.provenance[name].source == variable
        return
    assert variable in refused.what
    assert refused.why


def test_a_variable_that_looks_like_a_setting_is_noticed() -> None:
    environ = {"FLASH_DURABILTY": "power", "flash_home": "/x", "FLASH_SALE": "1", "FLASH_ENV": "dev"}
    assert settings.misspelled(environ) == {"FLASH_DURABILTY": "FLASH_DURABILITY", "flash_home": "FLASH_HOME"}
