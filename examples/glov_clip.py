"""GLOV's own setting: the prompt with which CLIP names images is improved on a few labelled images a class.

    python examples/glov_clip.py FOLDER [--encoder openai/clip-vit-base-patch32] [--llm local:OWNER/MODEL]

FOLDER/CLASS/*.png, *.jpg: a folder a class, named as the class is. Some --shots images a class are searched on, the
others are held out. A recipe for a GPU: both models are fetched from the hub, or are folders.
"""

import argparse
from pathlib import Path

from engine import Budget, gallery, optimize, trace
from engine.llm.encoders import DualEncoder, dual_encoder

split = gallery.load("agents/image_classifier.py:split")


def has_one_gap(text: str) -> bool:
    """{} stands in it once, where the name of a class goes"""
    return text.count("{}") == 1 and text.replace("{}", "").strip() != ""


prompt = trace.param(
    "a photo of a {}.",
    name="prompt",
    description="a caption of a photo, with {} where the name of the object goes",
    constraint=has_one_gap,
)


def run(encoder: DualEncoder, folder: Path, shots: int, **options):
    """The result of a search with the encoder's accuracy as fitness."""
    search, held_out = split(folder, shots)
    classes = sorted({kind for _, kind in search})
    images = [file for file, _ in [*search, *held_out]]
    vectors = dict(zip(images, encoder.embed_image(images), strict=True))  # once: a prompt then costs its texts only

    @trace.node
    def nearest(image, prompt: str) -> str:
        texts = encoder.embed_text([prompt.replace("{}", kind) for kind in classes])
        return classes[int((texts @ vectors[image]).argmax())]

    def name(example):
        """Name what is on a photo."""
        return nearest(example[0], prompt)

    return optimize(
        name,
        search,
        feedback=lambda example, output: float(output == example[1]),
        optimizer="glov",
        validation=held_out or None,
        **options,
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--encoder", default="openai/clip-vit-base-patch32")
    options.add_argument("--llm", default="local:HuggingFaceTB/SmolLM2-1.7B-Instruct")
    options.add_argument("--shots", type=int, default=8)
    options.add_argument("--evaluations", type=int, default=100)
    asked = options.parse_args()
    result = run(
        dual_encoder(asked.encoder), asked.folder, asked.shots, llm=asked.llm, budget=Budget(asked.evaluations)
    )
    print(result)
