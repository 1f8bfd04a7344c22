"""``python -m opgrad.new acme-ops``: write a package of operators to start from."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from opgrad.new import create

if TYPE_CHECKING:
    from collections.abc import Sequence

WRITTEN, NOT_WRITTEN = 0, 2

_NEXT = """\
{project} is written. Next, in a virtual environment:

    cd {project}
    python -m pip install -e ".[dev]"
    pytest
    python -m opgrad.check --distribution {project}

README.md tells how to add operators, and how to publish.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if the package is written, 2 if nothing is."""
    options = _parser().parse_args(arguments)
    try:
        folder = create(options.project, options.prefix)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"opgrad.new: {error}\n")
        return NOT_WRITTEN
    sys.stdout.write(_NEXT.format(project=folder))
    return WRITTEN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m opgrad.new",
        description="Write a package of operators for opgrad, whole and tested, to start from.",
        epilog="Exit code: 0 it is written, 2 it is not, and nothing has changed.",
    )
    add = parser.add_argument
    add("project", metavar="PROJECT", help="its name, and the new folder's, such as acme-ops")
    add("--prefix", help="what its operators' names begin with (default: the first word)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
