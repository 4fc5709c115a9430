"""Somebody has a picture in mind and finds it by ranking: no score, no gradient, only which of eight are nearer to it.

    python examples/rank_images.py [FOLDER]          open the link and rank; after a kill it goes on where it was
    python examples/rank_images.py [FOLDER] --auto   a program ranks, by the distance to a picture that it keeps hidden

A picture is sixteen numbers: how much there is of sixteen waves of light, from broad to fine. By turns the five best of
eight pictures around the present one are put in order, and the best of six steps from it is chosen (ZO-RankSGD).
"""

import argparse
import contextlib
import struct
import zlib
from pathlib import Path

import torch

from engine.jsonfiles import read_json, write_json
from engine.ranking import FormRanker, Media
from rl.methods.zo_ranksgd import ZORankSGD, loss_ranker, run

SIDE = 96
HIDDEN = torch.randn(16, generator=torch.Generator().manual_seed(3))


def pixels(x: torch.Tensor) -> torch.Tensor:
    """Height, width and red, green, blue as bytes: sand where the waves are high, dusk where they are low."""
    waves = torch.cos(torch.pi * torch.outer(torch.arange(4), (torch.arange(SIDE) + 0.5) / SIDE))
    waves[0] *= 0.5**0.5  # so that all sixteen matter alike
    height = torch.tanh(waves.T @ x.reshape(4, 4) @ waves / 4)[..., None]
    return (255 * (0.5 + torch.tensor([0.5, 0.15, -0.45]) * height)).round().to(torch.uint8)


def picture(x: torch.Tensor) -> Media:
    """What a person is shown of x: a PNG."""
    rows = b"".join(b"\0" + row.numpy().tobytes() for row in pixels(x))
    head = struct.pack(">2I5B", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + head, b"IDAT" + zlib.compress(rows), b"IEND"]
    framed = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks]
    return Media(b"\x89PNG\r\n\x1a\n" + b"".join(framed), alt="waves of light")


def distance(seen: torch.Tensor, wanted: torch.Tensor) -> float:
    """Root mean square of the difference of two pictures' pixels."""
    return float((seen.double() - wanted.double()).square().mean().sqrt())


def descent(seed: int = 0) -> ZORankSGD:
    return ZORankSGD(torch.zeros(16), m=8, k=5, mu=0.25, eta=2.0, gamma=0.5, line_search=5, seed=seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("picture"))
    parser.add_argument("--auto", action="store_true", help="a program ranks in place of people")
    parser.add_argument("--rankings", type=int, default=40, help="how many to ask for")
    parser.add_argument("--port", type=int, help="where the form listens; else 8765, or any that is free")
    parser.add_argument("--settle", type=float, default=2.0, help="for how many seconds an answer can be taken back")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    state, store = args.folder / "state.json", args.folder / "rankings.sqlite"

    optimizer, shown = descent(), pixels if args.auto else picture
    if state.exists():
        optimizer.load_state_dict(read_json(state))
        print(f"going on after {optimizer.round} rankings", flush=True)
    if args.auto:
        ordered = chosen = loss_ranker(lambda seen: distance(seen, pixels(HIDDEN)))
    else:  # both over one store, which one server shows; only the first tells the link
        ordered = FormRanker(store, k=5, settle_s=args.settle, port=args.port)
        chosen = FormRanker(store, mode="best", settle_s=args.settle, port=args.port, annotators=())
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(chosen), contextlib.closing(ordered):
        while optimizer.round < args.rankings:
            ranker = chosen if optimizer.is_line_search else ordered
            run(optimizer, ranker, 1, question="Which is most like the picture you have in mind?", shown=shown)
            write_json(state, optimizer.state_dict())
            (args.folder / "picture.png").write_bytes(picture(optimizer.x).data)
            off = f", {distance(pixels(optimizer.x), pixels(HIDDEN)):.1f} away" if args.auto else ""
            print(f"ranking {optimizer.round}{off}: {args.folder / 'picture.png'}", flush=True)
