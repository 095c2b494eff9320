"""The cases of scripts/parity, as data: what both programs are asked to draw."""

from __future__ import annotations

import dataclasses
from typing import Any

SAMPLERS = ("ddim", "ddpm", "pndm", "lms", "euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_sde",
            "unipc", "lcm")
PROMPT = "a photo of a dog in the garden"
LONG_PROMPT = ", ".join(["an oil painting of ships on the sea in stormy weather with dark clouds and golden light",
                         "a sketch of a horse in black and white beside a castle with flags and towers",
                         "a toy car on the table beside a green bottle near the window in the morning",
                         "two hands holding a small blue bird on a very long road through the mountains at night",
                         "a sculpture made of glass with flowers and fruit on a plate"])

# What an independent reading of a prompt says: chunks of (text, weight) runs, one list per chunk. None: the text is
# cut every 75 tokens.
Chunks = tuple[tuple[tuple[str, float], ...], ...] | None


@dataclasses.dataclass(frozen=True)
class Lora:
    file: str            # a name of parity_models.LORAS
    weight: float = 1.0
    role: str = "lora"   # subject, style or lora


@dataclasses.dataclass(frozen=True)
class Case:
    """Field names are molar's long options where there is one."""

    model: str
    feature: str
    prompt: str = PROMPT
    negative_prompt: str | None = None
    prompt_2: str | None = None
    negative_prompt_2: str | None = None
    sampler: str | None = None
    steps: int = 8
    cfg_scale: float = 7.5
    seed: int = 5
    width: int = 64
    height: int = 64
    count: int = 1
    eta: float = 0.0
    guidance_rescale: float = 0.0
    clip_skip: int | None = None
    init_image: str | None = None   # a name of parity_models.PICTURES
    mask: str | None = None
    strength: float | None = None
    vae_tiling: bool = False
    vae: str | None = None          # another model's VAE
    loras: tuple[Lora, ...] = ()
    syntax: str = "plain"
    chunked: bool = False           # the reference reads prompts chunk by chunk
    chunks: Chunks = None           # of the prompt, where a syntax other than plain is read
    full: bool = False

    @property
    def name(self) -> str:
        return f"{self.model}/{self.sampler or 'own'}/{self.feature}"

    @property
    def family(self) -> str:
        return self.model.split("-")[0]

    def contrast(self) -> "Case | None":
        """The case that this one must differ from, or it would prove nothing; None where there is none."""
        keep = ("model", "sampler", "steps", "cfg_scale", "seed", "width", "height", "full", "prompt")
        plain = Case(feature="", **{k: getattr(self, k) for k in keep})
        if self.model == "sd15-inpaint":  # draws nothing without a picture
            plain = dataclasses.replace(plain, init_image=self.init_image, mask=self.mask, strength=self.strength)
        if self.prompt != PROMPT:
            plain = dataclasses.replace(plain, prompt=PROMPT)
        if self.cfg_scale <= 1:
            plain = dataclasses.replace(plain, cfg_scale=7.5)
        if dataclasses.replace(self, feature="") != plain:
            return plain
        if self.feature in OWN_CONFIG_FEATURES:
            return dataclasses.replace(plain, model=self.family)
        if self.mask:
            return dataclasses.replace(plain, prompt="a castle at night")
        if self.sampler and not self.full:
            return dataclasses.replace(plain, sampler=self.other_sampler())
        return None

    def other_sampler(self) -> str:
        """One that draws another picture: ddim and euler solve one equation, so do ddpm and euler_a, and the last step
        of both kinds is the same."""
        if self.steps == 1:
            return "dpmpp_2m" if self.sampler in ("ddim", "euler") else "euler"
        return "ddim" if self.sampler in ("euler_a", "ddpm") else "euler_a"


OWN_CONFIG_FEATURES = ("own scheduler config", "SD 2 with epsilon", "guidance embedding", "guidance embedding, cfg 3", "predicts the sample")


def scheduler_cases() -> list[Case]:
    cases = [Case(model, "sampler", sampler=s) for model in ("sd15", "sd21", "sdxl") for s in SAMPLERS]
    cases += [Case("sd15", "sampler, 1 step", sampler=s, steps=1) for s in ("ddim", "euler", "dpmpp_2m", "unipc", "lcm")]
    cases += [Case("sdxl", "sampler, 30 steps", sampler=s, steps=30) for s in ("euler", "dpmpp_2m_karras", "heun")]
    cases += [Case("sd21", "sampler, 25 steps", sampler=s, steps=25) for s in ("ddim", "dpmpp_sde", "pndm", "lms")]
    cases += [Case("sd15-hub", "sampler, config as on the hub", sampler=s)
              for s in ("ddim", "euler", "lms", "heun", "dpmpp_2m", "unipc", "ddpm")]
    cases += [Case("sd15-sample", "predicts the sample", sampler=s) for s in ("ddim", "euler", "dpmpp_2m", "unipc")]
    cases += [Case("sd21-epsilon", "SD 2 with epsilon", sampler="euler"), Case("sd15-lcm", "guidance embedding", steps=4),
              Case("sd15-lcm", "guidance embedding, cfg 3", steps=4, cfg_scale=3.0)]
    own = ("sd21-zsnr-trailing", "sd21-linspace", "sdxl-trailing", "sdxl-karras", "sdxl-exponential", "sdxl-linspace",
           "sd15-dpm-sde", "sd15-dpm-order3", "sd15-dpm-plain", "sd15-unipc-bh1", "sd15-cosine", "sd15-linear-beta",
           "sd15-ddim-clip", "sd15-pndm-prk", "sd15-heun-karras", "sd15-lms-karras", "sd21-euler-zsnr",
           "sd15-euler-a-trailing", "sd15-ddpm-large", "sd15-ddim-offset0")
    return cases + [Case(model, "own scheduler config") for model in own]


def guidance_cases() -> list[Case]:
    cases = []
    for model in ("sd15", "sd21", "sdxl"):
        cases += [
            Case(model, "negative prompt", negative_prompt="ugly, blurry, bad hands"),
            Case(model, "empty negative prompt", negative_prompt="", prompt="a cat on a chair"),
            Case(model, "no guidance", cfg_scale=1.0),
            Case(model, "guidance 3", cfg_scale=3.0, prompt="the portrait of a woman"),
            Case(model, "guidance rescale", guidance_rescale=0.7, sampler="ddim"),
            Case(model, "three pictures", count=3, seed=11, sampler="euler_a"),
            Case(model, "wide", width=96, height=64, prompt="a castle and a wooden bridge"),
            Case(model, "latents of odd size", width=72, height=88, sampler="euler_a", prompt="a horse"),
        ]
    cases += [Case("sd15", "eta 0.6", eta=0.6, sampler="ddim"), Case("sdxl", "eta 1", eta=1.0, sampler="ddim"),
              Case("sd15", "large seed", seed=2**32 - 3, prompt="a bird"), Case("sd15", "empty prompt", prompt=""),
              Case("sdxl", "empty prompt", prompt=""),
              Case("sd21", "padding token in the text", prompt="a dog! a cat !! (what?)", negative_prompt="rain!"),
              Case("sdxl", "padding token in the text", prompt="a dog! a cat !! (what?)", negative_prompt="rain!"),
              Case("sd15", "text beyond ASCII", prompt="Ein Mädchen im Café – 東京の夜, naïve ☔ İstanbul 5°C"),
              Case("sdxl", "prompt 2", prompt_2="an old horse in the rain"),
              Case("sdxl", "negative prompt 2", negative_prompt="ugly", negative_prompt_2="bad hands, blurry")]
    return cases


def picture_cases() -> list[Case]:
    cases = []
    for model in ("sd15", "sd21", "sdxl"):
        cases += [
            Case(model, "img2img 0.3", init_image="ramp", strength=0.3, sampler="ddim", steps=10),
            Case(model, "img2img 0.8", init_image="ramp", strength=0.8, sampler="euler_a"),
            Case(model, "img2img 0.55, second order", init_image="ramp", strength=0.55, sampler="heun", steps=9),
            Case(model, "inpaint, 4 channels", init_image="ramp", mask="disc", strength=1.0),
            Case(model, "inpaint 0.6, 4 channels", init_image="ramp", mask="disc", strength=0.6, sampler="dpmpp_2m"),
            Case(model, "VAE tiling", vae_tiling=True, width=128, height=96, steps=4, prompt="a river"),
        ]
    cases += [
        Case("sd15", "img2img 1.0", init_image="ramp", strength=1.0, sampler="euler"),
        Case("sd15", "img2img, two pictures", init_image="ramp", strength=0.7, sampler="euler_a", count=2),
        Case("sd15", "img2img, picture resized", init_image="large", strength=0.5, sampler="ddim"),
        Case("sd15", "img2img, VAE tiling", init_image="wide", strength=0.6, width=128, height=96, vae_tiling=True),
        Case("sdxl", "img2img, unipc", init_image="ramp", strength=0.7, sampler="unipc"),
        Case("sd15", "img2img, pndm", init_image="ramp", strength=0.7, sampler="pndm"),
        Case("sd15", "img2img, lcm", init_image="ramp", strength=0.6, sampler="lcm"),
        Case("sd15", "img2img, lms", init_image="ramp", strength=0.6, sampler="lms"),
        Case("sd15", "inpaint, soft mask", init_image="ramp", mask="soft", strength=0.8, sampler="euler_a"),
        Case("sd15-inpaint", "inpaint, 9 channels", init_image="ramp", mask="disc", strength=1.0),
        Case("sd15-inpaint", "inpaint 0.7, 9 channels", init_image="ramp", mask="disc", strength=0.7, sampler="euler_a"),
        Case("sd15-inpaint", "inpaint, 9 channels, ddpm", init_image="ramp", mask="disc", strength=1.0, sampler="ddpm",
             negative_prompt="blurry"),
    ]
    return cases


def text_cases() -> list[Case]:
    weighted = ((("a photo of a ", 1.0), ("dog", 1.4), (" and a ", 1.0), ("cat", 0.6), (" in ", 1.0),
                 ("the garden", 1 / 1.1)),)
    nested = ((("(", 1.0), ("a ", 1.1 * 1.1), ("castle", 1.1), (" at night", 1.0)),)
    broken = ((("a dog", 1.0),), (("a castle at night", 1.0),))
    cases = []
    for model in ("sd15", "sd21", "sdxl"):
        cases += [
            Case(model, "clip skip 1", clip_skip=1, chunked=model != "sdxl"),
            Case(model, "long prompt in chunks", prompt=LONG_PROMPT, chunked=True),
            Case(model, "weights", prompt="a photo of a (dog:1.4) and a (cat:0.6) in [the garden]", syntax="a1111",
                 chunked=True, chunks=weighted),
            Case(model, "BREAK", prompt="a dog BREAK a castle at night", syntax="a1111", chunked=True, chunks=broken),
        ]
    cases += [
        Case("sd15", "clip skip 2", clip_skip=2, chunked=True),
        Case("sd15", "nested brackets", prompt=r"\(((a) castle) at night", syntax="a1111", chunked=True, chunks=nested),
        Case("sd15", "long negative prompt", negative_prompt=LONG_PROMPT, chunked=True),
        Case("sdxl", "long prompt, long negative", prompt=LONG_PROMPT, negative_prompt=LONG_PROMPT[90:] + " rain", chunked=True),
        Case("sd15", "weights, long, clip skip", prompt=f"({LONG_PROMPT}:1.2)", negative_prompt="rain", syntax="a1111",
             clip_skip=1, chunked=True, chunks=comma_chunks()),
    ]
    return cases


def comma_chunks() -> Chunks:
    """LONG_PROMPT as one run of weight 1.2: the first chunk ends after the comma that lies within its last 20 tokens;
    parity_text checks that this is so with the tokenizer at hand, and cuts there."""
    return (((LONG_PROMPT, 1.2),),)


def lora_cases() -> list[Case]:
    pair = (Lora("kohya-a", 0.9, "subject"), Lora("kohya-b", 0.7, "style"))
    cases = []
    for model in ("sd15", "sd21", "sdxl"):
        cases += [
            Case(model, "LoRA kohya", loras=(Lora("kohya-a"),)),
            Case(model, "LoRA kohya pair, direct", loras=pair),
            Case(model, "LoRA kohya, strength -0.6", loras=(Lora("kohya-a", -0.6),)),
            Case(model, "LoRA with text encoders", loras=(Lora("kohya-text", 0.8),)),
            Case(model, "LoRA by diffusers", loras=(Lora("diffusers", 0.8),)),
            Case(model, "LoRA by diffusers, text encoders", loras=(Lora("diffusers-text", 1.2),)),
            Case(model, "LoRA pair, kohya and diffusers",
                 loras=(Lora("diffusers", 0.8, "subject"), Lora("kohya-b", 1.0, "style"))),
            Case(model, "LoRA PEFT folder", loras=(Lora("peft"),)),
            Case(model, "LoRA on convolutions", loras=(Lora("locon", 0.9),)),
        ]
    cases += [
        Case("sd15", "LoRA triple", loras=(*pair, Lora("diffusers", 0.5))),
        Case("sd15", "LoRA PEFT folder, rsLoRA", loras=(Lora("peft-rs"),)),
        Case("sd15", "LoRA old diffusers", loras=(Lora("old", 0.9),)),
        Case("sd15", "LoRA unet.unet.", loras=(Lora("unet-unet", 0.9),)),
        Case("sd15", "LoRA LDM block names", loras=(Lora("ldm", 0.9),)),
        Case("sdxl", "LoRA LDM block names", loras=(Lora("ldm", 0.9),)),
        Case("sd15", "LoRA without alpha", loras=(Lora("no-alpha", 0.6),)),
        Case("sd15", "LoRA in float16", loras=(Lora("half", 0.9),)),
        Case("sd15", "LoCon with core", loras=(Lora("locon-mid", 0.9),)),
        Case("sd15", "LoHa", loras=(Lora("loha", 0.9),)),
        Case("sd15", "LoKr", loras=(Lora("lokr", 0.9),)),
        Case("sdxl", "LoRA and img2img", loras=(Lora("kohya-a"),), init_image="ramp", strength=0.6, sampler="euler_a"),
        Case("sd15-inpaint", "LoRA and inpainting", loras=(Lora("kohya-a"),), init_image="ramp", mask="disc", strength=1.0),
        Case("sd15-f16", "LoRA on float16 weights", loras=(Lora("kohya-a"),)),
    ]
    return cases


def storage_cases() -> list[Case]:
    return [
        Case("sd15-f16", "stored in float16", negative_prompt="rain"),
        Case("sdxl-f16", "fp16 variant file names", negative_prompt="rain"),
        Case("sd15-bf16", "stored in bfloat16", negative_prompt="rain"),
        Case("sd21-sharded", "sharded", negative_prompt="rain"),
        Case("sdxl-sharded", "sharded", negative_prompt="rain"),
        Case("sd15-transformers4", "transformers 4 spelling", negative_prompt="rain"),
        Case("sd21-transformers4", "transformers 4 spelling", prompt="a dog! in the rain", negative_prompt="rain!"),
        Case("sdxl-transformers4", "transformers 4 spelling", prompt="a dog! in the rain", negative_prompt="rain!"),
        Case("sd15-single", "single file", negative_prompt="rain"),
        Case("sd21-single", "single file", prompt="a dog! in the rain", negative_prompt="rain"),
        Case("sdxl-single", "single file", prompt="a dog! in the rain", negative_prompt="rain"),
        Case("sd15", "another VAE", vae="sd15-vae2", prompt="a cat"),
    ]


def full_cases() -> list[Case]:
    """256 x 256 and few steps: one UNet evaluation of SDXL costs some ten seconds on two cores."""
    size = dict(width=256, height=256, full=True)
    cases = []
    for model, sampler in (("sd15", "pndm"), ("sd21", "ddim"), ("sdxl", "euler")):
        cases += [Case(f"{model}-full", "full size", sampler=sampler, steps=3, negative_prompt="rain", **size),
                  Case(f"{model}-full", "full size, LoRA pair", sampler="dpmpp_2m", steps=2,
                       loras=(Lora("kohya-text", 0.8, "subject"), Lora("ldm" if model == "sdxl" else "kohya-b", 0.7, "style")),
                       **size)]
    for model in ("sd15", "sdxl"):
        cases.append(Case(f"{model}-full-single", "full size, single file", sampler="euler", steps=2, **size))
    return cases


def all_cases() -> list[Case]:
    cases = (scheduler_cases() + guidance_cases() + picture_cases() + text_cases() + lora_cases() + storage_cases()
             + full_cases())
    names = [c.name for c in cases]
    doubles = {n for n in names if names.count(n) > 1}
    if doubles:
        raise SystemExit(f"two cases have one name: {sorted(doubles)}")
    return cases


def as_json(case: Case) -> dict[str, Any]:
    return dataclasses.asdict(case)


def from_json(data: dict[str, Any]) -> Case:
    loras = tuple(Lora(**item) for item in data.pop("loras"))
    chunks = data.pop("chunks")
    chunks = None if chunks is None else tuple(tuple((t, w) for t, w in chunk) for chunk in chunks)
    return Case(loras=loras, chunks=chunks, **data)
