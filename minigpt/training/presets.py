"""Recipes for tiny Shakespeare that are known to work; docs/RECIPE.md has what was tried, and what
each is worth.
"""

ROTARY = {
    "n_layer": 4,
    "n_head": 2,
    "n_embd": 128,
    "bias": False,
    "positions": "rotary",
    "qk_norm": True,
    "smear": True,
}
MUON = {
    "optimizer": "muon",
    "lr": 5e-3,
    "muon_lr": 0.015,
    "newton_schulz_steps": 3,
    "warmup": 15,
    "schedule": "linear",
    "final_lr": 0.0,
}

# name -> (fields of the model's config, fields of TrainConfig)
PRESETS = {
    "quick": (
        ROTARY | {"block_size": 128},
        MUON | {"steps": 500, "batch_size": 8, "muon_lr": 0.02, "eval_interval": 250, "save_interval": 500},
    ),
    "default": (
        ROTARY | {"block_size": 128},
        MUON | {"steps": 1300, "batch_size": 8, "eval_interval": 650, "save_interval": 650},
    ),
    "best": (
        ROTARY | {"block_size": 256, "n_layer": 5, "n_head": 3, "n_embd": 192},
        MUON
        | {
            "steps": 1800,
            "batch_size": 8,
            "newton_schulz_steps": 4,
            "weight_decay": 0.2,
            "eval_interval": 300,
            "save_interval": 300,
        },
    ),
    # nanoGPT's README, "I only have a macbook": the CPU recipe for tiny Shakespeare
    "nanogpt-cpu": (
        {"block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128, "bias": False},
        {"steps": 2000, "batch_size": 12, "optimizer": "adamw", "lr": 1e-3, "warmup": 100, "weight_decay": 0.1},
    ),
}

# Pre-training on tiny Shakespeare: family -> name -> (fields of the model's config, settings of
# tokenizer and objective, fields of TrainConfig)
ENCODER = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 128}
ROWS = {"tokenizer_vocab_size": 500, "sequence_length": 32, "short_length": 16, "mask_rate": 0.3}
ENCODER_MUON = MUON | {"batch_size": 32, "lr": 1e-3, "muon_lr": 0.02, "warmup": 50}
QUICK = (
    ENCODER,
    ROWS | {"short_share": 0.4},
    ENCODER_MUON | {"steps": 1000, "eval_interval": 500, "save_interval": 1000},
)
DEFAULT = (
    ENCODER,
    ROWS | {"short_share": 0.2},
    ENCODER_MUON | {"steps": 2000, "eval_interval": 500, "save_interval": 500},
)
T5_SIZES = {"d_model": 128, "d_kv": 64, "d_ff": 512, "num_layers": 2, "num_heads": 2}
SPANS = {"tokenizer_vocab_size": 500, "sequence_length": 32, "mask_rate": 0.35, "mean_span": 3.0, "varied": True}
T5_MUON = MUON | {"batch_size": 32, "lr": 0.1, "muon_lr": 0.02, "warmup": 50, "weight_decay": 0.1}
PRETRAINING_PRESETS = {family: {"quick": QUICK, "default": DEFAULT} for family in ("bert", "roberta")}
PRETRAINING_PRESETS["t5"] = {
    "quick": (T5_SIZES, SPANS, T5_MUON | {"steps": 700, "eval_interval": 350, "save_interval": 700}),
    "default": (T5_SIZES, SPANS, T5_MUON | {"steps": 2000, "eval_interval": 500, "save_interval": 500}),
}
