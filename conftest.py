"""Tests and examples compute on the CPU, unless they name another device."""

import os
import signal
from importlib.util import find_spec

import pytest
import torch

# Pages and modules whose examples need a package that the extra "test" leaves out.
NEEDED = {"sklearn_moe/distributed.py": "accelerate"}
collect_ignore = [path for path, package in NEEDED.items() if find_spec(package) is None]


def pytest_configure():
    """Let Ctrl-C interrupt where it would be ignored: in a job in the background.

    Tests press it, and processes that they start would inherit that it is ignored.
    """
    # On processors without AVX-512, oneDNN of torch 2.13 writes past the end of a buffer in the
    # gradient of convolutions of fewer than eight channels, which only tests are that narrow for.
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        torch.backends.mkldnn.enabled = False
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def auto_is_the_cpu(request, monkeypatch):
    """They show the same on every machine; only tests marked gpu look for an accelerator."""
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setattr("sklearn_moe._devices.accelerator", lambda: None)
        if "SKLEARN_MOE_DEVICE" not in os.environ:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # of the processes that a test starts
