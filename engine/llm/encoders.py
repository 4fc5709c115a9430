"""Encoders of texts, and of images into the same space: what a zero-shot classifier compares.

encoder = dual_encoder("openai/clip-vit-base-patch32")
similarity = encoder.embed_image(images) @ encoder.embed_text(["a photo of a cat", "a photo of a dog"]).T
"""

from __future__ import annotations

import importlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoTokenizer

from engine.errors import DataError, EnvironmentMissing, InputError
from engine.llm.models import check_reference, model_path

OPEN_CLIP = "open_clip:"
BATCH = 64


class DualEncoder(ABC):
    """Texts, and with most encoders images, as unit vectors of one space. Safe to call from several threads.

    Each text is encoded once for the life of the encoder; images are not kept, so embed a fixed set once.
    """

    name: str
    has_images: bool = True

    def __init__(self) -> None:
        self._known: dict[str, torch.Tensor] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def embed_text(self, texts: Sequence[str]) -> torch.Tensor:
        """(N, d) unit vectors, float32 on the CPU. Raises InputError where there is no text."""
        if isinstance(texts, str) or not texts:
            raise InputError(f"texts is {texts!r:.60}", allowed="a list of at least one text")
        with self._lock, torch.inference_mode():
            # By length, so that little is padded.
            new = sorted({text for text in texts if text not in self._known}, key=len)
            for start in range(0, len(new), BATCH):
                part = new[start : start + BATCH]
                self._known.update(zip(part, _unit(self._text_features(part)), strict=True))
            return torch.stack([self._known[text] for text in texts])

    def embed_image(self, images: Sequence[Any]) -> torch.Tensor:
        """(N, d) unit vectors of PIL images or of the image files at paths. Raises InputError, DataError."""
        if not self.has_images:
            raise InputError(f"{self.name} encodes texts only", allowed="an encoder of images, such as CLIP")
        if isinstance(images, str | Path) or not len(images):
            raise InputError(f"images is {images!r:.60}", allowed="a list of at least one PIL image or path")
        parts = []
        with self._lock, torch.inference_mode():
            for start in range(0, len(images), BATCH):
                parts.append(_unit(self._image_features([_opened(i) for i in images[start : start + BATCH]])))
        return torch.cat(parts)

    @abstractmethod
    def _text_features(self, texts: list[str]) -> torch.Tensor:
        """(N, d) of any length."""

    def _image_features(self, images: list[Any]) -> torch.Tensor:
        """(N, d) of any length."""
        raise NotImplementedError


class SentenceEncoder(DualEncoder):
    """A sentence encoder of transformers: the mean of the last layer's token states. Texts only."""

    has_images = False

    def __init__(self, reference: str | Path = "minilm-l6-v2", *, device: str | None = None) -> None:
        super().__init__()
        self.name, self._device = str(reference), _device(device)
        self._tokenizer, self._model = _loaded(AutoTokenizer, reference), _loaded(AutoModel, reference)
        self._model.to(self._device).eval()
        self._longest = min(512, getattr(self._model.config, "max_position_embeddings", 512))

    def _text_features(self, texts: list[str]) -> torch.Tensor:
        batch = self._tokenizer(texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt").to(
            self._device
        )
        mask = batch["attention_mask"].unsqueeze(-1)
        states: torch.Tensor = self._model(**batch).last_hidden_state
        means: torch.Tensor = (states * mask).sum(1) / mask.sum(1)
        return means


class ClipEncoder(DualEncoder):
    """A CLIP-like model of transformers: CLIP, SigLIP, ALIGN and others with text and image features."""

    def __init__(self, reference: str | Path, *, device: str | None = None) -> None:
        super().__init__()
        self.name, self._device = str(reference), _device(device)
        self._tokenizer, self._model = _loaded(AutoTokenizer, reference), _loaded(AutoModel, reference)
        # Named here and not at the top: without pillow it cannot be imported, and texts need it not.
        self._processor = _loaded(transformers.AutoImageProcessor, reference)
        self._model.to(self._device).eval()
        config = self._model.config
        self._longest = getattr(config.text_config, "max_position_embeddings", 64)
        # SigLIP was trained on texts padded to their full length.
        self._padding: Any = "max_length" if str(config.model_type).startswith("siglip") else True

    def _text_features(self, texts: list[str]) -> torch.Tensor:
        batch = self._tokenizer(
            texts, padding=self._padding, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        return _features(self._model.get_text_features(**batch.to(self._device)))

    def _image_features(self, images: list[Any]) -> torch.Tensor:
        batch = self._processor(images=images, return_tensors="pt")
        return _features(self._model.get_image_features(pixel_values=batch["pixel_values"].to(self._device)))


class OpenClipEncoder(DualEncoder):
    """A model of the package open_clip by architecture and weights: OpenClipEncoder("ViT-B-32", "laion2b_s34b_b79k").

    Without weights it is random. Raises EnvironmentMissing where open_clip is not installed.
    """

    def __init__(self, architecture: str, weights: str | None = None, *, device: str | None = None) -> None:
        super().__init__()
        try:
            open_clip: Any = importlib.import_module("open_clip")
        except ModuleNotFoundError:
            raise EnvironmentMissing(
                "the package open_clip is not installed", next_step="pip install open-clip-torch"
            ) from None
        self.name, self._device = f"{OPEN_CLIP}{architecture}/{weights or ''}", _device(device)
        self._model, _, self._transform = open_clip.create_model_and_transforms(architecture, pretrained=weights)
        self._tokenize = open_clip.get_tokenizer(architecture)
        self._model.to(self._device).eval()

    def _text_features(self, texts: list[str]) -> torch.Tensor:
        return _features(self._model.encode_text(self._tokenize(texts).to(self._device)))

    def _image_features(self, images: list[Any]) -> torch.Tensor:
        pixels = torch.stack([self._transform(image) for image in images])
        return _features(self._model.encode_image(pixels.to(self._device)))


def dual_encoder(reference: str | Path, *, device: str | None = None) -> DualEncoder:
    """The encoder that a reference names, loaded now.

    "open_clip:ARCHITECTURE/WEIGHTS", or a known name, folder or hub id of a model of transformers: a CLIP-like one if
    it has a text and an image part, else a sentence encoder. device: None takes CUDA where it is there.
    Raises UnknownName, EnvironmentMissing (no such package, or it cannot be fetched), DataError.
    """
    if str(reference).startswith(OPEN_CLIP):
        architecture, _, weights = str(reference).removeprefix(OPEN_CLIP).partition("/")
        return OpenClipEncoder(architecture, weights or None, device=device)
    check_reference(str(reference))
    config = _loaded(AutoConfig, reference)
    is_clip = hasattr(config, "text_config") and hasattr(config, "vision_config")
    return ClipEncoder(reference, device=device) if is_clip else SentenceEncoder(reference, device=device)


def _loaded(kind: Any, reference: str | Path) -> Any:
    folder = model_path(str(reference))
    try:
        return kind.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise DataError(
            f"not an encoder: {error!s:.200}",
            place=str(folder),
            next_step="give a folder with config.json, weights in safetensors, a tokenizer, and for images a "
            "preprocessor_config.json",
        ) from None


def _features(found: Any) -> torch.Tensor:
    """The features as a tensor; since transformers 5 they come as the `pooler_output` of a structure."""
    tensor: torch.Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
    return tensor


def _unit(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features.float(), dim=-1).cpu()


def _device(device: str | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _opened(image: Any) -> Any:
    """A PIL image in RGB, from itself or from a file."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError:
        raise EnvironmentMissing("images need the package pillow", next_step="pip install pillow") from None
    try:
        if isinstance(image, str | Path):
            with Image.open(image) as opened:
                return opened.convert("RGB")
        return image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"not an image: {error!s:.120}", place=str(image)) from None
    except AttributeError:
        raise InputError(f"an image is {image!r:.60}", allowed="a PIL image or a path") from None
