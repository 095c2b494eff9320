"""Tests of how the experts' set is made: python -m unittest train_mole_test"""

from __future__ import annotations

import tempfile
import unittest
from collections import Counter
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import train_mole


class TrainMoleTest(unittest.TestCase):
    def test_a_scaled_set_has_weaker_experts_and_the_same_gates(self) -> None:
        rng = np.random.default_rng(1)

        def random(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape).astype(np.float32)

        key, gate = "lora_unet_mid", "moe_lora_unet_mid.softmoe.face_scale"
        expert = {f"{key}.alpha": np.asarray(4.0, np.float32), f"{key}.lora_down.weight": random(2, 5), f"{key}.lora_up.weight": random(3, 2)}
        gates = {f"{gate}.weight": random(1, 3), f"{gate}.bias": random(1), "moe_lora_unet_mid.softmoe.Phi_1.weight": random(1, 5)}
        x = random(7, 5)

        def change_and_logit(folder: Path) -> tuple[np.ndarray, np.ndarray]:
            of_expert, of_gates = load_file(folder / "face.safetensors"), load_file(folder / "gates.safetensors")
            change = x @ of_expert[f"{key}.lora_down.weight"].T @ of_expert[f"{key}.lora_up.weight"].T * of_expert[f"{key}.alpha"] / 2
            return change, change.mean(0) @ of_gates[f"{gate}.weight"].T + of_gates[f"{gate}.bias"]

        with tempfile.TemporaryDirectory() as name:
            source, target = Path(name) / "source", Path(name) / "target"
            source.mkdir()
            save_file(expert, source / "face.safetensors", {"ss_network_dim": "2"})
            save_file(gates, source / "gates.safetensors")
            train_mole.write_scaled(source, target, 0.7, ("face", "gates"))
            (change, logit), (scaled, same) = change_and_logit(source), change_and_logit(target)
            np.testing.assert_allclose(scaled, 0.7 * change, rtol=1e-5)
            np.testing.assert_allclose(same, logit, rtol=1e-5)
            phi = "moe_lora_unet_mid.softmoe.Phi_1.weight"
            np.testing.assert_array_equal(load_file(target / "gates.safetensors")[phi], gates[phi])

    def test_things_are_of_every_class_alike(self) -> None:
        things = train_mole.scenes("things", 2 * len(train_mole.world.CLASSES))
        self.assertEqual(set(Counter(scene.thing.kind for scene in things).values()), {2})


if __name__ == "__main__":
    unittest.main()
