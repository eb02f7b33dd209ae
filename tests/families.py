"""One row a family, and one a setting that changes its wiring, for test_families.py."""

from dataclasses import replace

import numpy as np

from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.gpt import GPT, GPTConfig
from minigpt.models.gpt_neo import GPTNeo, GPTNeoConfig
from minigpt.models.recipe_gpt import RecipeGPT, RecipeGPTConfig
from minigpt.models.roberta import RoBERTa, RoBERTaConfig
from minigpt.models.t5 import T5, T5Config
from minigpt.objectives import Batch

VOCABULARY, POSITIONS = 11, 9
GPT_SIZES = {"vocab_size": VOCABULARY, "block_size": POSITIONS, "n_layer": 2, "n_head": 2, "n_embd": 8}
NEO_SIZES = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "hidden_size": 6, "num_layers": 2}
NEO_SIZES |= {"num_heads": 2, "window_size": 3}
ALL_LOCAL = {"attention_layers": ("local", "local"), "intermediate_size": 10, "activation": "relu"}

CAUSAL = {  # name of a row -> model, config: each predicts the next of VOCABULARY tokens and sees POSITIONS of them
    "gpt": (GPT, GPTConfig(**GPT_SIZES)),
    "gpt untied": (GPT, GPTConfig(**GPT_SIZES, tie_embeddings=False, bias=False, activation="relu")),
    "recipe_gpt": (RecipeGPT, RecipeGPTConfig(**GPT_SIZES)),
    "recipe_gpt rotary": (RecipeGPT, RecipeGPTConfig(**GPT_SIZES, smear=False, qk_norm=False)),
    "recipe_gpt smear": (RecipeGPT, RecipeGPTConfig(**GPT_SIZES, positions="learned", qk_norm=False)),
    "gpt_neo": (GPTNeo, GPTNeoConfig(**NEO_SIZES)),
    "gpt_neo untied": (GPTNeo, GPTNeoConfig(**NEO_SIZES, **ALL_LOCAL, tie_embeddings=False)),
}

BERT_SIZES = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "hidden_size": 6, "num_labels": 4}
BERT_SIZES |= {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 10, "type_vocab_size": 3}
ROBERTA_SIZES = BERT_SIZES | {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}

ENCODERS = {  # name of a row -> model, config: each reads at most POSITIONS of VOCABULARY tokens
    "bert": (BERT, BERTConfig(**BERT_SIZES)),
    "bert untied": (BERT, BERTConfig(**BERT_SIZES, tie_embeddings=False, activation="relu")),
    "bert masked_lm": (BERT, BERTConfig(**BERT_SIZES, head="masked_lm")),
    "bert sequence": (BERT, BERTConfig(**BERT_SIZES, head="sequence_classification")),
    "bert tokens": (BERT, BERTConfig(**BERT_SIZES, head="token_classification")),
    "bert answers": (BERT, BERTConfig(**BERT_SIZES, head="question_answering")),
    "roberta": (RoBERTa, RoBERTaConfig(**ROBERTA_SIZES)),
    "roberta untied": (RoBERTa, RoBERTaConfig(**ROBERTA_SIZES, tie_embeddings=False, activation="silu")),
    "roberta sequence": (RoBERTa, RoBERTaConfig(**ROBERTA_SIZES, head="sequence_classification")),
    "roberta tokens": (RoBERTa, RoBERTaConfig(**ROBERTA_SIZES, head="token_classification")),
    "roberta answers": (RoBERTa, RoBERTaConfig(**ROBERTA_SIZES, head="question_answering")),
}

T5_SIZES = {"vocab_size": VOCABULARY, "d_model": 8, "d_kv": 3, "d_ff": 10, "num_layers": 2, "num_heads": 2}
T5_SIZES |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6}
DEEPER = {"num_decoder_layers": 3, "decoder_start_token_id": 2, "pad_token_id": 3}

ENCODER_DECODERS = {  # name of a row -> model, config: each writes a text of VOCABULARY tokens given another
    "t5": (T5, T5Config(**T5_SIZES)),
    "t5 1.1": (T5, T5Config(**T5_SIZES, **DEEPER, feed_forward_proj="gated-gelu", tie_embeddings=False)),
    "t5 tied": (T5, T5Config(**T5_SIZES, feed_forward_proj="gated-silu", scale_decoder_outputs=False)),
}
FAMILIES = CAUSAL | ENCODERS | ENCODER_DECODERS


def random_model(row, rng, dtype=np.float64, **changes):
    """A row's model with O(1) weights: small ones, as the initial, would hide wrong gradients.

    An encoder's norms scale by about 1: by less, all tokens come to look alike.
    """
    family, config = FAMILIES[row]
    model = family(replace(config, **changes), seed=1, dtype=dtype)
    model.store.vector[:] = 0.5 * rng.standard_normal(model.num_parameters)
    if row in ENCODERS:
        for name, parameter in model.store.parameters.items():
            model.store[name] += parameter.mean
    return model


def encoder_batch(model, rng, B=3, T=8):
    """A batch for an encoder's loss, padded at both sides, with some of each target ignored."""
    c, ids = model.config, rng.integers(2, VOCABULARY, (B, T))
    mask = np.ones((B, T), np.int64)
    mask[0, -2:] = mask[1, :1] = 0
    ids[mask == 0] = c.pad_token_id
    batch = {"ids": ids, "attention_mask": mask, "token_type_ids": rng.integers(0, c.type_vocab_size, (B, T))}
    for name, (shape, limit) in model.targets_of(B, T).items():
        batch[name] = rng.integers(0, limit, shape)
        batch[name][0] = -100
        if len(shape) == 2:
            batch[name][1, 3:] = -100
    return Batch(batch)


def pair_batch(model, rng, B=3, S=8, T=6):
    """A batch for the loss of a model of two stacks: source and target are padded at either side,
    some targets are ignored.
    """
    c, ids = model.config, rng.integers(0, VOCABULARY, (B, S))
    inputs, targets = rng.integers(0, VOCABULARY, (2, B, T))
    mask, decoder_mask = np.ones((B, S), np.int64), np.ones((B, T), np.int64)
    mask[0, -2:] = mask[1, :1] = decoder_mask[0, :1] = decoder_mask[1, -2:] = 0
    ids[mask == 0] = inputs[decoder_mask == 0] = c.pad_token_id
    inputs[np.arange(B), decoder_mask.argmax(axis=1)] = c.decoder_start_token_id
    targets[decoder_mask == 0] = targets[2, 3] = -100
    batch = {"ids": ids, "attention_mask": mask, "decoder_input_ids": inputs, "decoder_attention_mask": decoder_mask}
    return Batch(batch | {"targets": targets})
