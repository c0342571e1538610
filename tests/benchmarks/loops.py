"""Hand-written training loops of the paper's synthetic problem, to be raced by speed.py.

`sorted_loop` is the mixture of section 3.2 as a torch user in a hurry would write it well: one
sort per step, every expert sees its own samples only. `soft_loop` is the dense mixture, all experts
in one matrix product, trained by its likelihood. `authors_loop` is written after the
design of the authors' notebooks: every expert sees the whole batch, with the samples of the
others set to zero. `image_loop` trains any network. None uses anything of sklearn_moe.
"""

import math
import time

import torch
from torch import nn
from torch.nn import functional

N_EXPERTS = 8
WIDTH = 8  # filters per logit
INIT_SCALE = 1e-3
LEARNING_RATE, ROUTER_RATE = 1e-3, 0.01


def sorted_forward(x, experts, router, noise):
    """Return the logits of patches x, (n_samples, n_patches, patch_size)."""
    scores = x.sum(1) @ router.T
    chosen = (scores + noise).argmax(1)
    gate = scores.softmax(1).gather(1, chosen[:, None])
    order = chosen.argsort()
    loads = torch.bincount(chosen, minlength=len(experts)).tolist()
    outputs = []
    for weight, group in zip(experts, x[order].split(loads), strict=True):
        z = (group @ weight.T).pow(3)
        outputs.append(z.view(*z.shape[:2], 2, WIDTH).sum((1, 3)))
    return gate * torch.empty(len(x), 2).index_copy(0, order, torch.cat(outputs))


def start(X):
    """Return a generator, small random weights of the experts, and zeros for the router."""
    generator, patch_size = torch.Generator().manual_seed(0), X.shape[2]
    experts = torch.randn(N_EXPERTS, 2 * WIDTH, patch_size, generator=generator)
    experts *= INIT_SCALE / (3 * patch_size) ** 0.5
    return generator, experts, torch.zeros(N_EXPERTS, patch_size, requires_grad=True)


def sorted_loop(X, y, n_steps):
    """Train with a sorted dispatch; return (expert weights, router weights)."""
    x, y = torch.from_numpy(X), torch.from_numpy(y)
    generator, experts, router = start(X)
    experts = [expert.clone().requires_grad_() for expert in experts]
    for _ in range(n_steps):
        noise = torch.rand(len(x), N_EXPERTS, generator=generator)
        loss = functional.cross_entropy(sorted_forward(x, experts, router, noise), y)
        gradients = torch.autograd.grad(loss, [*experts, router])
        with torch.no_grad():
            for weight, gradient in zip(experts, gradients, strict=False):
                weight -= LEARNING_RATE * gradient / gradient.norm().clamp(min=1e-30)
            router -= ROUTER_RATE * gradients[-1]
    return experts, router


def soft_loss(x, y, experts, router):
    """Return the negative log-likelihood of the dense mixture; experts are (M, 2 * WIDTH, d)."""
    log_gate = (x.sum(1) @ router.T).log_softmax(1)
    z = x @ experts.flatten(0, 1).T  # (n_samples, n_patches, M * 2 * WIDTH)
    outputs = (z * z * z).sum(1).view(len(x), len(experts), 2, WIDTH).sum(3)
    log_proba = outputs.log_softmax(2).gather(2, y[:, None, None].expand(-1, len(experts), 1))
    return -(log_gate + log_proba[:, :, 0]).logsumexp(1).mean()


def soft_loop(X, y, n_epochs, batch_size):
    """Train the dense mixture in shuffled batches; return (expert weights, router weights)."""
    x, y = torch.from_numpy(X), torch.from_numpy(y)
    generator, experts, router = start(X)
    experts.requires_grad_()
    for _ in range(n_epochs):
        order = torch.randperm(len(x), generator=generator)
        for rows in order.split(batch_size):
            loss = soft_loss(x[rows], y[rows], experts, router)
            of_experts, of_router = torch.autograd.grad(loss, [experts, router])
            with torch.no_grad():
                norms = of_experts.flatten(1).norm(dim=1).clamp(min=1e-30)
                experts -= LEARNING_RATE * of_experts / norms[:, None, None]
                router -= ROUTER_RATE * of_router
    return experts, router


class ZeroedCopies(nn.Module):
    """The authors' layer: convolutions over x of shape (n_samples, 1, n_patches * patch_size)."""

    def __init__(self, patch_size):
        super().__init__()
        self.router = nn.Conv1d(1, N_EXPERTS, patch_size, stride=patch_size, bias=False)
        nn.init.zeros_(self.router.weight)
        self.experts = nn.ModuleList(
            nn.Conv1d(1, 2 * WIDTH, patch_size, stride=patch_size) for _ in range(N_EXPERTS)
        )
        with torch.no_grad():
            for parameter in self.experts.parameters():
                parameter.mul_(INIT_SCALE)

    def forward(self, x):
        """Return class probabilities; the gate is the noisy score itself."""
        scores = self.router(x).sum(2)
        scores = scores + torch.rand_like(scores)
        gate, chosen = scores.max(1)
        one_hot = functional.one_hot(chosen, scores.shape[1]).to(x.dtype)
        combine = (gate[:, None] * one_hot)[:, :, None]
        dispatch = combine.bool().to(x.dtype)
        inputs = torch.einsum("bnd,ben->ebd", x, dispatch)
        outputs = [
            (expert(copy[:, None]) ** 3).sum(2).view(len(x), 2, WIDTH).sum(2)
            for expert, copy in zip(self.experts, inputs, strict=True)
        ]
        return torch.einsum("ben,ebc->bc", combine, torch.stack(outputs)).softmax(1)


def authors_loop(X, y, n_steps):
    """Train with zeroed copies of the whole batch; return the layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, y = torch.from_numpy(X).flatten(1)[:, None], torch.from_numpy(y)
        layer = ZeroedCopies(X.shape[2])
        router = torch.optim.SGD(layer.router.parameters(), lr=0.1)
        for _ in range(n_steps):
            layer.zero_grad()
            functional.cross_entropy(layer(x), y).backward()
            router.step()
            _normalized_step(layer.experts)
    return layer


@torch.no_grad()
def _normalized_step(experts):
    """Move each expert by its gradient over the sum of the norms of its tensors' gradients."""
    for expert in experts:
        norm = sum(parameter.grad.norm() for parameter in expert.parameters())
        for parameter in expert.parameters():
            parameter -= LEARNING_RATE * parameter.grad / norm.clamp(min=1e-30)


def image_loop(X, y, build, n_epochs, batch_size, precision):
    """Train a network, in "bf16" or "float32"; return the seconds of every epoch.

    Batches are even, as ours: activations of more than 32 MiB, 128 images of 64 channels, come
    from the kernel every time, which would cost larger batches a fifth of their speed.
    """
    x, y, times = torch.from_numpy(X), torch.from_numpy(y), []
    with torch.random.fork_rng(devices=[]):
        network = build()
        optimizer = torch.optim.Adam(network.parameters(), fused=True)
        for _ in range(n_epochs):
            start = time.perf_counter()
            for rows in torch.randperm(len(x)).tensor_split(math.ceil(len(x) / batch_size)):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                    outputs = network(x[rows])
                functional.cross_entropy(outputs.float(), y[rows]).backward()
                optimizer.step()
            times.append(time.perf_counter() - start)
    return times
