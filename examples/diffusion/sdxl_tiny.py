"""A Stable Diffusion XL pipeline of the real structure and next to no size, for want of real weights.

Its weights are random, and the same wherever and whenever they are made. So it draws nothing that a
prompt describes, but does all that the large one does: on a laptop's CPU, without a download.
"""

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

#: Width of each text encoder; the UNet is told what both say.
TEXT_WIDTH = 32
TIME_WIDTH = 8
#: Of the random weights.
SEED = 0


def tiny_pipeline() -> StableDiffusionXLPipeline:
    """Draws 64 × 64 pixels unless told otherwise; latents are 8 times smaller, as the real one's are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return StableDiffusionXLPipeline(
            vae=_vae(),
            text_encoder=CLIPTextModel(_text_config()).eval(),
            text_encoder_2=CLIPTextModelWithProjection(_text_config()).eval(),
            tokenizer=_tokenizer(),
            tokenizer_2=_tokenizer(),
            unet=_unet(),
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
            ),
            add_watermarker=False,
        )


def _unet() -> UNet2DConditionModel:
    sizes_and_crop = 6
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        cross_attention_dim=2 * TEXT_WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=sizes_and_crop * TIME_WIDTH + TEXT_WIDTH,
    ).eval()


def _vae() -> AutoencoderKL:
    blocks = 4
    return AutoencoderKL(
        block_out_channels=(16,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=64,
    ).eval()


def _text_config() -> CLIPTextConfig:
    tokenizer = _tokenizer()
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_size=TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_attention_heads=4,
        num_hidden_layers=2,
    )


def _tokenizer() -> CLIPTokenizer:
    """Of CLIP's kind, with a token for each byte, within a word or at its end, and no longer ones."""
    signs = sorted(ByteLevel.alphabet())
    tokens = [*signs, *(f"{sign}</w>" for sign in signs), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
