"""Prompt embeddings computed apart from both programs: chunks of 75 tokens, A1111 weights, clip skip."""

from __future__ import annotations

import torch

CHUNK = 75
BACKTRACK = 20


def token_runs(tokenizer, runs) -> list[tuple[int, float]]:
    return [(i, w) for text, w in runs for i in tokenizer(text, add_special_tokens=False).input_ids]


def cut(tokenizer, tokens: list[tuple[int, float]], at_commas: bool) -> list[list[tuple[int, float]]]:
    """Chunks of at most 75. With at_commas a chunk that is full, and not over, ends after its last comma where that
    is among its last 20 tokens."""
    comma = tokenizer(",", add_special_tokens=False).input_ids
    chunks = []
    while len(tokens) > CHUNK:
        end = CHUNK
        if at_commas and tokens[CHUNK][0] != comma[0]:
            commas = [i for i in range(CHUNK) if tokens[i][0] == comma[0]]
            if commas and CHUNK - commas[-1] <= BACKTRACK:
                end = commas[-1] + 1
        chunks.append(tokens[:end])
        tokens = tokens[end:]
    return chunks + [tokens]


def read_prompt(tokenizer, text: str, syntax: str, chunks) -> list[list[tuple[int, float]]]:
    if syntax == "plain" or chunks is None:
        return cut(tokenizer, token_runs(tokenizer, [(text, 1.0)]), at_commas=syntax != "plain")
    return [part for runs in chunks for part in cut(tokenizer, token_runs(tokenizer, runs), at_commas=True)]


@torch.no_grad()
def encode_chunk(tokenizer, encoder, tokens, is_xl: bool, clip_skip: int):
    ids = [tokenizer.bos_token_id] + [i for i, _ in tokens] + [tokenizer.eos_token_id]
    weights = [1.0] + [w for _, w in tokens] + [1.0]
    padding = CHUNK + 2 - len(ids)
    ids, weights = ids + [tokenizer.pad_token_id] * padding, weights + [1.0] * padding
    output = encoder(torch.tensor([ids]), output_hidden_states=True)
    hidden = output.hidden_states[-(1 + clip_skip + (1 if is_xl else 0))]
    if not is_xl:
        hidden = getattr(encoder, "text_model", encoder).final_layer_norm(hidden)
    mean = hidden.mean()
    hidden = hidden * torch.tensor(weights)[None, :, None]
    if any(w != 1.0 for w in weights):
        hidden = hidden * (mean / hidden.mean())
    return hidden, output[0] if hasattr(output, "text_embeds") else None


def embeddings(pipe, case, with_negative: bool) -> dict:
    """prompt_embeds, negative_prompt_embeds and, for SDXL, the pooled ones of the first chunks."""
    is_xl = hasattr(pipe, "text_encoder_2")
    encoders = [(pipe.tokenizer, pipe.text_encoder)]
    if is_xl:
        encoders.append((pipe.tokenizer_2, pipe.text_encoder_2))
    roles = {"": (case.prompt, case.prompt_2, case.chunks),
             "negative_": (case.negative_prompt or "", case.negative_prompt_2, None)}
    if not with_negative:
        roles.pop("negative_")
    read = {role: [read_prompt(tok, second if k and second is not None else text, case.syntax, chunks)
                   for k, (tok, _) in enumerate(encoders)]
            for role, (text, second, chunks) in roles.items()}
    longest = max(len(chunks) for per_encoder in read.values() for chunks in per_encoder)
    out = {}
    for role, per_encoder in read.items():
        widths, pooled = [], None
        for (tokenizer, encoder), chunks in zip(encoders, per_encoder):
            chunks = chunks + [[]] * (longest - len(chunks))
            parts = [encode_chunk(tokenizer, encoder, c, is_xl, case.clip_skip or 0) for c in chunks]
            widths.append(torch.cat([hidden for hidden, _ in parts], dim=1))
            pooled = parts[0][1]
        out[f"{role}prompt_embeds"] = torch.cat(widths, dim=2)
        if is_xl:
            out[f"{role}pooled_prompt_embeds"] = pooled
    if is_xl and with_negative and case.negative_prompt is None and case.negative_prompt_2 is None:
        out["negative_prompt_embeds"] = torch.zeros_like(out["negative_prompt_embeds"])
        out["negative_pooled_prompt_embeds"] = torch.zeros_like(out["negative_pooled_prompt_embeds"])
    return out
