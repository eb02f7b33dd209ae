"""Runs of earlier versions: they load, write the same texts,
and go on to the same parameters (make_old_runs.py made them).
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from make_old_runs import TEXT
from safetensors.numpy import load_file

import minigpt
from minigpt.cli import main

HERE = Path(__file__).parent
PRESETS = ("quick", "default", "best", "nanogpt-cpu")


@pytest.mark.parametrize("preset", PRESETS)
def test_old_run_writes_the_same_texts(preset):
    model, tokenizer = minigpt.load(HERE / preset), minigpt.checkpoint.load_tokenizer(HERE / preset)
    expected = json.loads((HERE / preset / "expected.json").read_text(encoding="utf-8"))
    prompt = tokenizer.encode("7 potatoes")[None]
    for use_cache in (True, False):
        greedy = model.generate(prompt, 40, temperature=0, use_cache=use_cache)
        sampled = model.generate(prompt, 40, temperature=0.8, top_k=10, seed=3, use_cache=use_cache)
        assert {"greedy": tokenizer.decode(greedy[0]), "sampled": tokenizer.decode(sampled[0])} == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_old_run_is_resumed_to_the_same_parameters(preset, tmp_path, capsys):
    """Bit for bit on the machine that made them;
    another BLAS adds in another order, which twelve steps make little of.
    """
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    shutil.copytree(HERE / preset, tmp_path / "run" / "last")
    arguments = ["--data", str(tmp_path / "text.txt"), "--out", str(tmp_path / "run"), "--resume", "--threads", "1"]
    assert main(["train", *arguments]) == 0
    end = load_file(HERE / preset / "end.safetensors")["vector"]
    vector = minigpt.load(tmp_path / "run" / "last").store.vector
    print(f"{preset}: {np.count_nonzero(vector != end)} of {end.size} numbers differ")
    np.testing.assert_allclose(vector, end, rtol=1e-3, atol=2e-4)
