"""Random draws of a transform of torchvision, taken from own generators and noticed."""

import torch

from ..nn.seeding import OwnGenerator

__all__ = ["TransformDraws"]


class TransformDraws(OwnGenerator):
    """Within this context a transform draws from generators of its own, on the CPU and `device`."""

    def __init__(self, device):
        types = {"cpu", torch.device(device).type}
        super().__init__(*(torch.Generator(name) for name in sorted(types)))
        self._start = self._states()

    def _states(self):
        return [generator.get_state() for generator in self.generators.values()]

    @property
    def drew(self):
        """Whether anything has been drawn since the start."""
        pairs = zip(self._start, self._states(), strict=True)
        return not all(torch.equal(before, now) for before, now in pairs)

    def start(self, seed):
        """Forget what has been drawn and start from a seed."""
        for generator in self.generators.values():
            generator.manual_seed(seed)
        self._start = self._states()
