"""The warm server of this user's commands: ``python -m nbmlops.surfaces.warm``."""

from nbmlops.pipelines.warm.server import serve


def _rehearse() -> None:
    """Read a command line: what reads it is made then, from the verb's signature."""
    from nbmlops.surfaces.parse import parse

    parse("run", ["train.ipynb", "-p", "month=3", "--quiet"])


if __name__ == "__main__":
    from nbmlops.surfaces.terminal import here

    serve(here, _rehearse)
