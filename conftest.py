"""Tests and examples compute on the CPU, unless they name another device."""

import pytest


@pytest.fixture(autouse=True)
def auto_is_the_cpu(request, monkeypatch):
    """They show the same on every machine; only tests marked gpu look for an accelerator."""
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setattr("sklearn_moe._devices.accelerator", lambda: None)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # of the processes that a test starts
