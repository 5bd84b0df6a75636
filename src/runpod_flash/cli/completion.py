"""`flash completion`: what makes a shell complete verbs, options, ids of jobs and names."""

from __future__ import annotations

import click

from runpod_flash.cli.pages import Page, examples

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Page,
    epilog=examples(
        "flash completion bash",
        "echo 'eval \"$(flash completion bash)\"' >> ~/.bashrc",
        "echo 'eval \"$(flash completion zsh)\"' >> ~/.zshrc",
        "flash completion fish > ~/.config/fish/completions/flash.fish",
    ),
    see=("jobs", "ps"),
)
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
def completion(shell: str) -> None:
    """Print the script that makes a shell complete `flash`.

    SHELL is bash (4.4 or newer), zsh or fish. Ids of jobs and names of endpoints are completed too, as long as an
    engine runs; pressing a key starts none.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    root = click.get_current_context().find_root()
    assert found is not None
    click.echo(found(root.command, {}, "flash", "_FLASH_COMPLETE").source())
