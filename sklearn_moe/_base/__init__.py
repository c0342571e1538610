"""What both estimators share: how they are fitted, and what they can do then."""

from .fit import BaseMoE

__all__ = ["BaseMoE"]
