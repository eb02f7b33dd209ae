"""Mistakes planted in the gradient checker itself: who checks the checker?"""

from minigpt.museum.planting import Edit, other
from minigpt.museum.verdicts import verdicts

RUNG = "oracle: ops known right and wrong"

EXHIBITS = [
    other(
        "checker: hands over its own dy and goes on using it",
        Edit("gradcheck.pair", "Pair.arriving", "np.asarray(factor * d) for d in self.dy", "d for d in self.dy"),
        RUNG, verdicts, "dy written into",
        "a backward that writes into dy changes what it is compared with: both sides are wrong in the same way",
    ),
    other(
        "checker: hands over its own inputs and goes on using them",
        Edit("gradcheck.pair", "Pair.check", "values = copied(self.given)", "values = self.given"),
        RUNG, verdicts, "x written into",
        "a forward that works in place moves the point where the gradient is taken",
    ),
    other(
        "checker: a step that is too large for the complex step",
        Edit("gradcheck.comparison", "Comparison.compare", "h = STEP[method] if", "h = 1e-3 if"),
        RUNG, verdicts, "a right gradient, a right gradient by both methods, a right model, a deviation held constant",
        "right code fails by one part in a million, and the tolerance is raised until it passes",
    ),
    other(
        "checker: the tolerance absolute",
        Edit("gradcheck.comparison", "Comparison.compare", "max(float(abs(g).max()), 1e-3 * self.largest)", "1e6"),
        RUNG, verdicts, "half of a small gradient, small beside large",
        "small gradients are never wrong",
    ),
    other(
        "checker: no central difference confirms the complex step",
        Edit("gradcheck.comparison", "Comparison.compare", "gap = self.methods_gap(name, along)", "gap = 0.0"),
        RUNG, verdicts, "a deviation held constant",
        "a path that forward hides from the complex step and backward forgets is in neither",
    ),
    other(
        "checker: every error measured against the largest gradient of all",
        Edit(
            "gradcheck.comparison", "Comparison.compare",
            "float(abs(g).max()), 1e-3 * self.largest", "0, 1e3 * self.largest",
        ),
        RUNG, verdicts, "small beside large",
        "a parameter with small gradients is right whatever they are",
    ),
    other(
        "checker: compared only where the gradient is not zero",
        Edit(
            "gradcheck.comparison", "Comparison.compare",
            "in zip(vs, slopes)]", "in zip(vs, slopes) if (g * v).any()]",
        ),
        RUNG, verdicts, "dy written into, zeros",
        "what backward forgets altogether is not looked at",
    ),
    other(
        "checker: one run is enough",
        Edit("gradcheck.pair", "Pair.look_for_state", "apart(analytic, self.gradients({}))", "()"),
        RUNG, verdicts, "right once",
        "a backward that keeps something between calls is right when it is checked and wrong when it is used",
    ),
    other(
        "checker: only the gradients that are there",
        Edit("gradcheck.model", "check_names", "if missed or extra:", "if extra:"),
        RUNG, verdicts, "a parameter without a gradient",
        "a parameter that is never trained has no row in the table that would say so",
    ),
    other(
        "checker: dy drawn from the stream of the reader's own inputs",
        Edit("gradcheck.pair", "Pair.__init__", "np.random.default_rng([seed, 1])", "np.random.default_rng(seed)"),
        RUNG, verdicts, "dweight transposed",
        "with dy = x, x^T dy is symmetric: a transposed dweight is as good as the right one",
    ),
    other(
        "checker: a dy of ones",
        Edit("gradcheck.pair", "Pair.check", "self.rng.standard_normal(part.shape)", "np.ones(part.shape)"),
        RUNG, verdicts, "dy not turned round",
        "what only moves numbers about, and whatever a sum does not see, passes",
    ),
    other(
        "checker: of a large array, single numbers alone",
        Edit("gradcheck.numeric", "directions", "for _ in range(SAMPLES)", "for _ in range(0)"),
        RUNG, verdicts, "one of many",
        "one wrong number of many is found as often as it is drawn",
    ),
    other(
        "checker: an error that is not a number is no error",
        Edit("gradcheck.report", "Report.verdict", "not row.error <= self.limit", "row.error > self.limit"),
        RUNG, verdicts, "NaN",
        "every comparison with NaN is false, also the one that should fail",
    ),
    other(
        "checker: a gradient that is not returned is not missed",
        Edit("gradcheck.op", "named_gradients", "if missed", "if False"),
        RUNG, verdicts, "dweight missing",
        "a row that is not there looks like one that passed",
    ),
    other(
        "checker: a layer's gradients collected into zeros alone",
        Edit("gradcheck.layer", "LayerFunction.finish", "self.draws.standard_normal(g.shape)", "0 * g"),
        RUNG, verdicts, "gradients overwritten",
        "the layer passes, and in training each micro-batch overwrites the one before",
    ),
]  # fmt: skip
