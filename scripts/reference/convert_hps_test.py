"""scripts/convert_hps on a tiny random CLIP in open_clip's layout: `python -m unittest convert_hps_test` in this folder.

The reference runs open_clip's arithmetic on open_clip's names (pre-norm blocks, joint q, k, v of
torch.nn.functional.multi_head_attention_forward, the class token's and the end token's output); the converted folder
runs in transformers.
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import torch
import torch.nn.functional as F
from transformers import CLIPModel

from reference_python import REPOSITORY

SCRIPT = REPOSITORY / "scripts/convert_hps"
WIDTH, HEADS, LAYERS, INNER, EMBED, PATCH, SIDE, TOKENS = 32, 4, 2, 48, 24, 8, 32, 49408


def random_state() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)

    def tensor(*shape: int) -> torch.Tensor:
        return 0.2 * torch.randn(shape, generator=draw)

    state = {"logit_scale": torch.tensor(4.6), "visual.class_embedding": tensor(WIDTH), "visual.proj": tensor(WIDTH, EMBED),
             "visual.positional_embedding": tensor((SIDE // PATCH) ** 2 + 1, WIDTH), "text_projection": tensor(WIDTH, EMBED),
             "visual.conv1.weight": tensor(WIDTH, 3, PATCH, PATCH), "token_embedding.weight": tensor(TOKENS, WIDTH),
             "positional_embedding": tensor(77, WIDTH), "attn_mask": torch.zeros(77, 77)}  # fmt: skip
    for norm in ("visual.ln_pre", "visual.ln_post", "ln_final"):
        state |= {f"{norm}.weight": 1 + tensor(WIDTH), f"{norm}.bias": tensor(WIDTH)}
    for side in ("visual.", ""):
        for number in range(LAYERS):
            block = f"{side}transformer.resblocks.{number}"
            state |= {f"{block}.attn.in_proj_weight": tensor(3 * WIDTH, WIDTH), f"{block}.attn.in_proj_bias": tensor(3 * WIDTH)}
            for name, out, inner in (("attn.out_proj", WIDTH, WIDTH), ("mlp.c_fc", INNER, WIDTH), ("mlp.c_proj", WIDTH, INNER)):
                state |= {f"{block}.{name}.weight": tensor(out, inner), f"{block}.{name}.bias": tensor(out)}
            for norm in ("ln_1", "ln_2"):
                state |= {f"{block}.{norm}.weight": 1 + tensor(WIDTH), f"{block}.{norm}.bias": tensor(WIDTH)}
    return state


def reference(state: dict[str, torch.Tensor], x: torch.Tensor, side: str, mask: torch.Tensor | None) -> torch.Tensor:
    """x: [B, L, WIDTH] through the blocks of one side."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"])

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    for number in range(LAYERS):
        block = f"{side}transformer.resblocks.{number}"
        inside = norm(x, f"{block}.ln_1").transpose(0, 1)
        attended, _ = F.multi_head_attention_forward(
            inside, inside, inside, WIDTH, HEADS, state[f"{block}.attn.in_proj_weight"], state[f"{block}.attn.in_proj_bias"],
            None, None, False, 0.0, state[f"{block}.attn.out_proj.weight"], state[f"{block}.attn.out_proj.bias"],
            training=False, need_weights=False, attn_mask=mask)  # fmt: skip
        x = x + attended.transpose(0, 1)
        x = x + linear(F.gelu(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")), f"{block}.mlp.c_proj")
    return norm(x, "visual.ln_post" if side else "ln_final")


class ConvertHps(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        sites = pathlib.Path(torch.__file__).parents[1], *map(pathlib.Path, sys.path)
        self.vocabulary = next(file for site in sites for file in site.glob("open_clip/bpe_simple_vocab_16e6.txt.gz"))

    def convert(self, state: dict, *words: str) -> subprocess.CompletedProcess:
        torch.save(state, self.folder / "hps.pt")
        return subprocess.run(
            [sys.executable, "-B", SCRIPT, self.folder / "hps.pt", self.folder / "hps", "--vocabulary", self.vocabulary,
             "--vision-heads", "4", "--text-heads", "4", *words], capture_output=True, text=True)  # fmt: skip

    @torch.no_grad()
    def test_the_folder_computes_what_the_checkpoint_does(self) -> None:
        state = random_state()
        done = self.convert({"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}})
        self.assertEqual(done.returncode, 0, done.stderr)
        model = CLIPModel.from_pretrained(self.folder / "hps").eval()
        pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
        x = F.conv2d(pixels, state["visual.conv1.weight"], stride=PATCH).flatten(2).transpose(1, 2)
        x = torch.cat([state["visual.class_embedding"].expand(2, 1, WIDTH), x], 1) + state["visual.positional_embedding"]
        x = F.layer_norm(x, (WIDTH,), state["visual.ln_pre.weight"], state["visual.ln_pre.bias"])
        wanted = reference(state, x, "visual.", None)[:, 0] @ state["visual.proj"]
        found = model.visual_projection(model.vision_model(pixels).pooler_output)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)

        ids = torch.zeros(2, 77, dtype=torch.long)  # open_clip pads with zeros, which the causal mask hides
        for row, words in enumerate(([49406, 320, 1125, 49407], [49406, 2368, 49407])):
            ids[row, : len(words)] = torch.tensor(words)
        x = state["token_embedding.weight"][ids] + state["positional_embedding"]
        x = reference(state, x, "", torch.full((77, 77), -torch.inf).triu(1))
        wanted = x[torch.arange(2), ids.argmax(1)] @ state["text_projection"]
        found = model.text_projection(model.text_model(ids).pooler_output)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)

    def test_the_vocabulary_is_clips(self) -> None:
        self.assertEqual(self.convert(random_state()).returncode, 0)
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(self.folder / "hps")
        self.assertEqual(tokenizer("a photo of a cat").input_ids, [49406, 320, 1125, 539, 320, 2368, 49407])

    def test_mistakes_are_one_line(self) -> None:
        state = random_state()
        for change, says in (
            ({"visual.trunk.blocks.0.norm1.weight": torch.ones(1)}, "visual.trunk.blocks.0.norm1.weight"),
            ({"ln_final.bias": None}, "no state dict"),
        ):
            done = self.convert(state | change)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(says, done.stderr.splitlines()[-1])
        del state["ln_final.bias"]
        self.assertIn("final_layer_norm.bias", self.convert(state).stderr)
        self.assertIn("heads do not divide", self.convert(random_state(), "--text-heads", "5").stderr)
        (self.folder / "hps").mkdir()
        (self.folder / "hps/x").write_text("")
        self.assertIn("not empty", self.convert(random_state()).stderr)


if __name__ == "__main__":
    unittest.main()
