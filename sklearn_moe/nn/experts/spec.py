"""What the library knows about an expert: how it is built, and what suits it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ..._registry import make, takes

__all__ = ["OWN", "ExpertSpec"]

OWN = "a callable (input_shape, n_outputs) -> torch.nn.Module"


@dataclass(frozen=True)
class ExpertSpec:
    """An expert, by its factory and its defaults.

    Parameters
    ----------
    factory : callable
        `factory(input_shape, n_outputs, **options)` returns a module that maps a batch of samples
        to (n_samples, n_outputs). It may name `width` and `activation` among its arguments, to be
        given `expert_width` and `activation` of the estimator.
    ndim : int or None, default=None
        Axes of the X it is made for. Of the experts registered for a shape the first one is what
        `expert="auto"` becomes. None: any.
    activation : str or None, default=None
        What `activation="auto"` becomes. None: whatever the factory does.
    solver : str, default="adam"
        What `solver="auto"` becomes, a name in `sklearn_moe.optim.SOLVERS`.
    init_scale : callable or None, default=None
        `init_scale(input_shape, r)` returns the factor on the initial weights, an argument
        `init_scale` of the factory; r is the root mean square norm of the training patches.
    options : dict, default={}
        Further arguments of the factory.
    """

    factory: Callable[..., nn.Module]
    ndim: int | None = None
    activation: str | None = None
    solver: str = "adam"
    init_scale: Callable[[tuple[int, ...], float], float] | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, expert: "ExpertSpec | Callable[..., nn.Module]") -> "ExpertSpec":
        """Return a spec as it is, and one of no defaults for a factory."""
        return expert if isinstance(expert, ExpertSpec) else cls(expert)

    def with_options(self, **options: Any) -> "ExpertSpec":
        """Return the same expert with some arguments of its factory fixed.

        Examples
        --------
        >>> from sklearn_moe import MoEClassifier
        >>> from sklearn_moe.nn import EXPERTS
        >>> clf = MoEClassifier(expert=EXPERTS["patch"].with_options(init_scale=0.01))
        """
        return replace(self, options={**self.options, **options})

    def takes(self, name: str) -> bool:
        """Return whether the factory takes an argument of that name."""
        return takes(self.factory, name)

    def build(self, input_shape: tuple[int, ...], n_outputs: int, **options: Any) -> nn.Module:
        """Return a new expert; `options` of the spec come before those given here.

        Raises
        ------
        TypeError
            If the factory takes other arguments or returns anything but a module.
        """
        must = f"expert={self.factory!r} must be {OWN}"
        options = {**options, **self.options}
        return make(must, nn.Module, self.factory, input_shape, n_outputs, **options)
