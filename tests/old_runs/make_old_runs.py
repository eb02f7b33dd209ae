"""How the folders beside this file were made, with the code of commit 2bd09d0.

One small run a preset, stopped half way: `python tests/old_runs/make_old_runs.py` in a checkout of
that commit makes them again. Each folder is OUT/last of that run; expected.json holds the texts
that the old code generated from it, and end.safetensors the parameters that it reached when it went
on to the end.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import minigpt
from minigpt import checkpoint

HERE = Path(__file__).parent
TEXT = "".join(f"{i} potatoes, {i + 1} potatoes: {'more' if i % 3 else 'enough'}!\n" for i in range(200))
SMALL = ["--n-layer", "2", "--n-head", "2", "--n-embd", "8", "--block-size", "16", "--batch-size", "4"]
SMALL += ["--shards", "2", "--threads", "1"]


def run(*arguments):
    """minigpt with arguments."""
    subprocess.run(
        [sys.executable, "-m", "minigpt", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def main():
    """Train, stop, generate, go on."""
    work = HERE / "work"
    work.mkdir()
    (work / "text.txt").write_text(TEXT, encoding="utf-8")
    for preset in ("quick", "default", "best", "nanogpt-cpu"):
        out, folder = work / preset, HERE / preset
        settings = ["--data", str(work / "text.txt"), "--out", str(out), "--preset", preset, *SMALL]
        settings += ["--steps", "24", "--dropout", "0.1", "--warmup", "3"]
        run("train", *settings, "--save-interval", "100", "--eval-interval", "100")
        end = minigpt.load(out / "last").store.vector.copy()
        out.rename(work / f"{preset}-straight")
        code = "import minigpt.training.trainer as t; s = t.Trainer.train_step\n"
        code += "def step(self):\n    if self.step == 12: raise KeyboardInterrupt\n    return s(self)\n"
        code += "t.Trainer.train_step = step\nfrom minigpt.cli import main\nimport sys\nmain(sys.argv[1:])"
        settings += ["--save-interval", "12", "--eval-interval", "100"]
        subprocess.run(
            [sys.executable, "-c", code, "train", *settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        shutil.copytree(out / "last", folder)
        model, tokenizer = minigpt.load(folder), checkpoint.load_tokenizer(folder)
        prompt = tokenizer.encode("7 potatoes")[None]
        texts = {
            "greedy": tokenizer.decode(model.generate(prompt, 40, temperature=0)[0]),
            "sampled": tokenizer.decode(model.generate(prompt, 40, temperature=0.8, top_k=10, seed=3)[0]),
        }
        (folder / "expected.json").write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")
        from safetensors.numpy import save_file

        save_file({"vector": end}, folder / "end.safetensors")
    shutil.rmtree(work)


if __name__ == "__main__":
    assert minigpt.__version__ == "0.1.0"
    main()
