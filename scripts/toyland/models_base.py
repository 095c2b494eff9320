"""The networks of the base model and their sizes; nothing here is trained or read from a file."""

from __future__ import annotations

from dataclasses import dataclass

import diffusers
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPConfig, CLIPModel, PreTrainedModel, ViTConfig, ViTModel

PICTURE_PX = 64
PATCH_PX = 8
LATENT_CHANNELS = 4
LATENT_SIZE = 16
MAX_TOKENS = 77


@dataclass(frozen=True)
class Size:
    """Widths of everything. `base` is what models/toyland ships, `smoke` is for tests that take seconds."""

    text_width: int
    vision_width: int
    transformer_layers: int
    transformer_heads: int
    embedding: int  # shared by pictures and texts
    num_merges: int  # of the tokenizer, at most
    vae_channels: tuple[int, ...]
    vae_groups: int
    dino_width: int
    dino_prototypes: int
    unet_channels: tuple[int, ...]
    unet_groups: int
    unet_heads: int


SIZES = {
    "base": Size(
        text_width=128,
        vision_width=128,
        transformer_layers=4,
        transformer_heads=4,
        embedding=128,
        num_merges=1000,
        vae_channels=(32, 64, 64),
        vae_groups=16,
        dino_width=128,
        dino_prototypes=512,
        unet_channels=(64, 128, 128),
        unet_groups=32,
        unet_heads=4,
    ),
    "smoke": Size(
        text_width=16,
        vision_width=16,
        transformer_layers=1,
        transformer_heads=2,
        embedding=8,
        num_merges=20,
        vae_channels=(8, 8, 8),
        vae_groups=4,
        dino_width=16,
        dino_prototypes=16,
        unet_channels=(8, 16, 16),
        unet_groups=4,
        unet_heads=2,
    ),
}


def plain_attention(model: PreTrainedModel) -> PreTrainedModel:
    """Without a fused kernel: backwards in bfloat16 on a CPU, single products are faster at these lengths."""
    model.set_attn_implementation("eager")
    return model


def make_clip(size: Size, vocabulary: int) -> CLIPModel:
    """The last two ids are <|startoftext|> and <|endoftext|>, which also pads."""
    shared = {
        "num_hidden_layers": size.transformer_layers,
        "num_attention_heads": size.transformer_heads,
        "projection_dim": size.embedding,
    }
    text = {
        "vocab_size": vocabulary,
        "hidden_size": size.text_width,
        "intermediate_size": 4 * size.text_width,
        "hidden_act": "quick_gelu",
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    vision = {
        "hidden_size": size.vision_width,
        "intermediate_size": 4 * size.vision_width,
        "hidden_act": "gelu",
        "image_size": PICTURE_PX,
        "patch_size": PATCH_PX,
    }
    return plain_attention(
        CLIPModel(CLIPConfig(text_config=shared | text, vision_config=shared | vision, projection_dim=size.embedding))
    )


def make_vae(size: Size) -> diffusers.AutoencoderKL:
    levels = len(size.vae_channels)
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=size.vae_channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=size.vae_groups,
        sample_size=PICTURE_PX,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def make_dino(size: Size) -> ViTModel:
    config = ViTConfig(
        hidden_size=size.dino_width,
        intermediate_size=4 * size.dino_width,
        num_hidden_layers=size.transformer_layers,
        num_attention_heads=size.transformer_heads,
        image_size=PICTURE_PX,
        patch_size=PATCH_PX,
    )
    return plain_attention(ViTModel(config, add_pooling_layer=False))


def make_unet(size: Size) -> diffusers.UNet2DConditionModel:
    """Attention everywhere but at the top level, where a third of the time would go into it."""
    lower = len(size.unet_channels) - 1
    unet = diffusers.UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * lower),
        up_block_types=(*("CrossAttnUpBlock2D",) * lower, "UpBlock2D"),
        block_out_channels=size.unet_channels,
        layers_per_block=1,
        cross_attention_dim=size.text_width,
        attention_head_dim=size.unet_heads,
        norm_num_groups=size.unet_groups,
    )
    unet.set_attn_processor(AttnProcessor())  # see plain_attention
    return unet


def make_scheduler() -> diffusers.DPMSolverMultistepScheduler:
    """Stable Diffusion's noise; a solver of second order, as 20 of its steps are enough."""
    return diffusers.DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        steps_offset=1,
        prediction_type="epsilon",
        timestep_spacing="leading",
    )
