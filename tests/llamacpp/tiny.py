"""Real models of a few MB that speak a script: written in a moment, so none is kept in the repository.

One layer whose attention and feed-forward weights are all zero, embeddings that tell tokens apart, and an
output that maps each to its successor: what such a model says depends on its last token alone.
"""

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

SCRIPT = (" Hello", ",", " this", " is", " a", " tiny", " model", ".")
SMILE = ("<0xF0>", "<0x9F>", "<0x98>", "<0x80>")
"""One character of four tokens."""
TEXT = "".join(SCRIPT) + "😀"

TEMPLATE = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'tool' %}{{ raise_exception('no tools, please') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

_SPECIAL = ("<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
_END, _ASSISTANT = 2, 4
_FORWARD, _CONTEXT = 64, 1 << 17


def write_model(
    path: Path,
    script: Sequence[str] = SCRIPT + SMILE,
    *,
    endless: bool = False,
    template: str | None = TEMPLATE,
    spoilt: bool = False,
) -> Path:
    """`script` is of tokens, each there once. `endless` says it again and again; `spoilt` has one
    token twice, over which llama.cpp ends its process."""
    words = [word.replace(" ", "▁") for word in script]
    single = ["▁", "\n", *map(chr, range(33, 127))]
    bytewise = [f"<0x{byte:02X}>" for byte in range(256)]
    base = [*_SPECIAL, *bytewise]
    tokens = base + single + [word for word in words if word not in {*base, *single}]
    if spoilt:
        tokens.append(tokens[-1])
    kinds = gguf.TokenType
    types = [kinds.UNKNOWN, *[kinds.CONTROL] * (len(_SPECIAL) - 1), *[kinds.BYTE] * 256]
    types += [kinds.NORMAL] * (len(tokens) - len(types))

    size, width = len(tokens), -(-len(tokens) // 32) * 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FORWARD)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 4)
    writer.add_vocab_size(size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.encode() for token in tokens])
    writer.add_token_types(types)
    writer.add_token_scores([0.0] * len(base) + [-float(i) for i in range(size - len(base))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(_END)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    if template is not None:
        writer.add_chat_template(template)

    said = [tokens.index(word) for word in words]
    after = dict.fromkeys(range(size), _END)
    after |= dict(zip([_ASSISTANT, *said], [*said, said[0] if endless else _END], strict=True))
    output = np.zeros((size, width), np.float32)
    for token, successor in after.items():
        output[successor, token] = 10.0
    writer.add_tensor("token_embd.weight", np.eye(size, width, dtype=np.float32))
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(width, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((width, width), np.float32))
    for name in ("ffn_gate", "ffn_up"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((_FORWARD, width), np.float32))
    writer.add_tensor("blk.0.ffn_down.weight", np.zeros((width, _FORWARD), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
