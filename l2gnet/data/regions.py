"""nnU-Net's regions: structures that are made of several labels, and so may overlap.

Isensee et al., "nnU-Net for brain tumor segmentation", 2020, arXiv 2011.00848. What a model's outputs mean with and
without them, `outputs.py` says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from l2gnet.errors import ConfigError


@dataclass(frozen=True)
class Regions:
    """Of which labels each structure of a data set is made, in the order of its classes after the background.

    A model gives each region an output of its own, none to the background. A pixel above a half in several regions gets
    the label that `painted` names for the last of them. Nearly all data sets have none
    (NO_REGIONS): each class is one label, and the outputs are the classes, background first.
    """

    labels: tuple[tuple[int, ...], ...] = ()
    painted: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels)

    def outputs(self, classes: Sequence[str]) -> int:
        """How many outputs a model of these classes has."""
        return len(self.labels) or len(classes)

    def require_outputs(self, outputs: int, classes: Sequence[str]) -> None:
        """Raise ConfigError unless a model with so many outputs has one for each class or region."""
        if outputs != self.outputs(classes):
            rule = f"the model must have an output for each class or region, {', '.join(classes)}"
            raise ConfigError(f"{rule}, got {outputs}; give the regions of its card")

    def labels_of(self, classes: int) -> tuple[tuple[int, ...], ...]:
        """The labels that make up each of so many classes but for the background."""
        return self.labels or tuple((number,) for number in range(1, classes))

    def label_names(self, classes: Sequence[str]) -> tuple[str, ...]:
        """A name for each number in a label map: its class, or the number with all regions that it lies in."""
        if not self.labels:
            return tuple(classes)
        count = 1 + max(number for region in self.labels for number in region)
        named = list(zip(classes[1:], self.labels, strict=True))
        inside = [[name for name, labels in named if number in labels] for number in range(1, count)]
        return (classes[0], *(f"{number}: {' + '.join(names)}" for number, names in enumerate(inside, start=1)))


NO_REGIONS = Regions()
