"""The pytest plugin: each probe of an operator as a test of its own.

It comes with opgrad and needs no set-up. For operators that are installed, there is an option ::

    pytest --opgrad=acme.softplus       # repeat it for several; patterns: --opgrad="acme.*"

which runs these tests alone, or beside those of the files that are named. For an operator that is
not (yet) registered, there is a class of tests to put into a test file::

    from acme_ops import softplus
    from opgrad_pytest import OperatorTests

    class TestSoftplus(OperatorTests, operator=softplus):
        pass

This module stands outside the package, and imports it when it is used, so that pytest starts no
slower for anybody else.
"""

from __future__ import annotations

import fnmatch
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opgrad import Operator


class OperatorTests:
    """Tests of one operator; see the module for how to use it.

    Parameters
    ----------
    operator : Operator or str
        The operator, registered or not, or the name of a registered one.
    """

    operator: ClassVar[Operator | str]

    def __init_subclass__(cls, operator: Operator | str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if operator is not None:
            cls.operator = operator

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test for each probe."""
        if "probe" in metafunc.fixturenames:
            metafunc.parametrize("probe", _questions(self.operator))

    def test_probe(self, probe: str) -> None:
        """Ask one probe about every case."""
        _ask(self.operator, probe)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("opgrad").addoption(
        "--opgrad",
        action="append",
        default=[],
        metavar="NAME",
        help="verify this operator (or those of a pattern, as in 'acme.*'), a test for each probe",
    )


def pytest_configure(config: pytest.Config) -> None:
    """See that the operators exist; without paths, run their tests alone."""
    _names(config)
    if config.option.opgrad and config.args_source is not config.ArgsSource.ARGS:
        config.args = []


@pytest.hookimpl(tryfirst=True)  # before others select among the tests
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Add a test for each operator and probe."""
    for name in _names(session.config):
        operator = _OperatorCollector.from_parent(session, name=name, nodeid=f"opgrad::{name}")
        report = session.ihook.pytest_make_collect_report(collector=operator)
        session.ihook.pytest_collectreport(report=report)  # so that they are counted
        items.extend(report.result)


class _OperatorCollector(pytest.Collector):
    def collect(self) -> Iterator[pytest.Item]:
        for probe in _questions(self.name):
            yield _ProbeItem.from_parent(self, name=probe)


class _ProbeItem(pytest.Item):
    def runtest(self) -> None:
        assert self.parent is not None
        _ask(self.parent.name, self.name)

    def reportinfo(self) -> tuple[Any, None, str]:
        return self.path, None, self.nodeid


def _names(config: pytest.Config) -> list[str]:
    """Return the names of the operators asked for."""
    if not config.option.opgrad:
        return []
    from opgrad.registry import RegistryError, UnknownOperatorError, registry

    found: dict[str, None] = {}
    for pattern in config.option.opgrad:
        names = fnmatch.filter(registry.names(), pattern)
        try:
            found.update(dict.fromkeys(names or [registry.entry(pattern).name]))
        except (UnknownOperatorError, RegistryError) as error:
            msg = f"--opgrad={pattern}: {error}"
            raise pytest.UsageError(msg) from error
    return list(found)


#: The test that stands for all others of an operator that cannot be loaded.
_LOAD = "load"


def _questions(operator: Operator | str) -> list[str]:
    """Return the names of an operator's tests: one for each probe, if it can be loaded."""
    from opgrad.check.verifying import chosen_probes

    usable, complaint = _loading(operator) if isinstance(operator, str) else (True, "")
    return [_LOAD] * bool(complaint) + list(chosen_probes()) * usable


@cache
def _loading(name: str) -> tuple[bool, str]:
    """Tell whether an operator can be loaded, and what is wrong with that."""
    from opgrad.check.verifying import loaded
    from opgrad.registry import RegistryError

    try:
        _, report = loaded(name)
    except RegistryError as error:
        return False, str(error)
    return True, "\n\n".join(each.explain() for each in report.findings)


def _ask(operator: Operator | str, probe: str) -> None:
    """Ask one probe; fail with what it found, or skip with the reason for its silence."""
    __tracebackhide__ = True
    if probe == _LOAD:
        assert isinstance(operator, str)
        pytest.fail(_loading(operator)[1], pytrace=False)
    from opgrad.check import Status, verify

    findings = verify(operator, only=[probe]).findings
    against = [each.explain() for each in findings if each.counts_against]
    if against:
        pytest.fail("\n\n".join(against), pytrace=False)
    if all(each.status is Status.SKIP for each in findings):
        pytest.skip(findings[0].message if findings else "it has no question for these cases")
