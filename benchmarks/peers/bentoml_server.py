"""BentoML: the no-op as a service with one worker, on the port that is named."""

# mypy: ignore-errors
# BentoML is installed in the environment that this runs in, and only there.

import os
import sys

import bentoml


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Noop:
    """Has one API."""

    @bentoml.api(route="/noop")
    async def noop(self, n: int) -> dict[str, int]:
        """Does nothing."""
        return {"n": n}


if __name__ == "__main__":
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    bento = os.path.join(os.path.dirname(sys.executable), "bentoml")
    service = f"{__spec__.name}:Noop"
    os.execv(bento, [bento, "serve", service, "--host", "127.0.0.1", "--port", sys.argv[1]])
