"""ReDoc from inside the package."""

from __future__ import annotations

from typing import Final

from runpod_flash.web.swagger import JAVASCRIPT, Asset, unpacked

SCRIPT: Final = "redoc.standalone.js"
_LOGO: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
_NOTHING: Final = b"data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


def asset(name: str) -> Asset | None:
    """The script; None for any other name. It fetches nothing from elsewhere, not even the logo of its makers."""
    if name != SCRIPT:
        return None
    return Asset(JAVASCRIPT, unpacked("redoc", SCRIPT).replace(_LOGO, _NOTHING))
