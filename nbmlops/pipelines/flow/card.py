"""A pipeline as `show` gives it: its steps and what follows from what, drawn as text and as SVG. Pure."""

from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from typing import ClassVar

from nbmlops.pipelines.flow.declared import Pipeline, Step
from nbmlops.pipelines.flow.drawing import does, drawn
from nbmlops.pipelines.flow.graph import direct
from nbmlops.pipelines.flow.svg import places, svg
from nbmlops.verb import Picture


@dataclass(frozen=True)
class PipelineNode:
    """A step and its place in the drawing, counted from 0: `column` from the left, `row` from the top.

    `kind` is ``notebook``, ``function``, ``verb`` or ``approval``, `target` what that names, and `does` the same in a
    few words. A row may lie halfway between two.
    """

    name: str
    kind: str
    target: str
    does: str
    needs: tuple[str, ...]
    column: int
    row: float


@dataclass(frozen=True)
class PipelineCard(Picture):
    """A pipeline's steps; `edges` lead from a step to one that needs it, without those that follow from others."""

    name: str
    nodes: tuple[PipelineNode, ...]
    edges: tuple[tuple[str, str], ...]
    declared: InitVar[Pipeline]
    _declared: ClassVar[Pipeline]  # of this card: what is drawn, of which JSON has nodes and edges

    def __post_init__(self, declared: Pipeline) -> None:
        """Keep what is drawn."""
        object.__setattr__(self, "_declared", declared)

    @classmethod
    def of(cls, pipeline: Pipeline) -> "PipelineCard":
        """Lay a pipeline without cycles out.

        Examples
        --------
        >>> steps = Step("train", "notebook", "train.ipynb"), Step("gate", "verb", "validate delays", ("train",))
        >>> card = PipelineCard.of(Pipeline("retrain", steps))
        >>> card.edges, card.nodes[1].column
        ((('train', 'gate'),), 1)
        >>> print(card.text)
        ○  train  train.ipynb
        ○  gate   validate delays
        """
        at = places(pipeline)
        edges = tuple((need, name) for name, needs in direct(pipeline.edges).items() for need in needs)
        return cls(pipeline.name, tuple(_node(step, at) for step in pipeline.steps), edges, pipeline)

    @property
    def headline(self) -> str:
        """The pipeline in a few words."""
        return f"{self.name}: {' → '.join(node.name for node in self.nodes)}"

    @property
    def text(self) -> str:
        """A line for each step, with lanes beside it."""
        return drawn(self._declared)

    @property
    def svg(self) -> str:
        """Boxes from left to right, as one ``<svg>`` element."""
        return svg(self._declared)


def _node(step: Step, at: Mapping[str, tuple[int, float]]) -> PipelineNode:
    return PipelineNode(step.name, step.kind, step.target, does(step), step.needs, *at[step.name])
