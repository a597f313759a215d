"""The engine beside its peers: `make bench`, and `make bench QUICK=1` for a first look.

Everything that is compared runs side by side in one invocation, in turns, so that a slow spell of
the computer does not hit one system alone. Results go to ``bench/results/``, those of a first look
to ``bench/results/quick/``: ``bench.json`` has every run, ``bench.md`` the medians with their
spread, and plots lie beside them.
"""

import argparse
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

from broker import open_broker
from ground import FULL, QUICK, Ground, Scale
from plan import SCENARIOS, Plan
from progress import carry_out
from results import FOLDER, Results

from ondemand.processor.lifecycle import spare_collector


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three minutes, one repeat")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SCENARIOS,
        default=list(SCENARIOS),
        help="these scenarios; what the results have of others stays",
    )
    parser.add_argument("--repeats", type=int, help="of every scenario")
    parser.add_argument(
        "--beside",
        type=Path,
        help="another checkout: drain with its worker and with this one; needs --results",
    )
    parser.add_argument("--results", type=Path, help="a folder")
    given = parser.parse_args()
    if given.beside is not None and (given.results is None or given.only != ["drain"]):
        parser.error("--beside needs --only drain and a folder of its own: --results FOLDER")
    return given


def _command(given: argparse.Namespace) -> str:
    """What the report says that it was printed by: paths are nobody's business."""
    words = ["make bench"]
    if given.quick:
        words.append("QUICK=1")
    if given.only != list(SCENARIOS):
        words.append(f'ONLY="{" ".join(given.only)}"')
    if given.repeats:
        words.append(f"(--repeats {given.repeats})")
    if given.beside:
        words.append("(--beside)")
    return " ".join(words)


def _scale(given: argparse.Namespace) -> Scale:
    scale = QUICK if given.quick else FULL
    if given.repeats:
        return replace(scale, repeats=given.repeats, repeats_more=given.repeats)
    return scale


def main() -> None:
    """Measure, print, write, also after Ctrl-C."""
    given = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    spare_collector()  # the load's own pauses are not what is measured
    folder = given.results or (FOLDER / "quick" if given.quick else FOLDER)
    results = Results(folder, _command(given), given.only)
    with tempfile.TemporaryDirectory() as working, open_broker() as broker:
        ground = Ground(broker, Path(working), _scale(given))
        steps = Plan(ground, results.not_run, given.beside).steps(given.only)
        carry_out(steps, results)
    results.write()
    print(f"See {folder / 'bench.md'}", flush=True)


if __name__ == "__main__":
    main()
