"""Routers: which experts process a sample, and how their outputs become one.

A router is made of independent parts: the scores (a small network), the noise added to them in
training, the gate that turns scores into the weights of expert outputs, and the router class, which
chooses experts and combines their outputs. `make.ROUTERS` names the usual combinations.
"""
