"""Tests and examples compute on the CPU, unless they name another device."""

import os

import pytest


@pytest.fixture(autouse=True)
def auto_is_the_cpu(request, monkeypatch):
    """They show the same on every machine; only tests marked gpu look for an accelerator."""
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setattr("sklearn_moe._devices.accelerator", lambda: None)
        if "SKLEARN_MOE_DEVICE" not in os.environ:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # of the processes that a test starts
