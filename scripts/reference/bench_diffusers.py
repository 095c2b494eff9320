"""One timed picture with diffusers in a fresh process; prints the spans that `molar generate --json` reports."""

import os
import time

# Before the imports: they are part of what a user waits for.
PROCESS_START = time.clock_gettime(time.CLOCK_BOOTTIME) - (
    float(open("/proc/uptime").read().split()[0])
    - int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK"))

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402

import torch  # noqa: E402

from process_memory import peak_memory_bytes  # noqa: E402


DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def now() -> float:
    """Seconds since this process started, exact to a clock tick (10 ms)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - PROCESS_START


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--dtype", choices=DTYPES, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--lora", action="append", default=[], help="a file, fused with strength 1")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    begin = now()
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(args.model, torch_dtype=DTYPES[args.dtype], safety_checker=None)
    pipe.to(args.device)
    pipe.set_progress_bar_config(disable=True)
    names = [f"lora{i}" for i in range(len(args.lora))]
    for name, path in zip(names, args.lora):
        pipe.load_lora_weights(path, adapter_name=name)
    if names:
        pipe.set_adapters(names)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    times = {"load_s": now() - begin}

    encode_prompt = pipe.encode_prompt

    def timed_encoding(*arguments, **options):
        start = now()
        result = encode_prompt(*arguments, **options)
        times["text_encoding_s"] = now() - start
        return result

    pipe.encode_prompt = timed_encoding
    marks: list[float] = []
    hook = pipe.unet.register_forward_pre_hook(lambda *_: marks.append(now()) if not marks else None)
    image = pipe(args.prompt, num_inference_steps=args.steps, width=args.size, height=args.size,
                 generator=torch.Generator("cpu").manual_seed(args.seed),
                 callback_on_step_end=lambda _pipe, _i, _t, kept: (marks.append(now()), kept)[1]).images[0]
    end = now()
    hook.remove()
    times |= {"first_step_s": marks[0], "steps_s": [b - a for a, b in zip(marks, marks[1:])], "decode_s": end - marks[-1]}
    image.save(args.out)
    print(json.dumps({"timings": times, "peak_memory_bytes": peak_memory_bytes(), "whole_s": now()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
