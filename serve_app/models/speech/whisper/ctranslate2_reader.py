"""`describe_ctranslate2` and `ctranslate2_tensors`: a Whisper in CTranslate2's form, read without that library.

`ModelSpec._serialize` (ctranslate2/specs/model_spec.py) defines `model.bin`; all converters of Whisper write its binary
version 6. Name, shape and type precede each variable's bytes, so that they are read without the weights.

The converter joins the projections of one input (queries, keys and values) to one matrix, with zeros for the missing
bias of keys. Splitting it gives the original tensors to the last bit. Sources: ctranslate2/specs/whisper_spec.py,
transformer_spec.py, attention_spec.py and converters/transformers.py (BartLoader, WhisperLoader).
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from serve_app.errors import ModelLoadingError
from serve_app.models.speech.whisper import checkpoint_files as files
from serve_app.models.speech.whisper.checkpoint_completion import make_generation_config
from serve_app.sentences import Sentence

if TYPE_CHECKING:
    from torch import Tensor

_BINARY_VERSION = 6
_SPEC, _REVISION = "WhisperSpec", 3
# a format's number in the file is its index
_ITEM_BYTES = (("float32", 4), ("int8", 1), ("int16", 2), ("int32", 4), ("float16", 2), ("bfloat16", 2))


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a model: its shape, () for a scalar; its format, one of `_ITEM_BYTES`; its place in the file."""

    shape: tuple[int, ...]
    number_format: str
    offset_bytes: int
    num_bytes: int


def _read_variables(path: Path) -> dict[str, Variable]:
    """Return a model's variables by name; an alias stands for the variable that it names.

    Raises:
        ModelLoadingError: the file is missing, cut off, broken, of another version, or holds another kind of model.
    """
    try:
        with path.open("rb") as file:
            reader = _Reader(file)
            [version] = reader.numbers("I")
            if version != _BINARY_VERSION:
                raise ModelLoadingError(
                    Sentence(
                        "{path} is no CTranslate2 model of binary version {binary_version} (it begins with {version}); "
                        "fetch it again, or convert the original checkpoint with a current ctranslate2",
                        path=path,
                        binary_version=_BINARY_VERSION,
                        version=version,
                    )
                )
            spec, [revision] = reader.string(), reader.numbers("I")
            if (spec, revision) != (_SPEC, _REVISION):
                raise ModelLoadingError(
                    Sentence(
                        "{path} holds a CTranslate2 model of the kind {spec}, revision {revision}, where {spec2}, "
                        "revision {revision2}, is needed; name another checkpoint",
                        path=path,
                        spec=repr(spec),
                        revision=revision,
                        spec2=_SPEC,
                        revision2=_REVISION,
                    )
                )
            variables = dict(reader.variable() for _ in range(reader.numbers("I")[0]))
            for _ in range(reader.numbers("I")[0]):
                alias, original = reader.string(), reader.string()
                variables[alias] = variables[original]
            if file.tell() != reader.size_bytes:
                raise ValueError("bytes follow the last variable")
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ModelLoadingError(
            Sentence("{path} is cut off or broken ({reason}); fetch it again", path=path, reason=str(error))
        ) from error
    return variables


def _read_bytes(path: Path, variable: Variable) -> NDArray[np.uint8]:
    return np.fromfile(path, np.uint8, count=variable.num_bytes, offset=variable.offset_bytes)


class _Reader:
    """Reads the header. Raises ValueError where the file ends too early."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size_bytes = os.fstat(file.fileno()).st_size

    def numbers(self, codes: str) -> tuple[int, ...]:
        """Return unsigned little-endian numbers of `struct`'s codes."""
        return struct.unpack(f"<{codes}", self._bytes(struct.calcsize(f"<{codes}")))

    def string(self) -> str:
        """Return a string, stored with its length and a zero at its end."""
        return self._bytes(*self.numbers("H"))[:-1].decode("utf-8")

    def variable(self) -> tuple[str, Variable]:
        """Return a variable's name and place, and skip its content."""
        name = self.string()
        [num_dimensions] = self.numbers("B")
        shape = self.numbers(f"{num_dimensions}I")
        number, num_bytes = self.numbers("BI")
        offset_bytes = self._file.tell()
        number_format, item_bytes = _ITEM_BYTES[number]
        if num_bytes != math.prod(shape) * item_bytes:
            raise ValueError(f"{name} has {num_bytes} bytes for the shape {list(shape)}")
        if offset_bytes + num_bytes > self.size_bytes:
            raise ValueError(f"the file ends in {name}")
        self._file.seek(num_bytes, os.SEEK_CUR)
        return name, Variable(shape, number_format, offset_bytes, num_bytes)

    def _bytes(self, count: int) -> bytes:
        content = self._file.read(count)
        if len(content) < count:
            raise ValueError("the file ends in its header")
        return content


_EMBEDDINGS, _PROJECTION = "decoder/embeddings/weight", "decoder/projection/weight"
_KEYS = ("alignment_heads", "lang_ids", "suppress_ids", "suppress_ids_begin")
_LAYER = re.compile(r"(?P<side>\w+)\.layers\.(?P<number>\d+)\.(?P<part>\w+)(\.(?P<projection>\w+))?\.(?P<kind>\w+)")
_NORM = {"weight": "gamma", "bias": "beta"}
# part of a layer and its projection -> CTranslate2's module, index in the joined matrix, number of its parts
_JOINED = {
    ("self_attn", "q_proj"): ("self_attention/linear_0", 0, 3),
    ("self_attn", "k_proj"): ("self_attention/linear_0", 1, 3),
    ("self_attn", "v_proj"): ("self_attention/linear_0", 2, 3),
    ("self_attn", "out_proj"): ("self_attention/linear_1", 0, 1),
    ("encoder_attn", "q_proj"): ("attention/linear_0", 0, 1),
    ("encoder_attn", "k_proj"): ("attention/linear_1", 0, 2),
    ("encoder_attn", "v_proj"): ("attention/linear_1", 1, 2),
    ("encoder_attn", "out_proj"): ("attention/linear_2", 0, 1),
    ("fc1", None): ("ffn/linear_0", 0, 1),
    ("fc2", None): ("ffn/linear_1", 0, 1),
}
_LAYER_NORMS = {
    "self_attn_layer_norm": "self_attention/layer_norm",
    "encoder_attn_layer_norm": "attention/layer_norm",
    "final_layer_norm": "ffn/layer_norm",
}


def describe_ctranslate2(folder: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Check a folder by its small files and the header of its weights.

    Returns:
        config.json and generation_config.json as in Hugging Face form, and the stored number format: "float32",
        "float16", "bfloat16", "int8" or "int16"; "float32" where floats are mixed.

    Raises:
        ModelLoadingError: a file is missing or broken, or it is no Whisper.
    """
    stored = files.read_json(folder / files.CONFIG)
    path = folder / files.CTRANSLATE2_WEIGHTS
    variables = _read_variables(path)  # first: the kind of model explains more than a missing key
    missing = [name for name in _KEYS if name not in stored]
    if missing:
        raise ModelLoadingError(
            Sentence(
                "{folder} lacks {missing}: it is not the config.json of a Whisper in CTranslate2's form; fetch the "
                "folder again",
                folder=folder / files.CONFIG,
                missing=", ".join(missing),
            )
        )
    if not (folder / files.TOKENIZER).is_file():
        raise ModelLoadingError(
            Sentence(
                "The checkpoint {folder} has no {tokenizer}; copy it from the model that it was converted from",
                folder=folder,
                tokenizer=files.TOKENIZER,
            )
        )
    if not any((folder / name).is_file() for name in files.CTRANSLATE2_VOCABULARIES):
        raise ModelLoadingError(
            Sentence(
                "The checkpoint {folder} has neither {ctranslate2_vocabularies}, which CTranslate2 reads; fetch it "
                "again",
                folder=folder,
                ctranslate2_vocabularies=" nor ".join(files.CTRANSLATE2_VOCABULARIES),
            )
        )
    config = _config(path, variables)
    number_format = _check_variables(path, variables, config)
    return config, _generation_config(folder, stored, config), number_format


def ctranslate2_tensors(path: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield Hugging Face names (after "model.") and tensors, one at a time; floats as stored, integers as float32.

    As in CTranslate2, a quantized weight is the stored integer divided by its scale.
    """
    variables = _read_variables(path)
    for name in files.expected_tensors(config):
        source, part, parts = _source(name)
        whole = _tensor(path, variables, source)
        yield name, whole.chunk(parts)[part].clone() if parts > 1 else whole  # writers reject shared memory
    if not config["tie_word_embeddings"]:
        yield files.PROJECTION, _tensor(path, variables, _PROJECTION)


def _config(path: Path, variables: Mapping[str, Variable]) -> dict[str, Any]:
    """Return config.json in Hugging Face form, with sizes from the tensors."""

    def size(name: str, axis: int) -> int:
        variable = variables.get(name)
        if variable is None or len(variable.shape) <= axis:
            raise ModelLoadingError(
                Sentence(
                    "{path} has no {name}: it is no Whisper that transcribes; name another checkpoint",
                    path=path,
                    name=name,
                )
            )
        return variable.shape[axis]

    def heads(side: str) -> int:
        variable = variables.get(f"{side}/num_heads")
        if variable is None or variable.shape or variable.number_format != "int16":
            raise ModelLoadingError(
                Sentence("{path} lacks the number of heads of the {side}; fetch it again", path=path, side=side)
            )
        return int(_read_bytes(path, variable).view(np.int16)[0])

    d_model = size("encoder/conv1/weight", 0)
    config: dict[str, Any] = {
        **files.FIXED_CONFIG,
        "tie_word_embeddings": variables.get(_PROJECTION) in (None, variables.get(_EMBEDDINGS)),
        "d_model": d_model,
        "num_mel_bins": size("encoder/conv1/weight", 1),
        "vocab_size": size(_EMBEDDINGS, 0),
        "max_source_positions": size("encoder/position_encodings/encodings", 0),
        "max_target_positions": size("decoder/position_encodings/encodings", 0),
    }
    for side in ("encoder", "decoder"):
        layer = re.compile(rf"{side}/layer_(\d+)/")
        config[f"{side}_layers"] = len({found[1] for name in variables if (found := layer.match(name))})
        config[f"{side}_ffn_dim"] = size(f"{side}/layer_0/ffn/linear_0/weight", 0)
        config[f"{side}_attention_heads"] = count = heads(side)
        if count < 1 or d_model % count:
            raise ModelLoadingError(
                Sentence(
                    "{path} has {count} heads for a width of {d_model}; fetch it again",
                    path=path,
                    count=count,
                    d_model=d_model,
                )
            )
    return config


def _check_variables(path: Path, variables: Mapping[str, Variable], config: Mapping[str, Any]) -> str:
    """Return the stored number format; ModelLoadingError if a variable is missing or has another shape."""
    formats: set[str] = set()
    for name, (_, shape) in files.expected_tensors(config).items():
        source, _, parts = _source(name)
        variable, wanted = variables.get(source), (shape[0] * parts, *shape[1:])
        if variable is None or variable.shape != wanted:
            found = "no such variable" if variable is None else f"the shape {list(variable.shape)}"
            raise ModelLoadingError(
                Sentence(
                    "{path} has {found} for {source}, where its other sizes need {wanted}; fetch it again",
                    path=path,
                    found=found,
                    source=source,
                    wanted=list(wanted),
                )
            )
        formats.add(variable.number_format)
        if variable.number_format in ("int8", "int16"):
            scale = variables.get(f"{source}_scale")
            if scale is None or scale.shape != (wanted[:1] if variable.number_format == "int8" else ()):
                raise ModelLoadingError(
                    Sentence("{path} has no fitting scale for {source}; fetch it again", path=path, source=source)
                )
    integers = formats & {"int8", "int16"}
    return (integers or formats).pop() if len(integers) == 1 or len(formats) == 1 else "float32"


def _generation_config(folder: Path, stored: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return generation_config.json in Hugging Face form."""
    try:
        tokenizer = Tokenizer.from_file(str(folder / files.TOKENIZER))
    except Exception as error:  # the library raises plain Exception
        raise ModelLoadingError(
            Sentence(
                "{folder} can't be read ({reason}); fetch it again", folder=folder / files.TOKENIZER, reason=str(error)
            )
        ) from error
    for name in _KEYS[1:]:
        if not all(isinstance(id, int) for id in stored[name] or ()):
            raise ModelLoadingError(
                Sentence(
                    "{folder}: {name} is no list of token ids; fetch it again", folder=folder / files.CONFIG, name=name
                )
            )
    heads = stored["alignment_heads"] or None
    pairs = [
        [layer, head] for layer in range(config["decoder_layers"]) for head in range(config["decoder_attention_heads"])
    ]
    if heads is not None and not (isinstance(heads, list) and all(pair in pairs for pair in heads)):
        raise ModelLoadingError(
            Sentence(
                "{folder}: alignment_heads are no heads of this decoder; fetch it again", folder=folder / files.CONFIG
            )
        )
    known: dict[str, Any] = {
        "alignment_heads": heads,
        "suppress_tokens": stored["suppress_ids"] or [],
        "begin_suppress_tokens": stored["suppress_ids_begin"],
    }
    if files.is_multilingual(config):
        tokens = {tokenizer.id_to_token(id) or "": id for id in stored["lang_ids"] or ()}
        # some converters list timestamps too
        known["lang_to_id"] = {
            token: id for token, id in tokens.items() if files.LANGUAGE_TOKEN.fullmatch(token)
        } or None
    return make_generation_config(tokenizer, config, known, folder)


def _source(name: str) -> tuple[str, int, int]:
    """Return CTranslate2's variable of a tensor, the index of the tensor's rows in it, and the number of parts."""
    in_layer = _LAYER.fullmatch(name)
    if in_layer is None:
        side, module, kind = name.split(".")
        if module == "layer_norm":
            return f"{side}/layer_norm/{_NORM[kind]}", 0, 1
        other = {"embed_positions": "position_encodings/encodings", "embed_tokens": "embeddings/weight"}
        return f"{side}/{other.get(module, f'{module}/{kind}')}", 0, 1
    layer, kind = f"{in_layer['side']}/layer_{in_layer['number']}", in_layer["kind"]
    if in_layer["part"] in _LAYER_NORMS:
        return f"{layer}/{_LAYER_NORMS[in_layer['part']]}/{_NORM[kind]}", 0, 1
    module, part, parts = _JOINED[in_layer["part"], in_layer["projection"]]
    return f"{layer}/{module}/{kind}", part, parts


def _tensor(path: Path, variables: Mapping[str, Variable], name: str) -> Tensor:
    import torch

    def read(name: str) -> Tensor:
        variable = variables[name]
        content = torch.from_numpy(_read_bytes(path, variable))
        return content.view(getattr(torch, variable.number_format)).reshape(variable.shape)

    tensor = read(name)
    if tensor.is_floating_point():
        return tensor
    scale = read(f"{name}_scale").float()
    return tensor.float() / scale.reshape(*scale.shape, *[1] * (tensor.dim() - scale.dim()))
