"""Random draws of a transform of torchvision, taken from an own generator."""

import torch

from ..nn import OwnGenerator

__all__ = ["TransformDraws"]


class TransformDraws(OwnGenerator):
    """Within this context a transform draws from a CPU generator, on any device.

    torchvision draws on the CPU, but for the noise of `GaussianNoise` (`randn_like`) and the
    weights of `AugMix` (a Dirichlet distribution), which OwnGenerator does not know.
    """

    def __init__(self):
        super().__init__(torch.Generator())
        self._start = self.generator.get_state()

    @property
    def drew(self):
        """Whether anything has been drawn since the start."""
        return not torch.equal(self._start, self.generator.get_state())

    def start(self, seed):
        """Forget what has been drawn and start from a seed."""
        self._start = self.generator.manual_seed(seed).get_state()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run `func`, with our generator where it draws and names none."""
        kwargs = dict(kwargs or {})
        if func in (torch.rand_like, torch.randn_like) and kwargs.get("generator") is None:
            kwargs.pop("generator", None)
            like = torch.empty_like(*args, **kwargs)
            draw = torch.rand if func is torch.rand_like else torch.randn
            drawn = draw(like.shape, generator=self.generator, dtype=like.dtype)
            return drawn.to(like.device)
        if func is torch._sample_dirichlet and kwargs.get("generator") is None:
            (concentration,) = args
            drawn = func(concentration.cpu(), generator=self.generator)
            return drawn.to(concentration.device)
        return super().__torch_function__(func, types, args, kwargs)
