"""A list of rows with diffusers, as a user would write it: pipeline loaded once, LoRAs swapped where the pair changes."""

import argparse
import csv
import json
import pathlib
import sys

import torch

from process_memory import peak_memory_bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--list", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    args.out.mkdir(parents=True, exist_ok=True)
    pair = None
    for number, row in enumerate(csv.DictReader(args.list.open()), start=1):
        if pair != (row["subject"], row["style"]):
            pair = (row["subject"], row["style"])
            pipe.unload_lora_weights()
            pipe.load_lora_weights(row["subject"], adapter_name="subject")
            pipe.load_lora_weights(row["style"], adapter_name="style")
            pipe.set_adapters(["subject", "style"], adapter_weights=[1.0, 1.0])
        image = pipe(row["prompt"], num_inference_steps=int(row["steps"]), guidance_scale=float(row["cfg-scale"]),
                     generator=torch.Generator("cpu").manual_seed(int(row["seed"]))).images[0]
        image.save(args.out / f"{number:05}.png")
    print(json.dumps({"peak_memory_bytes": peak_memory_bytes()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
