"""Turns the weights of all-MiniLM-L6-v2 into the one file from which llama.cpp loads a BERT model.

usage: llm_embedding.py MODEL_FOLDER OUTPUT.gguf

The folder has a `config.json`, a `vocab.txt` with a token a line, and `model.safetensors`: eight bytes with the length of
a JSON header, the header with type, shape and place of each tensor, and the tensors one behind the other.
"""

import json
import pathlib
import sys

import gguf
import numpy

NUMBERS = {"F16": numpy.float16, "F32": numpy.float32, "I64": numpy.int64}
CONTROL = ("[CLS]", "[MASK]", "[PAD]", "[SEP]", "[UNK]")
# Parts of each of the six layers: their names in the output and here. Norms stay at full precision.
LAYER = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}


def tensors(path):
    """All tensors of a file by their names, without the prefix that some files give them."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + length :]
    found = {}
    for name, about in header.items():
        start, end = about["data_offsets"]
        numbers = numpy.frombuffer(body[start:end], dtype=NUMBERS[about["dtype"]])
        found[name.removeprefix("bert.")] = numbers.reshape(about["shape"])
    return found


def write_vocabulary(writer, tokens):
    """llama.cpp marks the beginnings of words; BERT marks what goes on."""
    texts, kinds = [], []
    for token in tokens:
        is_special = len(token) > 2 and token[0] == "[" and token[-1] == "]"
        if is_special:
            texts.append(token)
            kinds.append(gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.UNUSED)
            continue
        goes_on = len(token) > 2 and token.startswith("##")
        texts.append(token[2:] if goes_on else "\u2581" + token)
        kinds.append(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([text.encode() for text in texts])
    writer.add_token_types(kinds)
    number = tokens.index
    writer.add_bos_token_id(number("[CLS]"))
    writer.add_eos_token_id(number("[SEP]"))
    writer.add_unk_token_id(number("[UNK]"))
    writer.add_sep_token_id(number("[SEP]"))
    writer.add_pad_token_id(number("[PAD]"))
    writer.add_mask_token_id(number("[MASK]"))


def main(folder, output):
    config = json.loads((folder / "config.json").read_text())
    weights = tensors(folder / "model.safetensors")
    writer = gguf.GGUFWriter(output, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(0)
    writer.add_token_type_count(config["type_vocab_size"])
    write_vocabulary(writer, (folder / "vocab.txt").read_text(encoding="utf-8").splitlines())

    def add(name, source, precision=numpy.float32):
        writer.add_tensor(name, weights[source].astype(precision))

    add("token_embd.weight", "embeddings.word_embeddings.weight", numpy.float16)
    add("position_embd.weight", "embeddings.position_embeddings.weight")
    add("token_types.weight", "embeddings.token_type_embeddings.weight")
    for part in ("weight", "bias"):
        add(f"token_embd_norm.{part}", f"embeddings.LayerNorm.{part}")
        for layer in range(config["num_hidden_layers"]):
            for name, source in LAYER.items():
                is_matrix = part == "weight" and not name.endswith("norm")
                precision = numpy.float16 if is_matrix else numpy.float32
                add(f"blk.{layer}.{name}.{part}", f"encoder.layer.{layer}.{source}.{part}", precision)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
