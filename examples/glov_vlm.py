"""GLOV's other setting: the question to which a model that sees pictures names their classes is improved on a few.

    python examples/glov_vlm.py FOLDER --vlm http://host:port/v1#MODEL [--llm local:OWNER/MODEL]

FOLDER/CLASS/*.png, *.jpg: a folder a class, named as the class is. Some --shots pictures a class are searched on, the
others are held out. --vlm: an OpenAI-compatible endpoint of such a model, or openai:MODEL; --llm proposes questions.
"""

import argparse
from pathlib import Path

from engine import Budget, Media, gallery, optimize
from engine.llm import LLM, resolve

name_class = gallery.load("agents/image_classifier.py:name_class")
score = gallery.load("agents/image_classifier.py:score")
split = gallery.load("agents/image_classifier.py:split")


def run(vlm: LLM, folder: Path, shots: int, **options):
    """The result of a search with the model's accuracy as fitness; k and candidates are the paper's for such models."""
    search, held_out = (
        [{"picture": Media(file), "class": kind} for file, kind in part] for part in split(folder, shots)
    )
    classes = sorted({example["class"] for example in search})

    def name(example):
        """Name what is on a picture."""
        return name_class(example["picture"], classes, vlm)

    return optimize(
        name,
        search,
        feedback=score,
        optimizer={"kind": "glov", "k": 3, "candidates": 5},
        validation=held_out or None,
        **options,
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--vlm", required=True)
    options.add_argument("--llm", default="local:HuggingFaceTB/SmolLM2-1.7B-Instruct")
    options.add_argument("--shots", type=int, default=8)
    options.add_argument("--evaluations", type=int, default=50)
    options.add_argument("--workers", type=int, default=16)
    asked = options.parse_args()
    result = run(
        resolve(asked.vlm, max_tokens=256),
        asked.folder,
        asked.shots,
        llm=asked.llm,
        budget=Budget(asked.evaluations),
        workers=asked.workers,
    )
    print(result)
