"""One observer of ops: what profile and diagnosis see a model do, call by call, in both directions.

The ops and the layers hold no line of this. While somebody observes, the names of the ops stand,
in every module that holds one, for functions that tell the observer of their thread; when nobody
does, they are the ops themselves. No bit of what is computed changes.

    >>> import numpy as np
    >>> from minigpt import GPT, GPTConfig
    >>> from minigpt.observe import Observer, observing
    >>> class Printer(Observer):
    ...     def leave(self, call, outputs):
    ...         if call.part == "ops":
    ...             print(call.place)
    >>> model = GPT(GPTConfig(5, 4, n_layer=1, n_head=2, n_embd=4, tie_embeddings=False))
    >>> ids = np.array([[0, 1, 2, 3]])
    >>> with observing(Printer()):
    ...     loss = model.loss(ids, ids)
    wte: embedding_forward
    wpe: embedding_forward
    wpe: learned_positions_forward
    dropout_forward
    h.0.ln_1: layernorm_forward
    h.0.attn.c_attn: linear_forward
    h.0.attn: attention_forward
    h.0.attn.c_proj: linear_forward
    h.0.attn: dropout_forward
    h.0.ln_2: layernorm_forward
    h.0.mlp.c_fc: linear_forward
    h.0.mlp: gelu_tanh_forward
    h.0.mlp.c_proj: linear_forward
    h.0.mlp: dropout_forward
    ln_f: layernorm_forward
    lm_head: linear_forward
    cross_entropy_forward
"""

import functools
import inspect
import sys
import threading
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import NamedTuple

import numpy as np

from minigpt import layers, ops

# What is observed stands here: the functions that minigpt.ops lists in __all__, but these;
NOT_OPS = ("count_targets", "relative_buckets", "rotary_table", "sinusoidal_positions")
# the methods of these names of each class of minigpt.layers that has both, and of what is derived
LAYER_METHODS = ("forward", "backward")
# from it; and these, where they are loaded: (part, module, name), methods of derived classes too.
FURTHER_CALLS = (
    ("ops", "minigpt.ops.newest_attention", "newest_attention"),
    ("models", "minigpt.models.base", "Model.add_gradients"),
    ("optim", "minigpt.optim.clipping", "clip_by_norm"),
    ("optim", "minigpt.optim.muon", "newton_schulz"),
    ("optim", "minigpt.optim.muon", "Muon.step"),
    ("optim", "minigpt.optim.adamw", "AdamW.step"),
    ("optim", "minigpt.optim.sgd", "SGD.step"),
    ("data", "minigpt.data.batches", "draw_batch"),
)
BUFFERS = ("out", "scores")  # arguments of ops that are written into


class Call(NamedTuple):
    """One call of an op, or of a method of a layer, a model or an optimiser."""

    name: str  # linear_forward; of a method, "Muon.step", "Linear.forward"
    part: str  # where it belongs: ops, layers, models, optim or data
    layers: tuple  # the layers at work, outermost first; of a layer's own call it is the last
    function: FunctionType
    arguments: tuple
    keywords: dict

    @property
    def direction(self):
        """ "forward", of activations computed again too, or "backward"; "" of no op or layer."""
        if self.part not in ("ops", "layers"):
            return ""
        return "backward" if self.name.endswith("backward") else "forward"

    @property
    def path(self):
        """The names of the layers at work, outermost first: ("h.0", "h.0.attn")."""
        return tuple(layer_name(layer) for layer in self.layers)

    @property
    def place(self):
        """ "h.0.attn: rmsnorm_forward", or the op alone where no layer is at work."""
        return f"{layer_name(self.layers[-1])}: {self.name}" if self.layers else self.name

    def inputs(self):
        """Name -> value of all arguments but buffers, in order."""
        bound = inspect.signature(self.function).bind(*self.arguments, **self.keywords)
        return {name: value for name, value in bound.arguments.items() if name not in BUFFERS}


class Observer:
    """Is told of each call: derive from it. It may call ops itself under observing(None)."""

    def enter(self, call):
        """A Call begins."""

    def leave(self, call, outputs):
        """It ends with what it returns, None where it raises; calls within it have ended before."""


class ThreadState(threading.local):
    """What this thread tells, and where its model is."""

    observer = None
    layers = ()


class Installation:
    """How many threads observe, and what stands for what meanwhile."""

    def __init__(self):
        self.lock, self.users, self.replaced = threading.Lock(), 0, {}


THREAD = ThreadState()
INSTALLATION = Installation()


@contextmanager
def observing(observer):
    """Tell an Observer of every call of this thread while the context lasts; None: tell nobody.

    Other threads compute as they always do, or have observers of their own.
    """
    with observable():
        outer = THREAD.observer, THREAD.layers
        THREAD.observer, THREAD.layers = observer, ()
        try:
            yield observer
        finally:
            THREAD.observer, THREAD.layers = outer


@contextmanager
def observable():
    """Have calls pass by their thread's observer, if any; `observing` within it costs nothing."""
    with INSTALLATION.lock:
        if INSTALLATION.users == 0:
            INSTALLATION.replaced = {function: told(function, *what) for function, *what in observed_functions()}
            replace(INSTALLATION.replaced)
        INSTALLATION.users += 1
    try:
        yield
    finally:
        with INSTALLATION.lock:
            INSTALLATION.users -= 1
            if INSTALLATION.users == 0:
                # looked for anew: a module that was loaded meanwhile may have taken some
                replace({new: old for old, new in INSTALLATION.replaced.items()})
                INSTALLATION.replaced = {}


def told(function, name, part):
    """A function that does the same and tells the thread's observer."""
    of_a_layer = part == "layers"

    @functools.wraps(function)
    def call(*arguments, **keywords):
        observer = THREAD.observer
        if observer is None:
            return function(*arguments, **keywords)
        outer = inner = THREAD.layers
        if of_a_layer and not (outer and outer[-1] is arguments[0]):  # super().forward is the same layer's
            inner = THREAD.layers = (*outer, arguments[0])
        one, outputs = Call(name, part, inner, function, arguments, keywords), None
        observer.enter(one)
        try:
            outputs = function(*arguments, **keywords)
            return outputs
        finally:
            observer.leave(one, outputs)
            if inner is not outer:
                THREAD.layers = outer

    return call


def observed_functions():
    """Everything that is observed and loaded: yields (function, name, part)."""
    for name in ops.__all__:
        if name not in NOT_OPS and type(function := getattr(ops, name)) is FunctionType:
            yield function, name, "ops"
    for owner in layer_classes():
        for name in LAYER_METHODS:
            if type(function := vars(owner).get(name)) is FunctionType:
                yield function, f"{owner.__name__}.{name}", "layers"
    for part, holder, name in further_calls():
        if type(function := vars(holder).get(name)) is FunctionType:
            yield function, f"{holder.__name__}.{name}" if isinstance(holder, type) else name, part


def further_calls():
    """FURTHER_CALLS that are loaded: yields (part, module or class, name)."""
    for part, module, path in FURTHER_CALLS:
        if module in sys.modules:
            owner, _, name = path.rpartition(".")
            holders = with_derived(getattr(sys.modules[module], owner)) if owner else [sys.modules[module]]
            yield from ((part, holder, name) for holder in holders)


def layer_classes():
    """Every class of minigpt.layers with a forward and a backward, and what is derived from one."""
    listed = [value for name in layers.__all__ if isinstance(value := getattr(layers, name), type)]
    listed = [owner for owner in listed if all(hasattr(owner, name) for name in LAYER_METHODS)]
    return list(dict.fromkeys(c for owner in listed for c in with_derived(owner)))


def with_derived(owner):
    """A class and all that are derived from it, at any depth. -> list"""
    return [owner, *(c for derived in owner.__subclasses__() for c in with_derived(derived))]


def replace(instead):
    """Put functions in place of others, by identity, in every loaded module and observed class.

    In modules of minigpt also where a dict or a tuple holds them.
    """
    for module in [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]:
        tables = module.__name__.partition(".")[0] == "minigpt"
        kinds = (FunctionType, tuple, dict) if tables else (FunctionType,)
        for name, value in list(vars(module).items()):  # a list at once: other threads may import meanwhile
            if type(value) in kinds and not name.startswith("__"):
                new = replaced(value, instead)
                if new is not value:
                    setattr(module, name, new)
    owners = [holder for _, holder, _ in further_calls() if isinstance(holder, type)]
    for owner in {*layer_classes(), *owners}:
        for name, value in list(vars(owner).items()):
            if type(value) is FunctionType and value in instead:
                setattr(owner, name, instead[value])


def replaced(value, instead):
    """A value with functions replaced: itself, those of a tuple in a new one, a dict's in it."""
    if type(value) is FunctionType:  # isinstance would ask objects of other packages, some of which warn
        return instead.get(value, value)
    if type(value) is tuple:
        items = tuple(replaced(item, instead) for item in value)
        return items if any(a is not b for a, b in zip(items, value)) else value
    if type(value) is dict:
        for key, item in list(value.items()):
            new = replaced(item, instead)
            if new is not item:
                value[key] = new
    return value


def layer_name(layer):
    """A layer's name, or what those of its parameters have in common: h.0 of h.0.ln_1.weight ..."""
    if isinstance(name := getattr(layer, "name", None), str):
        return name
    parameters = layer.parameters() or [layer.weight]  # a tied head has none of its own
    paths = [parameter.name.split(".")[:-1] for parameter in parameters]
    same = [parts[0] for parts in zip(*paths) if len(set(parts)) == 1]
    return ".".join(same)


def first_not_finite(run):
    """Where numbers first go wrong in run(), which computes a forward and perhaps a backward.

    -> None, or the first op, in order of execution, that gave a number which is not finite, as
    Call.place has it: "h.0.attn: rmsnorm_forward". Where it was given one, a sum between the ops
    overflowed: then it is that argument, "h.1.ln_1: x of layernorm_forward". Nothing that passes is
    kept.
    """
    with np.errstate(all="ignore"), observing(FiniteWatch()) as watch:
        run()
    return watch.place


class FiniteWatch(Observer):
    """Notes the first call that returned a number which is not finite."""

    place = None

    def leave(self, call, outputs):
        """Look at an op's outputs and cache, at a layer's output alone: its sums may overflow."""
        if self.place is not None or call.part not in ("ops", "layers"):
            return
        if call.part == "layers" and call.direction == "forward" and type(outputs) is tuple:
            outputs = outputs[:1]
        wrong = [array for array in arrays(outputs) if not np.isfinite(array).all()]
        if not wrong:
            return
        inputs = {name: list(arrays(value)) for name, value in call.inputs().items()}
        # as a bias that hides by -inf is passed on into a cache
        passed_on = {id(array) for given in inputs.values() for array in given}
        if all(id(array) in passed_on for array in wrong):
            return
        given = [name for name, values in inputs.items() if not all(np.isfinite(array).all() for array in values)]
        layer, _, op = call.place.rpartition(": ")
        self.place = f"{layer}: {given[0]} of {op}".removeprefix(": ") if given else call.place


def arrays(value):
    """Yields the arrays and numbers of floating point in a nest of tuples and lists."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind in "fc":
            yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from arrays(item)
