"""Mistakes planted in optimisers, clipping and schedules."""

from minigpt.museum.planting import Edit, other
from minigpt.museum.training_oracles import adamw_oracle, clipping, muon_oracle, schedule_oracle

EXHIBITS = [
    other(
        "AdamW: no bias correction of m",
        Edit("optim.adamw", "AdamW.step", "correct_m = 1 / (1 - b1 ** int(t[0]))", "correct_m = 1.0"),
        "oracle: AdamW in loops", adamw_oracle, "matrices, vectors",
        "the first steps are ten times too short: an unasked-for warm-up",
    ),
    other(
        "AdamW: no bias correction of v",
        Edit("optim.adamw", "AdamW.step", "correct_v = 1 / math.sqrt(1 - b2 ** int(t[0]))", "correct_v = 1.0"),
        "oracle: AdamW in loops", adamw_oracle, "matrices, vectors",
        "the first steps are up to thirty times too long: the loss jumps at the start, and warm-up seems essential",
    ),
    other(
        "AdamW: eps inside the root",
        Edit(
            "optim.adamw", "AdamW.step",
            "s += self.eps", "np.sqrt(vc * correct_v**2 + self.eps, out=s)",
        ),
        "oracle: AdamW in loops", adamw_oracle, "matrices, vectors",
        "parameters with small gradients, such as rare embeddings, hardly move",
    ),
    other(
        "AdamW: betas swapped",
        Edit("optim.adamw", "AdamW.step", "b1, b2 = self.betas", "b2, b1 = self.betas"),
        "oracle: AdamW in loops", adamw_oracle, "matrices, vectors",
        "swings: momentum over a thousand steps, scale over ten",
    ),
    other(
        "AdamW: the second moment of |g|, not of g squared",
        Edit("optim.adamw", "AdamW.step", "np.multiply(gc, gc, out=s)", "np.abs(gc, out=s)"),
        "oracle: AdamW in loops", adamw_oracle, "matrices, vectors",
        "steps depend on the gradient's scale after all; needs a new learning rate for every size",
    ),
    other(
        "AdamW: L2 in the gradient for decoupled decay",
        Edit(
            "optim.adamw", "AdamW.step",
            "decay(p, self.decayed, lr * self.weight_decay)",
            "[g[name].__iadd__(self.weight_decay * p[name]) for name in self.decayed]",
        ),
        "oracle: AdamW in loops", adamw_oracle, "matrices",
        "weight decay has little effect whatever its value: Adam divides it away",
    ),
    other(
        "AdamW: norms and biases decayed too",
        Edit("optim.base", "decayed_names", 'if parameter.role != "vector"', "if parameter.shape"),
        "oracle: AdamW in loops", adamw_oracle, "vectors",
        "LayerNorm weights shrink from 1; the loss levels off higher",
    ),
    other(
        "Muon: Nesterov's look-ahead left out",
        Edit("optim.muon", "Muon.step", "u += (1 - self.momentum) * gradient", "pass"),
        "oracle: Muon by singular values", muon_oracle, "wide, tall, qkv",
        "learns, a little slower",
    ),
    other(
        "Muon: scale by inputs / outputs, as for (outputs, inputs) matrices",
        Edit("optim.muon", "Muon.step", "outputs / inputs))", "inputs / outputs))"),
        "oracle: Muon by singular values", muon_oracle, "wide, tall",
        "c_fc learns at half of its rate and c_proj at twice",
    ),
    other(
        "Muon: one norm for a whole batch of matrices",
        Edit("optim.muon", "newton_schulz", "axis=(-2, -1), keepdims", "keepdims"),
        "oracle: Muon by singular values", muon_oracle, "qkv, newton_schulz",
        "matrices with small gradients are not orthogonalised: layers learn at different speeds",
    ),
    other(
        "Muon: q, k and v orthogonalised as one matrix",
        Edit(
            "optim.muon", "group_by_shape",
            "for name, parts in hidden.items():", "for name, parts in dict.fromkeys(hidden, 1).items():",
        ),
        "oracle: Muon by singular values", muon_oracle, "qkv",
        "learns, a little slower: the largest of the three takes the step",
    ),
    other(
        "clipping by value in place of norm",
        Edit(
            "optim.clipping", "clip_by_norm",
            "g.vector *= limit / norm", "g.vector.clip(-limit, limit, out=g.vector)",
        ),
        "oracle: clipping by formula", clipping, "long",
        "works, with another direction: large entries count for less",
    ),
    other(
        "clipping: short gradients stretched to the limit",
        Edit("optim.clipping", "clip_by_norm", "0 < limit < norm", "0 < limit"),
        "invariance: short gradients kept", clipping, "short",
        "never settles: every step has full length, to the end",
    ),
    other(
        "clipping by the squared norm",
        Edit("optim.clipping", "clip_by_norm", "math.sqrt(g.vector @ g.vector)", "float(g.vector @ g.vector)"),
        "oracle: clipping by formula", clipping, "long, short",
        "large gradients end up small, the larger the smaller",
    ),
    other(
        "schedule: the first step at rate 0",
        Edit("optim.schedules", "warm_up", "(step + 1) / (warmup + 1)", "step / warmup"),
        "oracle: schedules by formula", schedule_oracle, "linear, cosine",
        "one batch wasted; without warm-up a division by zero",
    ),
    other(
        "schedule: decay counted from step 0, not from the end of warm-up",
        Edit("optim.schedules", "progress", "(step - warmup) / max", "step / max"),
        "oracle: schedules by formula", schedule_oracle, "linear, cosine",
        "the rate jumps down at the end of warm-up and reaches its floor too early",
    ),
    other(
        "schedule: the last step short of the floor",
        Edit("optim.schedules", "progress", "steps - 1 - warmup", "steps - warmup"),
        "oracle: schedules by formula", schedule_oracle, "linear, cosine",
        "none",
    ),
    other(
        "schedule: a whole cosine for half of one",
        Edit("optim.schedules", "cosine", "math.cos(math.pi", "math.cos(2 * math.pi"),
        "oracle: schedules by formula", schedule_oracle, "cosine",
        "the loss is best at half time and worse at the end",
    ),
]  # fmt: skip
