#!/usr/bin/env bash
# diffusers 0.42.1: the converter of LTX-2's single files leaves `prompt_adaln_single`, LTX-2.3's modulation of the
# prompt, as it is, though the model calls it `prompt_adaln`. The package's converter of LoRAs for the same model
# renames it.
# Expected: what one converter knows the other knows. Seen: 12 of the shared modulation's 24 names fit no tensor.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
from diffusers import LTX2VideoTransformer3DModel
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_ltx2_lora_to_diffusers as convert_lora
from diffusers.loaders.single_file_utils import convert_ltx2_transformer_to_diffusers as convert

model = LTX2VideoTransformer3DModel(
    num_attention_heads=2, num_layers=1, attention_head_dim=20, in_channels=4, out_channels=4, cross_attention_dim=40,
    audio_num_attention_heads=2, audio_attention_head_dim=8, audio_in_channels=6, audio_out_channels=6,
    audio_cross_attention_dim=16, caption_channels=14, cross_attn_mod=True, audio_cross_attn_mod=True)
theirs = {"time_embed": "adaln_single", "audio_time_embed": "audio_adaln_single",
          "prompt_adaln": "prompt_adaln_single", "audio_prompt_adaln": "audio_prompt_adaln_single"}
parts = [name.split(".", 1) for name in model.state_dict() if name.split(".")[0] in theirs]
single_file = {f"model.diffusion_model.{theirs[layer]}.{rest}": None for layer, rest in parts}
strangers = sorted(set(convert(dict(single_file))) - set(model.state_dict()))
lora = convert_lora({f"diffusion_model.{theirs[layer]}.{rest}": None for layer, rest in parts})
strangers_of_lora = {name.removeprefix("transformer.") for name in lora} - set(model.state_dict())
print(f"{len(single_file)} names; strangers after the LoRA converter: {len(strangers_of_lora)},",
      f"after the single file's: {len(strangers)}", *strangers, sep="\n  ")
assert len(single_file) == 24 and not strangers_of_lora
assert len(strangers) == 12 and all("prompt_adaln_single." in name for name in strangers)
PY
