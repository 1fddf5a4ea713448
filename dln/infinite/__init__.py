r"""Gaussian networks of infinite width at a fixed :math:`\rho = \sigma \sqrt w`: deterministic, and modes move alone.

`modes` follows a mode of the target exactly, by the two-time functions of `memory`; `trees` follows any cost on small
networks, the Krylov forms of `dln.inits.reduced_gaussian` at infinite width.
"""

from .modes import Estimate, escape_constant, half_time, mode
from .trees import trajectory

__all__ = ["Estimate", "escape_constant", "half_time", "mode", "trajectory"]
