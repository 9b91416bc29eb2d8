"""The verb `ui`: the panel in JupyterLab's sidebar, opened at one of its views."""

from dataclasses import dataclass
from typing import Literal

from nbmlops.project import Project
from nbmlops.verb import Result, verb

View = Literal["runs", "models", "deployments", "monitor", "jobs"]


@dataclass(frozen=True)
class Panel(Result):
    """The panel at one of its views; `folder` is the project's, or where one could begin."""

    view: str
    folder: str

    @property
    def headline(self) -> str:
        """Where it is to be seen."""
        return f"The view {self.view} of the panel nbmlops, in the sidebar of JupyterLab or Notebook 7."

    def shown(self) -> dict[str, str]:
        """Say how it is seen by whom nothing has opened: elsewhere there is no sidebar."""
        return {"if it is not open": f"Start jupyter lab in {self.folder}, and click the tab nbmlops at the left."}


@verb
def ui(project: Project, view: View = "runs") -> Panel:
    """Open the sidebar's panel at one of its views.

    In a notebook of JupyterLab or Notebook 7 the panel opens. Elsewhere the answer says how it is seen.

    Parameters
    ----------
    view
        Which of them.

    Returns
    -------
    Panel
        The view, and where.

    Examples
    --------
    >>> getfixture("ops").ui("models").view
    'models'

    Plain code
    ----------
    import subprocess

    subprocess.run(["mlflow", "ui", "--backend-store-uri", $tracking])
    """
    return Panel(view, str(project.root if project.exists else project.folder))
