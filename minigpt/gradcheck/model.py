"""A model's loss and its gradients, parameter by parameter."""

from collections.abc import Mapping

import numpy as np

from minigpt.checks import whole
from minigpt.errors import MinigptError
from minigpt.gradcheck.comparison import ROUNDING, compare
from minigpt.gradcheck.handing import as_gradient, check_values, copied, is_floating, kind_of, remarks_on, snapshot
from minigpt.gradcheck.numeric import check_method
from minigpt.gradcheck.pair import apart, overwritten
from minigpt.gradcheck.second_point import check_near

LARGE = 100_000  # parameters: from here on a report has ten times the limit, since rounding grows with additions


def check_gradients(model, ids, targets=None, method="complex", seed=0, dropout_seed=None, step=None, progress=None):
    """Check every parameter's gradient of a model's loss.

    ids and targets are what the loss takes; in place of both, a batch: a mapping of named arrays.
    The model is taken to float64, its weights as they are. Dropout is on where dropout_seed is
    given, the same in every evaluation. method: "complex", "central", or "both", which judges by
    the complex step and shows the other beside it; progress: None or a function that wraps the
    iteration over names, such as tqdm. -> Report, a row a parameter, with the limit 1e-13, 1e-12
    from 100,000 parameters on; its remarks name what the model wrote into. MinigptError for a
    parameter that is empty, not floating, not finite or without a gradient, and for a loss that
    differs from call to call or between loss and loss_and_grads; NotComplexSafe names an op that
    drops the imaginary part.
    """
    check_method(method, step)
    whole("seed", seed, at_least=0)
    losses, remarks = Losses(model, ids, targets, dropout_seed), []
    loss, returned = losses.loss_and_grads(remarks)
    check_names(returned, losses.values)
    analytic = {name: as_gradient(name, g) for name, g in returned.items()}
    again = losses.loss_and_grads([])[1]
    for name in apart(analytic, again):
        raise MinigptError(f"loss_and_grads is not deterministic: two calls gave different gradients of {name}")
    with np.errstate(all="ignore"):
        losses.gradients({name: 1.001 * value for name, value in losses.values.items()})
    remarks += overwritten(analytic, returned)
    other = losses.loss(losses.values, remarks)
    if not abs(loss - other) <= ROUNDING * abs(loss):
        both = f"loss_and_grads gives a loss of {loss!r} and loss one of {other!r}"
        raise MinigptError(f"{both}: with the same arguments they must be equal")
    rng = np.random.default_rng(seed)
    report = compare(losses.loss, losses.values, analytic, method, rng, step, progress)
    report.limit *= 10 if model.num_parameters >= LARGE else 1
    if method != "central":
        check_near(report, losses.loss, losses.gradients, losses.values, rng, abs(float(loss)))
    report.remarks[:0] = remarks
    return report


def check_names(grads, values):
    """MinigptError where the names of the gradients are not those of the parameters."""
    missed, extra = [n for n in values if n not in grads], [n for n in grads if n not in values]
    if missed or extra:
        what = f"no gradient of {missed[0]}" if missed else f"a gradient of {extra[0]}, which is no parameter"
        raise MinigptError(f"loss_and_grads: {what}")


class Losses:
    """A model's loss at any values of its parameters, and its gradients at those that it has.

    Each call gets copies of the batch. values: name -> parameter in float64.
    """

    def __init__(self, model, ids, targets=None, dropout_seed=None):
        self.batch, self.dropout_seed = as_batch(ids, targets), dropout_seed
        for name, value in model.parameters.items():
            if not is_floating(value):
                raise MinigptError(f"{name} is {value.dtype}, only floating parameters have gradients")
            check_values(name, value)
        self.model, self.models = model, {}
        self.values = {name: np.array(value, np.float64) for name, value in model.parameters.items()}

    def at(self, arrays):
        """A copy of the model, in the dtype of these arrays, that has them as parameters.

        One a dtype, made when it is first asked for.
        """
        kind = np.result_type(*arrays.values())
        if kind not in self.models:
            made = self.models[kind] = self.model.astype(kind)
            if any(np.shares_memory(made.parameters[name], value) for name, value in self.model.parameters.items()):
                raise MinigptError("model.astype returned a model with the same parameters, it must return a copy")
        for name, value in arrays.items():
            self.models[kind].parameters[name][...] = value
        return self.models[kind]

    def call(self, model, function, remarks=None):
        """model.loss or model.loss_and_grads; remarks: a list to add those on its changes to."""
        batch = copied(self.batch)
        rng = None if self.dropout_seed is None else np.random.default_rng(self.dropout_seed)
        things = [] if remarks is None else [(dict(model.parameters), ""), (batch, "batch")]
        before = [snapshot(*thing) for thing in things]
        made = getattr(model, function)(*batch, rng) if len(batch) == 2 else getattr(model, function)(*batch, rng=rng)
        for then, thing in zip(before, things):
            remarks += remarks_on(function, then, snapshot(*thing))
        return made

    def loss(self, arrays, remarks=None):
        """The loss with these arrays as parameters."""
        return self.call(self.at(arrays), "loss", remarks)

    def loss_and_grads(self, remarks):
        """The loss and the gradients that the model returns; MinigptError for another form."""
        made = self.call(self.at(self.values), "loss_and_grads", remarks)
        if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping)):
            raise MinigptError(f"loss_and_grads returned {kind_of(made)}, it must return (loss, name -> gradient)")
        return made

    def gradients(self, arrays):
        """The gradients with these arrays as parameters."""
        return self.call(self.at(arrays), "loss_and_grads")[1]


def as_batch(ids, targets):
    """The positional arguments of a loss: (ids, targets) or (batch,). MinigptError for neither."""
    if isinstance(ids, Mapping):
        if targets is not None:
            raise MinigptError("a batch has its targets in it: check_gradients(model, batch), the rest by name")
        return (ids,)
    if targets is None and isinstance(ids, tuple) and len(ids) == 2:
        return ids
    if targets is None:
        what = f"not {kind_of(ids)} alone"
        raise MinigptError(f"targets are missing: give ids and targets, or a batch (a mapping of named arrays), {what}")
    return ids, targets


def errors_by_step(model, ids, targets=None, seed=0, exponents=range(31)):
    """Error of both methods by size of step: the V of central differences, the flat complex step.

    Steps 10^-e along one random direction of all parameters.
    -> steps (n,), dict of method -> relative errors (n,). Central differences end where the step is
    too small to change a parameter.
    """
    losses, rng = Losses(model, ids, targets), np.random.default_rng(seed)
    _, grads = losses.loss_and_grads([])
    v = {name: rng.choice([-1.0, 1.0], x.shape) for name, x in losses.values.items()}
    exact = sum((grads[name] * v[name]).sum() for name in v)

    def loss(step):
        return losses.loss({name: x + step * v[name] for name, x in losses.values.items()})

    steps, errors = [10.0**-e for e in exponents], {"central": [], "complex": []}
    for h in steps:
        with np.errstate(all="ignore"):
            errors["central"].append(abs((loss(h) - loss(-h)) / (2 * h) - exact) / abs(exact))
            errors["complex"].append(abs(loss(1j * h).imag / h - exact) / abs(exact))
    return np.array(steps), {method: np.array(values, np.float64) for method, values in errors.items()}
