"""How a net is stored, and moved between devices."""

import inspect

import torch
from skorch import NeuralNet

from .._devices import as_device
from .._modes import usual_modes
from .._version import __version__
from ..nn import OwnGenerator
from .state import as_arrays, as_columns, as_rows, as_tensors

__all__ = ["WITH_STATE", "StoredNet"]

_FORMAT = 1  # of the state; another number is not read
WITH_STATE = ("module_", "criterion_", "optimizer_")


class StoredNet(NeuralNet):
    """skorch net that is stored as constructor arguments and arrays: equal nets, equal pickles."""

    def _recipe(self):
        """Return the arguments that build the net, as far as they are not skorch's defaults."""
        defaults = inspect.signature(NeuralNet).parameters
        recipe = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in defaults or value is not defaults[name].default
        }
        return recipe | {"callbacks": None, "device": str(self.device)}

    def __getstate__(self):
        """Return the recipe, the weights, and the state of the optimizer if it has any."""
        state = {"format": _FORMAT, "version": __version__, "recipe": self._recipe()}
        if self.initialized_:
            parts = [name for name in WITH_STATE if name != "optimizer_" or self.optimizer_.state]
            state["parts"] = {name: as_arrays(getattr(self, name).state_dict()) for name in parts}
            state["history"] = as_columns(self.history)
        return state

    @usual_modes()
    def __setstate__(self, state):
        """Build the parts anew and give them their weights."""
        version = state.get("version") if isinstance(state, dict) else None
        try:
            if version is None or state["format"] != _FORMAT:
                raise ValueError(f"its state is not of format {_FORMAT}")
            self._restore(state)
        except Exception as error:
            raise ValueError(
                f"The stored net cannot be read: {type(error).__name__}: {error}. It was stored by "
                f"sklearn_moe {version or 'of an unknown version'}, this is {__version__}. Load it "
                "with the version that stored it, and where it uses parts of your own with these "
                "as they were; or fit the model again."
            ) from error

    def _restore(self, state):
        recipe = state["recipe"]
        self.__init__(**recipe | {"device": _or_cpu(recipe["device"])})
        if "parts" not in state:
            return
        with OwnGenerator(torch.Generator().manual_seed(0)):
            self.initialize()
        for name, arrays in state["parts"].items():
            getattr(self, name).load_state_dict(as_tensors(arrays))
        self.history.extend(as_rows(state["history"]))
        self.module_.eval()

    @usual_modes()
    def to(self, device):
        """Move the net, the state of its optimizer included."""
        self.device = str(device)
        self.module_.to(device)
        self.criterion_.to(device)
        state = self.optimizer_.state_dict()
        self.initialize_optimizer()
        self.optimizer_.load_state_dict(state)
        return self


def _or_cpu(device):
    """Return a device that is there: the given one, or the CPU."""
    try:
        return str(as_device(device))
    except ValueError:
        return "cpu"
