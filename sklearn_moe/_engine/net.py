"""The skorch net that trains a mixture: its parts and its step."""

from contextlib import nullcontext
from functools import reduce

import torch

from .._data import Batches
from .._registry import make
from ..nn import OwnGenerator, expert_means, mixture_loss, weighted_mean
from ..nn.dispatch import is_stack
from ..nn.ranks import batch_size, batch_weight
from .loop import TrainingLoop
from .predicting import WeightedRows

__all__ = ["MoENet"]


class MoENet(TrainingLoop):
    """skorch net over a `MixtureOfExperts`, with tensors sliced in place of a DataLoader.

    It knows no labels and no units: classes are their indices in `classes_`, numbers are in
    standard deviations from their mean, X has the shape that the experts take.

    Parameters
    ----------
    module, criterion, **kwargs
        As in skorch; `module()` builds the mixture, `criterion()` its head.
    solver : SolverSpec
    router_lr : float
        Learning rate of the router.
    pace : {"constant", "cosine", "residual"}
        `"cosine"` lets the rates rise over a twentieth of the steps of a training and fall to 0
        by half a period of the cosine. `"residual"` multiplies an expert's step by the mean error
        of its own samples of the batch, in units of that of a blind guess, 1 at most.
    expert_loss_weight : float, default=0.0
        Share of the experts' own losses in that which is minimized.
    train_transform : callable or None
        Applied to the samples of each training batch.
    precision : {"float32", "bf16"}
        Of training: `"bf16"` computes the experts in mixed precision. Routes, losses and
        everything at prediction stay in the precision of the weights.
    """

    def __init__(
        self,
        module,
        criterion,
        *,
        solver,
        router_lr,
        pace="constant",
        expert_loss_weight=0.0,
        train_transform=None,
        precision="float32",
        **kwargs,
    ):
        defaults = {"optimizer": solver.build, "train_split": None}
        super().__init__(module, criterion, **(defaults | kwargs))
        self.solver = solver
        self.router_lr = router_lr
        self.pace = pace
        self.expert_loss_weight = expert_loss_weight
        self.train_transform = train_transform
        self.precision = precision

    # -- what skorch asks for -------------------------------------------------------------

    def get_default_callbacks(self):
        """Return none: the history holds the losses without them."""
        return []

    def initialize_optimizer(self, triggered_directly=None):
        """Give the router its own learning rate and, where the solver asks for it, each expert."""
        _, options = self.get_params_for_optimizer("optimizer", [])
        module = self.module_
        units = [module.experts, *module.shared, *([] if module.trunk is None else [module.trunk])]
        groups = [{"params": list(unit.parameters())} for unit in units]
        if not self.solver.per_expert:
            groups = [{"params": [p for group in groups for p in group["params"]]}]
        elif is_stack(module.experts):
            groups[0]["units"] = len(module.experts)
        else:
            groups[:1] = [{"params": list(expert.parameters())} for expert in module.experts]
        groups = [group for group in groups if group["params"]]
        for parameters in (self._router_parameters(), list(self.criterion_.parameters())):
            if parameters:
                own = {"lr": self.router_lr, **self.solver.router_options}
                groups.append({"params": parameters, **own})
        self.optimizer_ = self.optimizer(groups, **options)
        return self

    def _router_parameters(self):
        return [] if self.module_.router is None else list(self.module_.router.parameters())

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the rows to train on, and those held out."""
        validation = getattr(self, "validation_", None)
        return self.get_dataset(X, y), validation and WeightedRows(validation)

    def get_iterator(self, dataset, training=False):
        """Return the batches of an epoch, shuffled if for training."""
        rows, device = dataset.rows, torch.device(self.device)
        if not training:
            return Batches(rows, self._predict_size(rows.x), None, device)
        order = self.generator_ if rows.y.device.type == device.type else self.generators_[-1]
        return Batches(rows, self.batch_size, order, device)

    # -- a step ---------------------------------------------------------------------------

    def train_step(self, batch, **fit_params):
        """Forward, backward, step; nothing here waits for the device but the dispatch of samples.

        What it returns stays on the device, too.
        """
        x = self._as_input(batch.x)
        if self.train_transform is not None:
            x = self._transform(x.clone() if x is batch.x else x)  # X is not ours to change
        n_samples = batch_size(batch.weight)
        # Not over the weight of the batch: see `weighted_mean`.
        share = batch.weight / n_samples
        for parameter in self.trained_:  # zero_grad would look through the groups, and at more
            parameter.grad = None
        with self._autocast(), OwnGenerator(*self.draws_) if self.draws_inside_ else nullcontext():
            mixed, losses, oob_losses = self.losses(self._forward(x, batch), batch)
        loss = share @ losses
        balance = self.module_.balance_loss(mixed, batch.weight)
        (loss if balance is None else loss + balance).backward()
        self.ranks_.add_up_gradients(self.trained_)
        if self.has_batch_listeners_:
            self.notify(
                "on_grad_computed",
                named_parameters=self.get_all_learnable_params(),
                batch=(batch.x, batch.y),
                training=True,
            )
        if self.solver.per_expert and (self.is_weighted_ or self.pace == "residual"):
            self._set_pace(mixed, batch)
        self.optimizer_.step()
        if self.schedule_ is not None:
            self.schedule_.step()
        more = {}
        if oob_losses is not None:
            more["oob_loss"] = weighted_mean(oob_losses, batch.weight)
        if mixed.output is not None:
            more["y_pred"] = mixed.output.detach()
        if (slope := self.router_gradient_norm()) is not None:
            more["router_gradient_norm"] = slope
        return {"loss": loss.detach(), "weight": n_samples, **more}

    def _forward(self, x, batch):
        """Return what the mixture says of a training batch, or each of its experts."""
        if self.expert_loss_weight or batch.shown is not None:
            return self.module_.forward_apart(x, self.generator_)
        return self.module_(x, self.generator_)

    def losses(self, mixed, batch):
        """Return the mixture's outputs, in full precision, and the losses, (n_samples,).

        With an out-of-bag mask, also the loss of each sample by the experts that did not see it;
        otherwise None.
        """
        dtype = batch.weight.dtype  # mixed precision ends here
        if mixed.output is not None:
            mixed = mixed._replace(output=mixed.output.to(dtype))
            return mixed, self.criterion_.loss(mixed.output, batch.y), None
        mixed = mixed._replace(answers=mixed.answers.to(dtype))
        losses = self.criterion_.losses(mixed.answers, batch.y)
        gate = mixed.route.gate
        shown = torch.ones_like(losses) if batch.shown is None else batch.shown.to(losses.dtype)
        loss, hidden_loss = mixture_loss(gate, losses, shown, self.expert_loss_weight)
        if self.has_batch_listeners_ or self.pace == "residual":
            log_gate = gate.detach().to(losses.dtype).log()
            output = self.criterion_.mix(log_gate, mixed.answers.detach())
            mixed = mixed._replace(output=output)
        return mixed, loss, None if batch.shown is None else hidden_loss

    @torch.no_grad()
    def validation_step(self, batch, **fit_params):
        """Return the loss of held-out rows, and the sum of their scores."""
        output = self.infer(batch.x)
        weight = batch_weight(batch.weight)
        loss = batch.weight @ self.criterion_.loss(output, batch.y) / weight
        # In float64 a sum of hits is exact, however they fall into batches.
        score = batch.weight.double() @ self.criterion_.score(output, batch.y).double()
        return {"loss": loss, "weight": weight, "y_pred": output, "score": score}

    def _transform(self, x):
        """Return the samples of a batch as `train_transform` makes them."""
        shape, dtype = x.shape, x.dtype
        must = (
            "train_transform must return a tensor of the shape and type of the batch that it is "
            f"given, {tuple(shape)}, {dtype}"
        )
        with OwnGenerator(*self.draws_):
            x = make(must, torch.Tensor, self.train_transform, x)
        if (x.shape, x.dtype) != (shape, dtype):
            raise ValueError(f"{must}; it returned {tuple(x.shape)}, {x.dtype}.")
        return x

    def _autocast(self):
        device = torch.device(self.device).type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16")

    def router_gradient_norm(self):
        """Return the norm of the router's gradient: a router at 0 learns nothing. None without."""
        gradients = [p.grad for p in self.routing_ if p.grad is not None]
        if not gradients:
            return None
        norms = torch._foreach_norm(gradients)
        return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))

    @torch.no_grad()
    def _set_pace(self, mixed, batch):
        """Set the length of each expert's step, which does not follow from its gradient.

        A batch of twice the mean weight makes a step of twice the length. With "residual" the
        steps become shorter as the expert's own mistakes become rare.
        """
        factors = []
        if self.is_weighted_:
            factors.append(batch_weight(batch.weight) / batch_size(batch.weight))
        if self.pace == "residual":
            error = self.criterion_.error(mixed.output, batch.y)
            residual = expert_means(error, batch.weight, mixed.route)
            factors.append((residual / self.criterion_.blind_error).clamp(max=1))
        pace = reduce(torch.mul, factors)
        self.set_pace(pace.expand(len(self.module_.experts)))

    def set_pace(self, pace):
        """Multiply the rates of the experts, in the coming step, by (n_experts,) factors."""
        paces = [pace] if is_stack(self.module_.experts) else pace
        for group, value in zip(self.optimizer_.param_groups, paces, strict=False):
            group["pace"] = value
