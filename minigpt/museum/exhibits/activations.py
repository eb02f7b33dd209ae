"""Mistakes planted in activations and the MLP."""

from minigpt.museum.checks import gradients
from minigpt.museum.oracles import activation_oracle, golden_loss
from minigpt.museum.planting import Edit, gradient, other
from minigpt.museum.two_stack_checks import gated_t5_gradients, golden_t5_losses, t5_gradients

EXHIBITS = [
    gradient(
        "GELU: the derivative of the tanh form for the exact one", "ops.activations", "gelu_backward",
        "x, cdf = cache",
        "x, cdf = cache\n    return gelu_tanh_backward(dy, GeluTanhCache(x, (1 + np.tanh(SQRT_2_OVER_PI * (x + "
        "0.044715 * x**3))) / 2))",
        gradients.gelu, "gelu.x",
        "none: the two differ by one part in a thousand",
    ),
    gradient(
        "GELU: the density's term dropped", "ops.activations", "gelu_backward",
        "slope += cdf", "slope = cdf.copy()", gradients.gelu, "gelu.x",
        "learns, a little worse: the slope is off by up to a quarter",
    ),
    gradient(
        "GELU: 1 / sqrt(2 pi) typed as 0.4", "ops.activations", "gelu_backward",
        "1 / math.sqrt(2 * math.pi)", "0.4", gradients.gelu, "gelu.x",
        "none",
    ),
    gradient(
        "GELU (tanh): the factor 3 of the cube's slope forgotten", "ops.activations", "gelu_tanh_backward",
        "6 * 0.044715", "2 * 0.044715", gradients.gelu_tanh, "gelu_tanh.x",
        "learns, a little worse",
    ),
    gradient(
        "GELU (tanh): 0.044715 typed as 0.0447 in backward", "ops.activations", "gelu_tanh_backward",
        "6 * 0.044715", "6 * 0.0447", gradients.gelu_tanh, "gelu_tanh.x",
        "none",
    ),
    gradient(
        "GELU (tanh): the factor 1 - cdf of the slope forgotten", "ops.activations", "gelu_tanh_backward",
        "slope = 1 - cdf", "slope = np.ones_like(cdf)", gradients.gelu_tanh, "gelu_tanh.x",
        "learns worse, the more negative its activations are",
    ),
    gradient(
        "SiLU: the sigmoid's own term dropped", "ops.activations", "silu_backward",
        "slope += 1", "pass", gradients.silu, "silu.x",
        "activations near zero get no gradient: units stay where they start",
    ),
    gradient(
        "ReLU: gradient let through where the input was negative", "ops.activations", "relu_backward",
        "dy * cache.positive", "dy.copy()", gradients.relu, "relu.x",
        "learns, more slowly: units that are off are trained as if they were on",
    ),
    other(
        "GELU (tanh): 0.044715 typed as 0.44715, both ways",
        (
            Edit("ops.activations", "gelu_tanh_forward", "cdf *= 0.044715", "cdf *= 0.44715"),
            Edit("ops.activations", "gelu_tanh_backward", "dz2 *= 6 * 0.044715", "dz2 *= 6 * 0.44715"),
        ),
        "oracle: activations by formula", activation_oracle, "gelu_tanh",
        "none in training from scratch: it is an activation as good as any", gradients.gelu_tanh,
    ),
    gradient(
        "MLP: its dropout forgotten in backward", "layers.mlp", "MLP.backward",
        "dy = dropout_backward(dy, cache.dropout)", "pass", gradients.gpt, "h.1.mlp.c_proj.bias",
        "dropped units are trained as if they had been there: noise",
    ),
    gradient(
        "MLP: the activation skipped in backward", "layers.mlp", "MLP.backward",
        "activation_backward(da, cache.activation)", "da", gradients.gpt, "h.1.mlp.c_fc.bias",
        "learns, a little worse: the slope is between 0 and 1.1 anyway",
    ),
    gradient(
        "MLP: its inner dropout forgotten in backward", "layers.mlp", "MLP.backward",
        "da = dropout_backward(da, cache.inner)", "pass", t5_gradients, "decoder.h.0.mlp.c_fc.weight",
        "dropped units are trained as if they had been there: noise",
    ),
    gradient(
        "gate: the gradients of gate and value swapped", "ops.gating", "gate_backward",
        "dy * cache.value, dy * cache.gate", "dy * cache.gate, dy * cache.value", gradients.gate,
        "gate.gate gate.value",
        "learns a little, as if each were the other",
    ),
    gradient(
        "gated MLP: the gate's activation skipped in backward", "layers.mlp", "GatedMLP.backward",
        "dh = activation_backward(da, cache.activation)", "dh = da", gated_t5_gradients,
        "decoder.h.0.mlp.c_gate.weight",
        "learns, a little worse: the slope is between 0 and 1.1 anyway",
    ),
    gradient(
        "gated MLP: what the value's matrix hands down lost", "layers.mlp", "GatedMLP.backward",
        "return dx + self.c_gate", "return self.c_gate", gated_t5_gradients, "decoder.h.0.ln_2.weight",
        "learns, a little worse: one of two ways down is closed",
    ),
    other(
        "gated MLP: gate and value swapped, both ways",
        (
            Edit("layers.mlp", "GatedMLP.forward", "self.c_gate.forward(p, x)", "self.c_fc.forward(p, x)"),
            Edit("layers.mlp", "GatedMLP.forward", "value, c_fc = self.c_fc.", "value, c_fc = self.c_gate."),
            Edit("layers.mlp", "GatedMLP.backward", "self.c_fc.backward(g, dvalue,", "self.c_gate.backward(g, dvalue,"),
            Edit("layers.mlp", "GatedMLP.backward", "self.c_gate.backward(g, dh,", "self.c_fc.backward(g, dh,"),
        ),
        "golden: losses of Hugging Face's T5", golden_t5_losses, "v1.1",
        "none from scratch; v1.1 from elsewhere gives soup", gated_t5_gradients,
    ),
    other(
        "GELU: the other form than the config's",
        Edit(
            "layers.mlp", "MLP.__init__",
            "= name, activation, dropout", '= name, activation.removesuffix("_tanh"), dropout',
        ),
        "golden: loss of Hugging Face's GPT-2", golden_loss, "loss",
        "none, but logits of a checkpoint from elsewhere agree to a few digits only", gradients.gpt,
    ),
]  # fmt: skip
