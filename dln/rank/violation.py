"""What is raised when a step contradicts a theorem."""

from __future__ import annotations

from ..typing import Array

__all__ = ["Violation"]


class Violation(ArithmeticError):
    """A step that contradicts a theorem: it was not a step of SGD with these rates, or rounding has taken over.

    Attributes
    ----------
    name : str
        The certificate.
    layer : str
        Name of the layer.
    step : int
        Number of the step, from 1.
    slack : float
        By how much it fails, in the certificate's own unit.
    evidence : dict of ndarray
        What the certificate saw: weights, gradients, singular values.
    """

    def __init__(self, name: str, layer: str, step: int, slack: float, evidence: dict[str, Array]) -> None:
        super().__init__(
            f"the certificate {name!r} of layer {layer} is violated at step {step}: slack {slack:.3g}. "
            f"The step is not that of SGD with these rates and gradients; `evidence` holds {sorted(evidence)}."
        )
        self.name, self.layer, self.step, self.slack, self.evidence = name, layer, step, slack, evidence
