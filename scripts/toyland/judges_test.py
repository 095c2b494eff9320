"""Tests of the judges' lessons and networks: `python -m unittest judges_test` in this folder."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

import human_prompts
import judge_data
import judge_files
import judge_networks as networks
import train_judges
import world
from hands import GESTURES
from human_faults import MOVED, PARTS, Observer
from judge_data import BROKEN, IGNORED
from picture import render


def observe(scene: world.Scene, seed: int, hands: float = 0.0, faces: float = 0.0) -> tuple[np.ndarray, Observer]:
    observer = Observer(np.random.default_rng(seed), hands, faces)
    return render(scene, 64, observer.artist).image, observer


class Faults(unittest.TestCase):
    def test_whole_people_are_reported_as_the_scene_has_them(self) -> None:
        for seed in range(20):
            scene = world.person_scene(seed, 2)
            image, observer = observe(scene, seed)
            shown = [hand.gesture for hand in observer.hands]
            self.assertEqual(shown, [gesture for person in scene.people for gesture in person.gestures])
            self.assertTrue(all(all(face.in_place) for face in observer.faces))
            truth = render(scene, 64)
            for face, box in zip(observer.faces, truth.faces):
                np.testing.assert_allclose(64 * np.array(face.places), [box.parts[name] for name in PARTS], atol=1e-4)
                self.assertTrue(box.x < 64 * face.frame.x < box.x + box.w)
            for hand, box in zip(observer.hands, truth.hands):
                self.assertTrue(box.x - 1 < 64 * hand.frame.x < box.x + box.w + 1)
            self.assertGreater(MOVED[0], 2 * 0.03)  # what is broken lies clearly farther off than what varies

    def test_broken_people_look_otherwise(self) -> None:
        for seed in range(60):
            for scene in (world.hand_scene(seed), world.face_scene(seed)):
                whole, _ = observe(scene, seed)
                broken, observer = observe(scene, seed, 1.0, 1.0)
                self.assertTrue(all(hand.gesture == "" for hand in observer.hands))
                self.assertTrue(all(not all(face.in_place) for face in observer.faces))
                self.assertGreater(np.abs(whole.astype(int) - broken).sum(), 300, seed)


class Survival(unittest.TestCase):
    def setUp(self) -> None:
        self.drawn = judge_data.draw_scene("face", 7, 0.0)

    def test_an_unchanged_picture_keeps_every_part(self) -> None:
        self.assertEqual(judge_data.after_change(self.drawn, self.drawn.image).faces[0][1], (1,) * len(PARTS))
        shifted = np.roll(self.drawn.image, 1, axis=1)
        self.assertEqual(judge_data.after_change(self.drawn, shifted).faces[0][1], (1,) * len(PARTS))

    def test_a_smeared_picture_loses_them(self) -> None:
        pixels = judge_files.to_model_range(self.drawn.image[None])
        smeared = ((judge_data.blur(pixels, 6.0)[0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)
        self.assertEqual(judge_data.after_change(self.drawn, smeared).faces[0][1], (0,) * len(PARTS))
        hand = judge_data.draw_scene("hand", 8, 0.0)
        self.assertEqual(judge_data.after_change(hand, np.full_like(hand.image, 128)).hands[0][3], BROKEN)

    def test_verdicts_leave_a_gap(self) -> None:
        self.assertEqual([judge_data.verdict(pair) for pair in ((0.9, 0.8), (0.65, 0.8), (0.9, 0.45), (0.4, 0.8), (0.9, 0.3))], [1, IGNORED, IGNORED, 0, 0])


class Networks(unittest.TestCase):
    def test_folding_changes_nothing(self) -> None:
        torch.manual_seed(1)
        for name, shape in (("detector", (2, 3, 64, 64)), ("hand", (2, 3, 40, 40)), ("face", (2, 3, 40, 40))):
            network = networks.make_network(name)
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2.0)
            x = torch.randn(shape)
            wanted = network.eval()(x)
            found = networks.fold(network)(x)
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
            self.assertFalse(any("norm" in key for key in network.state_dict()))

    def test_peaks_become_places(self) -> None:
        maps = torch.full((8, 32, 32), -9.0)
        maps[2:] = 0.0
        maps[0, 10, 20], maps[0, 10, 21], maps[1, 5, 6] = 3.0, 2.0, 1.0
        maps[2:5, 10, 20] = torch.tensor([0.25, -0.25, 2.0])
        found = networks.decode(maps)
        self.assertEqual([one.kind for one in found], ["face", "hand"])
        self.assertAlmostEqual(found[0].x, (20.75) * 2)
        self.assertAlmostEqual(found[0].y, (10.25) * 2)
        self.assertAlmostEqual(found[0].scale, float(np.exp(2.0)), places=4)

    def test_two_near_peaks_are_one(self) -> None:
        maps = torch.full((8, 32, 32), -9.0)
        maps[2:] = 0.0
        maps[4] = 3.0  # half heights of 20 pixels
        maps[0, 10, 10], maps[0, 10, 13], maps[0, 10, 25] = 2.0, 3.0, 1.0
        self.assertEqual([one.x for one in networks.decode(maps)], [27.0, 51.0])


class Training(unittest.TestCase):
    def test_makes_the_judges_from_nothing_and_resumes(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            words = ["--run", f"{folder}/run", "--out", f"{folder}/judges", "--scenes", "160", "--steps", "3"]
            with contextlib.redirect_stdout(io.StringIO()) as said:
                train_judges.main(["all", *words])
                train_judges.main(["hand", *words[:-1], "5"])
                train_judges.main(["report", *words])
            self.assertIn("hand: 5 steps", said.getvalue())
            self.assertIn("| face |", said.getvalue())
            for judge in ("detector", "hand", "face"):
                with safe_open(folder / f"judges/{judge}.safetensors", "pt") as file:
                    metadata = file.metadata()
                    self.assertEqual((metadata["molar.kind"], metadata["molar.judge"]), ("human-judge", judge))
                    self.assertIn("hand, rendering", metadata["held_out"] if judge != "face" else "hand, rendering")
            with safe_open(folder / "judges/hand.safetensors", "pt") as file:
                gestures = json.loads(file.metadata()["gestures"])
            self.assertEqual([tuple(pair) for pair in gestures], [(n, len(g.extended)) for n, g in GESTURES.items()])


class Prompts(unittest.TestCase):
    def test_rows_are_many_distinct_and_say_the_truth(self) -> None:
        for name in human_prompts.SETS:
            rows = list(human_prompts.rows(name))
            self.assertEqual(len(rows), 1500)
            self.assertEqual(len({row["seed"] for row in rows}), 1500)
            self.assertEqual({(row["kind"], row["people"]) for row in rows}, set(human_prompts.MIX))
            self.assertEqual([row["prompt"] for row in rows[:500]], [row["prompt"] for row in rows[500:1000]])
            phrases = {gesture.phrase: len(gesture.extended) for gesture in GESTURES.values()}
            for row in rows[:500]:
                if row["kind"] == "hand":
                    self.assertEqual(row["fingers"], [next(n for phrase, n in phrases.items() if phrase in row["prompt"])])
                else:
                    self.assertIsNone(row["fingers"])

    def test_long_prompts_are_longer_and_use_known_words_only(self) -> None:
        words = [{w for row in human_prompts.rows(name, 300, 1) for w in row["prompt"].replace(",", "").split()} for name in ("short", "long")]
        known = {w for seed in range(4000) for w in world.caption(world.sample_base(seed)).replace(",", "").split()}
        self.assertLessEqual(words[0] | words[1], known)
        lengths = [np.mean([len(row["prompt"].split()) for row in human_prompts.rows(name, 200, 1)]) for name in ("short", "long")]
        self.assertGreater(lengths[1], 1.6 * lengths[0])


if __name__ == "__main__":
    unittest.main()
