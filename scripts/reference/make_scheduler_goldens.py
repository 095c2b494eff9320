"""Writes tests/goldens/schedulers: what diffusers' schedulers do with a fixed elementwise model.

    python scripts/reference/make_scheduler_goldens.py [--out tests/goldens/schedulers]

Needs torch, diffusers, scipy (LMS and beta sigmas), safetensors. One safetensors file per scheduler class
and MANIFEST.json with the list of cases; the C++ test runs every case of that list.

A case is a scheduler_config.json (`config`), perhaps a `--sampler` that replaces its class (`sampler`),
a number of steps, perhaps an img2img strength, eta, and a seed. Its tensors are
    <case>/timesteps  float64 [N]              the schedule
    <case>/input      float32 [2, 4, 3, 5]     what the model saw at the middle evaluation
    <case>/samples    float32 [K, 2, 4, 3, 5]  the sample after the kept evaluations
    <case>/renoised   float32 [2, 4, 3, 5]     add_noise for the evaluation after the first (inpainting's blend)
"""

import argparse
import hashlib
import inspect
import itertools
import json
import pathlib

import diffusers
import numpy
import safetensors.torch
import scipy
import torch

SHAPE = (2, 4, 3, 5)
SEED = 20240817
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALL = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "trailing", "linspace")
SIGMA_FLAGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")

# The files that released models carry; --sampler replaces the class and keeps what the new class knows.
MODELS = {
    "sd15": {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **SD, "num_train_timesteps": 1000,
             "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
             "clip_sample": False},
    "sd21": {"_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", **SD, "num_train_timesteps": 1000,
             "prediction_type": "v_prediction", "set_alpha_to_one": False, "skip_prk_steps": True,
             "steps_offset": 1, "trained_betas": None, "clip_sample": False},
    "sdxl": {"_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", **SD,
             "num_train_timesteps": 1000, "prediction_type": "epsilon", "interpolation_type": "linear",
             "sample_max_value": 1.0, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
             "timestep_spacing": "leading", "trained_betas": None, "use_karras_sigmas": False,
             "clip_sample": False},
}
# sampler -> class and the fields that the name fixes
SAMPLERS = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler",
                        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True}),
    "dpmpp_sde": ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
PREDICTIONS = {"PNDMScheduler": ALL[:2], "EulerAncestralDiscreteScheduler": ALL[:2]}


def ramp(low, high):
    return torch.linspace(low, high, 120).reshape(SHAPE)


def model(x, t):
    """Elementwise, smooth, bounded gain, different at every timestep and every place."""
    gain = 0.3 + 0.6 * float(t) / 1000
    return gain * x / (1 + 0.1 * x.abs()) + ramp(-0.2, 0.3)


def kept_evaluations(count):
    return sorted({i for i in (0, 1, count // 2, count - 1) if i < count})


class Cases:
    def __init__(self):
        self.cases, self.tensors = [], {}

    def add(self, name, config, steps, sampler=None, strength=None, eta=0.0):
        class_name, fixed = SAMPLERS[sampler] if sampler else (config["_class_name"], {})
        cls = getattr(diffusers, class_name)
        base = getattr(diffusers, config["_class_name"]).from_config(dict(config))
        scheduler = cls.from_config(base.config, **fixed) if sampler else base
        scheduler.set_timesteps(steps)
        name = f"{name}_n{steps}" + (f"_strength{round(strength * 100)}" if strength else "")
        name += f"_eta{round(eta * 100)}" if eta else ""
        tensors, case = self.run(scheduler, steps, strength, eta)
        for key, value in tensors.items():
            assert torch.isfinite(value).all(), f"{name}: {key} is not finite"
        file = f"{class_name}.safetensors"
        held = self.tensors.setdefault(file, {})
        assert f"{name}/timesteps" not in held, f"two cases are called {name}"
        held.update({f"{name}/{key}": value.contiguous() for key, value in tensors.items()})
        self.cases.append({"name": name, "file": file, "config": config, "sampler": sampler, "num_steps": steps,
                           "strength": strength, "eta": eta, "seed": SEED, **case})

    @staticmethod
    def run(scheduler, steps, strength, eta):
        generator = torch.Generator("cpu").manual_seed(SEED)
        noise = torch.randn(SHAPE, generator=generator)
        clean = ramp(-1.0, 1.2)
        begin = 0
        if strength:  # the arithmetic of StableDiffusionImg2ImgPipeline.get_timesteps
            begin = max(steps - min(int(steps * strength), steps), 0) * scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            # At 0 too: without it a schedule whose first two timesteps are equal starts at the second.
            scheduler.set_begin_index(begin)
        if strength:
            x = scheduler.add_noise(clean, noise, scheduler.timesteps[begin:begin + 1].repeat(SHAPE[0]))
        else:
            x = noise * scheduler.init_noise_sigma
        extra = {}
        parameters = inspect.signature(scheduler.step).parameters
        if "generator" in parameters:
            extra["generator"] = generator
        if "eta" in parameters:
            extra["eta"] = eta
        inputs, samples = [], []
        timesteps = scheduler.timesteps[begin:]
        renoised = None
        for i, t in enumerate(timesteps):
            seen = scheduler.scale_model_input(x, t)
            x = scheduler.step(model(seen, t), t, x, **extra).prev_sample
            inputs.append(seen)
            samples.append(x)
            if i == 0 and strength and len(timesteps) > 1:
                renoised = scheduler.add_noise(clean, noise, timesteps[1:2])
        kept = kept_evaluations(len(timesteps))
        tensors = {"timesteps": scheduler.timesteps.to(torch.float64),
                   "input": inputs[len(timesteps) // 2],
                   "samples": torch.stack([samples[i] for i in kept])}
        if renoised is not None:
            tensors["renoised"] = renoised
        return tensors, {"begin": begin, "kept": kept, "init_noise_sigma": float(scheduler.init_noise_sigma)}


def grid(cases):
    """Every class x prediction type x spacing, and every number of steps."""
    for class_name in dict.fromkeys(c for c, _ in SAMPLERS.values()):
        short = class_name.removesuffix("Scheduler")
        spacings = {"DPMSolverSinglestepScheduler": ("linspace",), "LCMScheduler": ("leading",)}
        for prediction, spacing in itertools.product(PREDICTIONS.get(class_name, ALL),
                                                     spacings.get(class_name, SPACINGS)):
            config = {"_class_name": class_name, **SD, "prediction_type": prediction,
                      "timestep_spacing": spacing, "steps_offset": 1, "clip_sample": False,
                      "skip_prk_steps": True}
            cases.add(f"{short}_{prediction}_{spacing}", config, 10)
            cases.add(f"{short}_{prediction}_{spacing}", config, 10, strength=0.55)
            if prediction == "epsilon":
                for steps in (1, 2, 3, 30):
                    cases.add(f"{short}_{prediction}_{spacing}", config, steps)
                cases.add(f"{short}_{prediction}_{spacing}", config, 30, strength=0.8)
        # the class's own defaults: an empty file
        cases.add(f"{short}_defaults", {"_class_name": class_name}, 7)
        for schedule in ("linear", "squaredcos_cap_v2"):
            config = {"_class_name": class_name, "beta_schedule": schedule, "clip_sample": False,
                      "skip_prk_steps": True, "timestep_spacing": "leading"}
            cases.add(f"{short}_{schedule}", config, 6)
        betas = [0.001 + 0.00025 * i for i in range(50)]
        cases.add(f"{short}_trained_betas", {"_class_name": class_name, "num_train_timesteps": 50,
                                             "trained_betas": betas, "clip_sample": False,
                                             "skip_prk_steps": True, "original_inference_steps": 25}, 6)


def released_models(cases):
    for (model_name, config), sampler in itertools.product(MODELS.items(), SAMPLERS):
        if model_name == "sd21" or sampler != "lms":  # 30 steps of LMS once: its quadrature is slow
            cases.add(f"{model_name}_{sampler}", config, 30, sampler=sampler)
        cases.add(f"{model_name}_{sampler}", config, 20, sampler=sampler, strength=0.75)
    for model_name, config in MODELS.items():
        cases.add(f"{model_name}_own", config, 25)


def zero_snr(cases):
    for class_name in ("DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "LCMScheduler",
                       "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler",
                       "UniPCMultistepScheduler"):
        for spacing in ("trailing", "leading"):
            config = {"_class_name": class_name, **SD, "prediction_type": "v_prediction",
                      "timestep_spacing": spacing, "rescale_betas_zero_snr": True, "clip_sample": False}
            cases.add(f"{class_name.removesuffix('Scheduler')}_zero_snr_{spacing}", config, 10)


def sigma_spacings(cases):
    for class_name, flag, prediction in itertools.product(
            ("LMSDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
             "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"),
            SIGMA_FLAGS, ("epsilon", "v_prediction")):
        short = class_name.removesuffix("Scheduler")
        config = {"_class_name": class_name, **SD, "prediction_type": prediction, flag: True}
        for steps in (1, 2, 10) if prediction == "epsilon" else (10,):
            cases.add(f"{short}_{flag}_{prediction}", config, steps)
        if prediction == "epsilon":
            cases.add(f"{short}_{flag}_cosine", {**config, "beta_schedule": "squaredcos_cap_v2"}, 8)
            cases.add(f"{short}_{flag}_range", {**config, "sigma_min": 0.05, "sigma_max": 12.0}, 8)
            cases.add(f"{short}_{flag}", config, 25, strength=0.6)


def own_fields(cases):
    def add(name, class_name, steps=10, strength=None, eta=0.0, **fields):
        config = {"_class_name": class_name, **SD, "clip_sample": False, **fields}
        cases.add(f"{class_name.removesuffix('Scheduler')}_{name}", config, steps, strength=strength, eta=eta)

    for eta in (0.3, 1.0):
        for prediction in ALL:
            add(f"{prediction}", "DDIMScheduler", eta=eta, prediction_type=prediction)
    for value in (True, False):
        add(f"set_alpha_to_one_{value}", "DDIMScheduler", set_alpha_to_one=value)
        add(f"set_alpha_to_one_{value}", "PNDMScheduler", set_alpha_to_one=value, skip_prk_steps=True)
    for class_name in ("DDIMScheduler", "DDPMScheduler", "LCMScheduler", "HeunDiscreteScheduler"):
        add("clip_sample", class_name, clip_sample=True, clip_sample_range=0.9)
    for class_name in ("DDIMScheduler", "DDPMScheduler", "LCMScheduler", "DPMSolverMultistepScheduler",
                       "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"):
        add("thresholding", class_name, thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.5)
    for variance_type in ("fixed_small", "fixed_small_log", "fixed_large"):
        add(variance_type, "DDPMScheduler", variance_type=variance_type)
    for schedule in ("sigmoid", "laplace"):
        add(schedule, "DDPMScheduler", beta_schedule=schedule)
    add("exp", "HeunDiscreteScheduler", beta_schedule="exp")

    for spacing, prediction in itertools.product(SPACINGS, ALL[:2]):
        for steps in (4, 5, 10):
            add(f"prk_{prediction}_{spacing}", "PNDMScheduler", steps, skip_prk_steps=False,
                prediction_type=prediction, timestep_spacing=spacing)
    add("prk", "PNDMScheduler", 10, strength=0.5, skip_prk_steps=False)
    add("prk_late", "PNDMScheduler", 30, strength=0.9, skip_prk_steps=False)

    for interpolation, kind, prediction in itertools.product(("linear", "log_linear"), ("discrete", "continuous"),
                                                             ALL[:2]):
        add(f"{interpolation}_{kind}_{prediction}", "EulerDiscreteScheduler", interpolation_type=interpolation,
            timestep_type=kind, prediction_type=prediction)
    add("log_linear_karras", "EulerDiscreteScheduler", interpolation_type="log_linear", use_karras_sigmas=True)
    add("original_sample", "EulerDiscreteScheduler", prediction_type="original_sample")
    for class_name in ("EulerDiscreteScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"):
        add("sigma_min", class_name, final_sigmas_type="sigma_min")

    for algorithm, order, solver, prediction in itertools.product(
            ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"), (1, 2, 3), ("midpoint", "heun"), ALL):
        if algorithm == "sde-dpmsolver" and order == 3:  # diffusers has no such step
            continue
        if prediction != "epsilon" and (order, solver) != (2, "midpoint"):
            continue
        final = "zero" if algorithm.endswith("++") else "sigma_min"
        fields = {"algorithm_type": algorithm, "solver_order": order, "solver_type": solver,
                  "prediction_type": prediction, "final_sigmas_type": final}
        name = f"{algorithm}_{order}_{solver}_{prediction}"
        add(name, "DPMSolverMultistepScheduler", 10, **fields)
        add(name, "DPMSolverMultistepScheduler", 20, strength=0.7, **fields)
        if algorithm != "sde-dpmsolver":
            add(name, "DPMSolverSinglestepScheduler", 10, **fields)
            add(name, "DPMSolverSinglestepScheduler", 20, strength=0.7, **fields)
    for order, steps in itertools.product((2, 3), (4, 5, 6)):
        for final, lower in itertools.product(("zero", "sigma_min"), (True, False)):
            add(f"order{order}_{final}_{lower}", "DPMSolverSinglestepScheduler", steps, solver_order=order,
                final_sigmas_type=final, lower_order_final=lower)
    for euler, lower, steps in itertools.product((True, False), (True, False), (6, 18)):
        add(f"euler_at_final_{euler}_lower_{lower}", "DPMSolverMultistepScheduler", steps, solver_order=3,
            euler_at_final=euler, lower_order_final=lower, final_sigmas_type="sigma_min")
    add("thresholding_noise_model", "DPMSolverMultistepScheduler", algorithm_type="dpmsolver", thresholding=True,
        final_sigmas_type="sigma_min")
    add("lu", "DPMSolverMultistepScheduler", use_lu_lambdas=True)
    add("lu", "DPMSolverMultistepScheduler", 3, use_lu_lambdas=True)
    add("lu_cosine", "DPMSolverMultistepScheduler", use_lu_lambdas=True, beta_schedule="squaredcos_cap_v2")
    for spacing in SPACINGS:
        add(f"lambda_min_clipped_{spacing}", "DPMSolverMultistepScheduler", beta_schedule="squaredcos_cap_v2",
            lambda_min_clipped=-5.1, timestep_spacing=spacing)
    add("lambda_min_clipped", "DPMSolverSinglestepScheduler", beta_schedule="squaredcos_cap_v2",
        lambda_min_clipped=-5.1)
    add("deis", "DPMSolverMultistepScheduler", algorithm_type="deis", solver_type="logrho",
        final_sigmas_type="sigma_min")
    add("bh2", "DPMSolverSinglestepScheduler", solver_type="bh2")

    for order, solver, predict_x0, prediction in itertools.product((1, 2, 3, 4), ("bh1", "bh2"), (True, False), ALL):
        if prediction != "epsilon" and (order, solver) != (2, "bh2"):
            continue
        fields = {"solver_order": order, "solver_type": solver, "predict_x0": predict_x0,
                  "prediction_type": prediction, "final_sigmas_type": "sigma_min"}
        name = f"{solver}_{order}_x0_{predict_x0}_{prediction}"
        add(name, "UniPCMultistepScheduler", 10, **fields)
        add(name, "UniPCMultistepScheduler", 20, strength=0.7, **fields)
    add("order3_zero", "UniPCMultistepScheduler", solver_order=3)
    add("lower_order_final_False", "UniPCMultistepScheduler", lower_order_final=False, final_sigmas_type="sigma_min")
    add("disable_corrector", "UniPCMultistepScheduler", disable_corrector=[0, 1, 4])
    add("midpoint", "UniPCMultistepScheduler", solver_type="midpoint")

    add("original_100", "LCMScheduler", 7, original_inference_steps=100, timestep_scaling=7.5)
    add("alpha_at_zero", "LCMScheduler", 4, set_alpha_to_one=False)
    add("few", "LCMScheduler", 4)
    add("all", "LCMScheduler", 50)


def pipeline_fixes():
    """What the constructors of the Stable Diffusion pipelines change in a scheduler's config."""
    kinds = {"text_to_image": diffusers.StableDiffusionPipeline,
             "image_to_image": diffusers.StableDiffusionImg2ImgPipeline,
             "inpaint": diffusers.StableDiffusionInpaintPipeline}
    configs = [
        {"_class_name": "PNDMScheduler", **SD, "skip_prk_steps": True},
        {"_class_name": "PNDMScheduler", **SD, "steps_offset": 0, "skip_prk_steps": False},
        {"_class_name": "PNDMScheduler", **SD},
        {"_class_name": "DDIMScheduler", **SD},
        {"_class_name": "DDIMScheduler", **SD, "clip_sample": True, "steps_offset": 0},
        {"_class_name": "EulerDiscreteScheduler", **SD, "clip_sample": True, "skip_prk_steps": False},
        {"_class_name": "DPMSolverSinglestepScheduler", **SD},
        MODELS["sd15"],
    ]
    fields = ("steps_offset", "clip_sample", "skip_prk_steps")
    rows = []
    for config, (kind, pipeline) in itertools.product(configs, kinds.items()):
        scheduler = getattr(diffusers, config["_class_name"]).from_config(dict(config))
        pipe = pipeline(vae=None, text_encoder=None, tokenizer=None, unet=None, scheduler=scheduler,
                        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        moved = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
        moved_pndm = diffusers.PNDMScheduler.from_config(pipe.scheduler.config)
        rows.append({"config": config, "kind": kind,
                     "own": {k: pipe.scheduler.config[k] for k in fields if k in pipe.scheduler.config},
                     "as_ddim": {k: moved.config[k] for k in ("steps_offset", "clip_sample")},
                     "as_pndm": {k: moved_pndm.config[k] for k in ("steps_offset", "skip_prk_steps")}})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--out", type=pathlib.Path, default=root / "tests/goldens/schedulers")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    diffusers.utils.logging.set_verbosity_error()
    cases = Cases()
    for section in (grid, released_models, zero_snr, sigma_spacings, own_fields):
        section(cases)
    out.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for file, tensors in sorted(cases.tensors.items()):
        data = safetensors.torch.save(tensors)
        (out / file).write_bytes(data)
        hashes[file] = hashlib.sha256(data).hexdigest()
    manifest = {"generator": "scripts/reference/make_scheduler_goldens.py", "seed": SEED,
                "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__,
                             "numpy": numpy.__version__, "scipy": scipy.__version__},
                "sha256": hashes, "pipeline_fixes": pipeline_fixes(), "cases": cases.cases}
    text = json.dumps(manifest, indent=None, separators=(",", ":"), sort_keys=True).replace('},{"', '},\n{"')
    (out / "MANIFEST.json").write_text(text + "\n")
    total = sum(path.stat().st_size for path in out.iterdir())
    print(f"{len(cases.cases)} cases, {len(hashes)} files, {total / 1e6:.2f} MB in {out}")


if __name__ == "__main__":
    main()
