"""What `python -m opgrad.check` says of overrides: the base as well, and how the two compare."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from opgrad import Case, Operator, hookimpl
from opgrad.check import verify
from opgrad.check.overriding import same_as_base, speed
from opgrad.registry import RegistryError, registry

#: A module with an operator ``matmul`` that inherits all but what `body` says.
FAST = """
import numpy as np
import time
from opgrad import hookimpl
from opgrad_plugins.linalg import Matmul

class FastMatmul(Matmul):
{body}

matmul = FastMatmul()
"""

TRANSPOSED = """
    @hookimpl
    def forward(self, a, b, /, *, xp):
        if min(a.ndim, b.ndim) < 2:
            return xp.matmul(a, b)
        return xp.matmul(b.swapaxes(-1, -2), a.swapaxes(-1, -2)).swapaxes(-1, -2).copy()
"""


def fast(body="    pass"):
    return FAST.format(body=body)


@pytest.fixture
def install(site):
    def install(source):
        site.install("fast-ops", "3.1", overrides={"matmul": "fast_ops:matmul"}, fast_ops=source)
        return site

    return install


def check(site, tmp_path, *arguments):
    file = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "opgrad.check", *arguments, "--json", str(file)],
        env={**os.environ, "PYTHONPATH": str(site.path), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, json.loads(file.read_text())["reports"]


class TestTheCommand:
    def test_verifies_the_base_as_well_and_tells_how_fast_the_override_is(self, install, tmp_path):
        done, reports = check(install(fast()), tmp_path, "matmul")
        assert done.returncode == 0
        assert [(each["operator"], each["distribution"]) for each in reports] == [
            ("matmul", "fast-ops"),
            ("matmul@opgrad", "opgrad"),
        ]
        assert all(each["passed"] for each in reports)
        assert reports[0]["speed"] > 0
        assert reports[1]["speed"] is None
        assert "speed to base" in done.stdout

    def test_asks_the_base_by_its_name(self, install, tmp_path):
        _, reports = check(install(fast()), tmp_path, "matmul@opgrad")
        assert [each["operator"] for each in reports] == ["matmul@opgrad"]

    def test_verifies_the_base_of_a_distributions_override(self, install, tmp_path):
        _, reports = check(install(fast()), tmp_path, "--distribution", "fast-ops")
        assert [each["operator"] for each in reports] == ["matmul", "matmul@opgrad"]

    def test_verifies_the_base_alone_where_the_override_is_blocked(self, install, tmp_path):
        done, reports = check(install(fast()), tmp_path, "matmul", "--disable", "fast-ops")
        assert [(each["operator"], each["distribution"]) for each in reports] == [
            ("matmul", "opgrad")
        ]
        assert "speed to base" not in done.stdout

    def test_knows_no_base_where_nothing_is_overridden(self, site):
        with pytest.raises(RegistryError, match="'exp' of opgrad is not there, or is not over"):
            verify("exp@opgrad")


class TestAnOverride:
    def test_is_compared_with_its_base(self, install):
        install(fast(TRANSPOSED))
        report = verify("matmul")
        compared = [each for each in report.findings if each.probe == "same_as_base"]
        assert report.passed
        _, base = registry.base("matmul")
        assert len(compared) == len([*base.contract.hooks["self_check"](np.random.default_rng(0))])
        assert {each.status.name for each in compared} == {"PASS"}

    def test_is_compared_on_the_bases_cases_not_its_own(self, install):
        own = """
    @hookimpl
    def forward(self, a, b, /, *, xp):
        return xp.matmul(a, b) if a.ndim == 2 == b.ndim else 2 * xp.matmul(a, b)

    @hookimpl
    def self_check(self, rng):
        from opgrad import Case
        yield Case(rng.normal(size=(2, 3)), rng.normal(size=(3, 2)))
"""
        install(fast(own))
        failures = [each for each in verify("matmul").findings if each.counts_against]
        assert "same_as_base" in {each.probe for each in failures}

    def test_that_is_a_thousandth_part_off_is_found(self, install):
        body = """
    @hookimpl
    def forward(self, a, b, /, *, xp):
        return xp.matmul(a, b) * 1.001

    @hookimpl
    def backward_a(self, grad, a_shape, b): return 1.001 * super().backward_a(grad, a_shape, b)
    @hookimpl
    def backward_b(self, grad, a, b_shape): return 1.001 * super().backward_b(grad, a, b_shape)
"""
        install(fast(body))
        report = verify("matmul", only=["first_order"])
        against = {each.probe for each in report.findings if each.counts_against}
        assert against == {"same_as_base"}
        assert report.speed is None

    def test_that_prints_while_it_is_timed_is_found(self, install):
        body = """
    @hookimpl
    def forward(self, a, b, /, *, xp):
        import sys
        if any(frame.f_code.co_name == "_timed" for frame in _frames(sys._getframe())):
            print("hello")
        return xp.matmul(a, b)
"""
        frames = """
def _frames(frame):
    while frame:
        yield frame
        frame = frame.f_back
"""
        install(fast(body) + frames)
        report = verify("matmul", only=["first_order"])
        (finding,) = [each for each in report.findings if each.counts_against]
        assert (finding.probe, finding.message[:9]) == ("same_as_base", "it prints")


class Square(Operator):
    """The square."""

    @hookimpl
    def forward(self, x, /):
        return x * x

    @hookimpl
    def backward(self, grad, x):
        return 2 * grad * x

    @hookimpl
    def self_check(self, rng):
        yield Case(rng.normal(size=3))
        yield Case(rng.normal(size=3).astype("float32"))


def variant(**members):
    hooks = {name: hookimpl(each) for name, each in members.items()}
    return type("Variant", (Square,), hooks)()


def said(override):
    cases = Square().contract.hooks["self_check"](np.random.default_rng(0))
    found = (each for case in cases for each in same_as_base(Square(), override, case))
    return [each.message for each in found if each.counts_against]


class TestTheComparison:
    def test_finds_nothing_between_equals(self):
        assert said(variant(forward=lambda self, x, /, *, xp: xp.square(x))) == []

    @pytest.mark.parametrize(
        ("members", "found"),
        [
            ({"forward": lambda self, x, /: x * x + 1e-3}, "output 0, beside its base: at element"),
            ({"forward": lambda self, x, /: (x * x)[None]}, r"its shape is \(1, 3\), not \(3,\)"),
            ({"forward": lambda self, x, /: (x * x, x)}, "it gives 2 outputs, its base 1"),
            (
                {"forward": lambda self, x, /: (x * x).astype("float64")},
                "output 0 is float64, that of its base float32",
            ),
            (
                {"backward": lambda self, grad, x: 2.001 * grad * x},
                "the gradient, beside its base: at element",
            ),
        ],
    )
    def test_finds_what_differs(self, members, found):
        assert any(re.search(found, each) for each in said(variant(**members)))

    def test_finds_gradients_that_are_missing(self):
        class Constant(Square):
            differentiable = False

        assert "it has gradients for none, its base for x" in said(Constant())

    def test_of_speed_is_above_one_for_what_does_less(self):
        def slow(self, x, /):
            for _ in range(2000):
                x = x + 0.0
            return x * x

        assert speed(variant(forward=slow), Square()) > 1
        assert speed(Square(), variant(forward=slow)) < 1
