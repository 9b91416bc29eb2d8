"""The warm server of this user's commands: ``python -m nbmlops.surfaces.warm``."""

from nbmlops.pipelines.warm.server import serve

if __name__ == "__main__":
    from nbmlops.surfaces.terminal import here

    serve(here)
