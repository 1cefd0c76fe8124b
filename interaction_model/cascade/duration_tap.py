"""How a voice model is made to say how long each of its phonemes lasts.

The model computes a duration for every phoneme on its way to sound, and does not return it. This module names that
tensor as one more output in the bytes of the file, before they are loaded. It does not know what a phoneme is.

Source: the ONNX file format (onnx.proto: `ModelProto.graph` is field 7, `GraphProto.output` field 12) and the
encoding of Protocol Buffers, in which a field that stands twice is merged: nothing has to be parsed or moved.
"""

from __future__ import annotations

_GRAPH, _OUTPUT, _NAME, _TYPE = 7, 12, 1, 2
_TENSOR_TYPE, _ELEMENT_TYPE = 1, 1
_INT64 = 7


def add_output(model: bytes, tensor: str) -> bytes:
    """Return the ONNX model with one more output after its others: the int64 tensor of that name."""
    element = bytes([_ELEMENT_TYPE << 3, _INT64])
    value_type = _message(_TENSOR_TYPE, element)
    value = _message(_NAME, tensor.encode()) + _message(_TYPE, value_type)
    return model + _message(_GRAPH, _message(_OUTPUT, value))


def _message(field: int, content: bytes) -> bytes:
    """Encode one field of the length-prefixed kind."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
