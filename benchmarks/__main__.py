"""Time opgrad against other libraries: ``python benchmarks``. See README.md beside this file."""

from __future__ import annotations

import os

# One thread for everyone. The libraries read this when they are imported.
os.environ.update(
    OPENBLAS_NUM_THREADS="1",
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    VECLIB_MAXIMUM_THREADS="1",
    NPROC="1",  # the size of XLA's thread pool
    XLA_FLAGS="--xla_cpu_multi_thread_eigen=false",
    JAX_PLATFORMS="cpu",
    JAX_ENABLE_X64="1",  # float64 where the others have it
)

import argparse
import json
import sys
from pathlib import Path

import report
from sides import SIDES
from timing import Timing, time_depth, time_imports, time_workload
from workloads import WORKLOADS

NAMES = [*WORKLOADS, "import", "depth"]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python benchmarks", description=__doc__)
    add = parser.add_argument
    add("--only", metavar="NAME,...", type=_names, default=NAMES, help=f"of {', '.join(NAMES)}")
    add("--rounds", metavar="N", type=_rounds, default=40, help="samples of each (default: 40)")
    add("--json", metavar="FILE", type=Path, help="write every sample to FILE")
    add("--markdown", action="store_true", help="print the tables as Markdown")
    add("--write", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    if options.write and options.only != NAMES:
        parser.error("--write is for all workloads: leave --only out")
    return options


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in NAMES:
            msg = f"no workload {name!r}; there are {', '.join(NAMES)}"
            raise argparse.ArgumentTypeError(msg)
    return names


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        msg = f"got {text!r}; expected a whole number from 2 on, since a spread is reported"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def measure(name: str, rounds: int) -> Timing:
    """Take the times of one workload; imports are slow, and get fewer rounds."""
    print(f"timing {name} ...", file=sys.stderr)
    if name == "import":
        return time_imports(min(rounds, 20))
    return time_workload(WORKLOADS[name], rounds)


def main() -> None:
    """Measure what is asked for and show it."""
    options = arguments()
    if len(SIDES) == 1:
        print("nothing to compare with: pip install -e '.[bench]'", file=sys.stderr)
    timings = {name: measure(name, options.rounds) for name in options.only if name != "depth"}
    depth = time_depth(3) if "depth" in options.only else {}
    about = report.surroundings()
    tables = list(report.tables(timings, depth))
    markdown = "\n\n".join([report.describe(about), *(each.as_markdown() for each in tables)])
    if options.markdown:
        print(markdown)
    else:
        print(report.describe(about))
        report.show(tables)
    if options.write:
        report.write_readme(markdown)
    if options.json:
        data = {
            "about": about,
            "workloads": {name: each.as_dict() for name, each in timings.items()},
            "depth": depth,
        }
        options.json.write_text(json.dumps(data, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
