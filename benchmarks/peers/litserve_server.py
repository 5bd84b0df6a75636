"""LitServe: the no-op as an API of a model, on the port that is named."""

# mypy: ignore-errors
# LitServe is installed in the environment that this runs in, and only there.

import sys

import litserve


class Noop(litserve.LitAPI):
    """Predicts what it was given."""

    def setup(self, device):
        """Has nothing to load."""

    def predict(self, request):
        """Does nothing."""
        return {"n": request["n"]}


if __name__ == "__main__":
    server = litserve.LitServer(Noop(api_path="/noop"), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
