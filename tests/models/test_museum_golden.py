"""The values on record for the families, remade by transformers."""

import pytest
from lifted_casts import lift_casts

import minigpt
from minigpt.museum.encoder_checks import golden_encoder
from minigpt.museum.families import GOLDEN, golden_family
from minigpt.museum.two_stack_checks import GATED, golden_t5


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


@pytest.mark.parity
@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_golden_losses_of_encoders_are_transformers(model_type, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, batch = golden_encoder(model_type)
    minigpt.to_huggingface(model, tmp_path)
    auto = transformers.AutoModelForPreTraining if model_type == "bert" else transformers.AutoModelForMaskedLM
    theirs = auto.from_pretrained(tmp_path, dtype=torch.float64).eval()
    arrays = {name: torch.tensor(value) for name, value in batch.items()}
    with torch.no_grad():
        out = theirs(arrays["ids"], attention_mask=arrays["attention_mask"], token_type_ids=arrays["token_type_ids"])
    logits = {"targets": out.prediction_logits if model_type == "bert" else out.logits}
    if model_type == "bert":
        logits["next_sentence"] = out.seq_relationship_logits
    for name, value in logits.items():
        loss = torch.nn.functional.cross_entropy(value.flatten(0, -2), arrays[name].flatten())
        assert loss.item() == pytest.approx(GOLDEN[model_type][name], rel=1e-12)
    assert GOLDEN[model_type].keys() == logits.keys()


@pytest.mark.parity
@pytest.mark.parametrize(("version", "changes"), [("v1.0", {}), ("v1.1", GATED)])
def test_golden_losses_of_t5_are_transformers(version, changes, tmp_path, monkeypatch):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from t5_oracle import CASTS
    from transformers.models.t5 import modeling_t5

    lift_casts(monkeypatch, modeling_t5, *CASTS)
    model, batch = golden_t5(**changes)
    minigpt.to_huggingface(model, tmp_path)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(
        tmp_path, dtype=torch.float64, attn_implementation="eager"
    )
    ids, mask, targets = (torch.tensor(batch[name].copy()) for name in ("ids", "attention_mask", "targets"))
    with torch.no_grad():
        loss = theirs.eval()(input_ids=ids, attention_mask=mask, labels=targets).loss
    assert loss.item() == pytest.approx(GOLDEN["t5"][version], rel=1e-12)
