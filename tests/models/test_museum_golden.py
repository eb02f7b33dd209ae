"""The values on record for the families, remade by transformers."""

import pytest
from lifted_casts import lift_casts

import minigpt
from minigpt.museum.families import GOLDEN, golden_family


@pytest.mark.parity
def test_golden_loss_of_gpt_neo_is_transformers(tmp_path, monkeypatch):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from transformers.models.gpt_neo import modeling_gpt_neo

    lift_casts(monkeypatch, modeling_gpt_neo, "query = query.to(torch.float32)", "key = key.to(torch.float32)")
    model, ids, targets = golden_family("gpt_neo")
    minigpt.to_huggingface(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64).eval()
    with torch.no_grad():
        logits = theirs(torch.tensor(ids)).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten())
    assert loss.item() == pytest.approx(GOLDEN["gpt_neo"]["loss"], rel=1e-12)
