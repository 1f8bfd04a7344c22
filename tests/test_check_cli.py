"""``python -m opgrad.check``: what it takes, what it prints and writes, what nothing can stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from planting import RIGHT_AND_WRONG

import opgrad
from opgrad import requirements
from opgrad.check import Finding, Report, Status, junit, listing, verify
from opgrad.check import page as page_module
from opgrad.check.__main__ import main
from opgrad.check.curves import add_curve
from opgrad.showing import terminal

FIRST = ["--probe", "first_order"]
OPERATORS = {
    f"acme.{name}": f"acme_ops:{name}"
    for name in (
        "chatty",
        "crashes",
        "exits",
        "hangs",
        "hangs_hard",
        "right",
        "wrong",
        "wrong_type",
    )
}
SOURCE = RIGHT_AND_WRONG + textwrap.dedent("""
    import collections
    import itertools
    import os
    import sys

    class Chatty(Right):
        @hookimpl
        def forward(self, x, /):
            print("hello")
            return x * x

    class WrongType(Right):
        @hookimpl
        def forward(self, x, /):
            return "a square"

    class Hangs(Right):
        @hookimpl
        def backward(self, grad, x):
            if "ACME_HANGS" in os.environ:
                open(os.environ["ACME_HANGS"], "x").close()
            while True:
                pass

    class HangsHard(Right):
        '''Hangs in C, where no alarm is ever heard.'''

        @hookimpl
        def backward(self, grad, x):
            collections.deque(itertools.repeat(0), maxlen=0)

    class Crashes(Right):
        @hookimpl
        def backward(self, grad, x):
            os._exit(3)

    class Exits(Right):
        @hookimpl
        def backward(self, grad, x):
            sys.exit("enough")

    chatty, crashes, exits, hangs, hangs_hard = Chatty(), Crashes(), Exits(), Hangs(), HangsHard()
    right, wrong, wrong_type = Right(), Wrong(), WrongType()
""")


@pytest.fixture
def acme(site):
    site.install("acme-ops", "2.1", operators=OPERATORS, acme_ops=SOURCE)
    return site


def findings(path):
    """Return, from the file of --json, what counts against each operator."""
    return {
        report["operator"]: [each for each in report["findings"] if each["status"] == "FAIL"]
        for report in json.loads(path.read_text())["reports"]
    }


# ---------------------------------------------------------------- which operators, which probes


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--distribution", "acme-ops"], sorted(OPERATORS)),
        (["--family", "acme_ops"], sorted(OPERATORS)),
        (["--family", "loss"], ["binary_cross_entropy_with_logits"]),
        (
            ["--family", "loss", "--family", "linalg"],
            ["binary_cross_entropy_with_logits", "matmul"],
        ),
        (["exp", "mul", "--family", "arithmetic"], ["mul"]),
        (["exp", "add", "exp"], ["add", "exp"]),
    ],
    ids=" ".join,
)
def test_operators_are_chosen_by_name_family_and_distribution(acme, arguments, expected, capsys):
    assert main([*arguments, "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if "opgrad 0." in line or ":" in line]
    assert listed == expected


def test_it_is_told_whose_requirements_nobody_compares(acme, monkeypatch, capsys):
    acme.install("greedy", operators={"greedy.x": "greedy:x"}, requires=("opgrad>=99",))
    monkeypatch.setattr(requirements, "readable", lambda: False)
    assert main(["acme.right", "-q", "--jobs", "0"]) == 0
    assert "compared" not in capsys.readouterr().err
    assert main(["acme.right", "greedy.x", "-q", "--jobs", "0"]) == 1
    remark = "greedy: opgrad>=99 is not compared with what is installed"
    assert f"opgrad.check: {remark}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mull"], "did you mean 'mul'"),
        (["--family", "arithmetics"], "no operator here is of family 'arithmetics'; there are"),
        (["--distribution", "acme"], "no operator here is of distribution 'acme'; there are"),
        (["--probe", "first"], "no probe is called 'first'; there are first_order"),
        (["--skip-probe", "first"], "no probe is called 'first'; there are first_order"),
    ],
    ids=" ".join,
)
def test_what_does_not_exist_could_not_run_and_says_what_there_is(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["acme-ops", "Acme_Ops", "ACME.ops"])
def test_a_distribution_is_found_however_its_name_is_spelled(acme, spelling, capsys):
    assert main(["--distribution", spelling, "--list"]) == 0
    assert "acme.right" in capsys.readouterr().out
    assert main(["--distribution", "acme-ops", "--disable", spelling, "--list"]) == 2
    assert "no operator here is of distribution 'acme-ops'" in capsys.readouterr().err


#: Modules whose source does not tell which hooks there are.
UNREADABLE = {
    "is no Python": b"def (",
    "is no UTF-8": b"# \xe9\nx = 1\n",
    "has a NUL byte": b"x = 1\0",
    "is nested too deeply": b"x = " + b"-" * 100_000 + b"1",
    "has its own base": b"class B(B): pass\nx = B()\n",
    "imports itself": b"from acme_odd import B\nx = B()\n",
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_a_source_that_cannot_be_read_stops_nothing(site, content, capsys):
    site.install("acme-odd", operators={"odd.x": "acme_odd:x"})
    (site.path / "acme_odd.py").write_bytes(content)
    listing._source.cache_clear()
    assert hooks("odd.x", capsys) == []
    assert main(["exp", "--probe", "first_order", "--jobs", "0", "-q"]) == 0


def hooks(name, capsys):
    """Return the hooks that --list tells of an operator."""
    assert main(["--list", name]) == 0
    line = next(each for each in capsys.readouterr().out.splitlines() if name in each)
    return re.findall(r"\w+", line.split(":")[1])[1:]


RIGHT_HOOKS = ["backward", "forward", "self_check"]


def test_a_source_is_read_in_its_own_encoding(site, capsys):
    source = f"# coding: latin-1\n# \xe9\n'\\d'\n{RIGHT_AND_WRONG}\nx = Right()\n"
    site.install("acme-latin", operators={"latin.x": "acme_latin:x"})
    (site.path / "acme_latin.py").write_bytes(source.encode("latin-1"))
    assert hooks("latin.x", capsys) == RIGHT_HOOKS


def test_operators_below_nested_namespaces_are_listed(site, capsys):
    site.install("nested", operators={"nested.x": "nested_a.b.c:x"})
    (site.path / "nested_a" / "b").mkdir(parents=True)
    (site.path / "nested_a" / "b" / "c.py").write_text(f"{RIGHT_AND_WRONG}\nx = Right()\n")
    assert hooks("nested.x", capsys) == RIGHT_HOOKS
    assert "nested_a" not in sys.modules


def test_a_plugin_in_a_zip_file_is_listed_and_stops_nothing(site, monkeypatch, capsys):
    site.install("zipped", operators={"zipped.x": "zipped:x"}, zipped=RIGHT_AND_WRONG)
    packed = site.path.parent / "packed.zip"
    with zipfile.ZipFile(packed, "w") as file:
        for each in site.path.rglob("*"):
            file.write(each, each.relative_to(site.path))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(packed), *(e for e in sys.path if e != str(site.path))])
        site.refresh()
        assert hooks("zipped.x", capsys) == []
        assert main(["exp", "--probe", "first_order", "--jobs", "0", "-q"]) == 0


@pytest.mark.parametrize(
    "arguments", [["--jobs", "-1"], ["--cases", "0"], ["--cases", "two"], ["--time-limit", "0"]]
)
def test_impossible_numbers_could_not_run(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_probes_are_listed_with_what_they_find(capsys):
    assert main(["--list-probes"]) == 0
    printed = capsys.readouterr().out
    assert "first_order" in printed
    assert "Find that the backward is not the derivative of the forward." in printed


def test_probes_can_be_chosen_and_skipped(tmp_path):
    file = tmp_path / "findings.json"

    def asked(*arguments):
        assert main(["exp", "--jobs", "0", "--json", str(file), *arguments]) == 0
        return {each["probe"] for each in json.loads(file.read_text())["reports"][0]["findings"]}

    both = ["--probe", "first_order", "--probe", "second_order"]
    assert asked("--probe", "first_order") == {"first_order"}
    assert asked(*both) == {"first_order", "second_order"}
    assert asked(*both, "--skip-probe", "first_order") == {"second_order"}


def test_more_cases_are_other_cases(tmp_path):
    file = tmp_path / "findings.json"
    main(["exp", "--probe", "first_order", "--cases", "3", "--jobs", "0", "--json", str(file)])
    found = json.loads(file.read_text())["reports"][0]["findings"]
    assert {each["seed"] for each in found} == {0, 1, 2}
    assert len({each["analytic"] for each in found}) == len(found)


# ---------------------------------------------------------------- what it prints


def test_a_failure_says_everything(acme, capsys):
    assert main(["acme.wrong", "--jobs", "0", "--probe", "first_order"]) == 1
    printed = capsys.readouterr().out
    assert "acme.wrong: FAIL: first_order\n" in printed
    for line in (
        "  input         x\n",
        "  case          Case(float64 (2, 3))\n",
        "  problem       for d output[1, 2] / d x[1, 2] the backward gives -",
        "  element       d output[1, 2] / d x[1, 2]\n",
        "  likely cause  the sign is wrong\n",
        "  reproducer    from opgrad.check import verify\n",
    ):
        assert line in printed
    assert "  and 1 more like it, of first_order; -v shows them\n" in printed
    assert "0 of 1 operators passed" in printed


@pytest.mark.parametrize("registered", [True, False], ids=["registered", "never registered"])
def test_the_two_lines_of_the_reproducer_find_the_same_again(acme, registered, capsys):
    import acme_ops

    report = verify("acme.wrong" if registered else acme_ops.Wrong(), only=["first_order"])
    failure = next(each for each in report.findings if each.counts_against)
    assert failure.reproducer.count("\n") == 1
    exec(failure.reproducer, {})
    assert str(failure) in capsys.readouterr().out.splitlines()


def test_quiet_prints_one_line_if_all_is_well_and_verbose_every_finding(capsys):
    main(["exp", "--jobs", "0", "-q", *FIRST])
    assert capsys.readouterr().out.count("\n") == 1
    main(["exp", "--jobs", "0", "-v", *FIRST])
    assert capsys.readouterr().out.count("exp: PASS: first_order on Case(") == 3


def test_durations_name_the_slowest(capsys):
    main(["exp", "mul", "--jobs", "0", "-q", "--durations", "1", *FIRST])
    rows = [line.split()[:1] for line in capsys.readouterr().out.splitlines()]
    assert ["all"] in rows
    assert (["exp"] in rows) != (["mul"] in rows)


def test_fail_fast_ends_with_the_first_failure(acme, tmp_path):
    file = tmp_path / "findings.json"
    names = ["acme.right", "acme.wrong", "acme.crashes"]
    assert main([*names, "--jobs", "0", *FIRST, "--fail-fast", "--json", str(file)]) == 1
    found = findings(file)
    assert list(found) == ["acme.right", "acme.wrong"]
    assert len(found["acme.wrong"]) == 1


def test_a_broken_plugin_with_probes_is_complained_about_and_left_out(acme):
    acme.install("acme-probes", "2.1", probes={"acme": "no_such_module"})
    done = subprocess.run(
        [sys.executable, "-m", "opgrad.check", "exp", "--jobs", "0", *FIRST],
        env={**os.environ, "PYTHONPATH": str(acme.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "opgrad.probes 'acme' of acme-probes 2.1" in done.stderr
    assert "no_such_module" in done.stderr


# ---------------------------------------------------------------- bad operators, and many


def test_whatever_an_operator_does_is_a_finding_against_it_and_the_others_go_on(acme, tmp_path):
    file = tmp_path / "findings.json"
    arguments = ["--distribution", "acme-ops", "--jobs", "2", "--time-limit", "2", *FIRST]
    assert main([*arguments, "--json", str(file)]) == 1
    found = findings(file)
    assert list(found) == sorted(OPERATORS)
    assert found["acme.right"] == []

    def said(name):
        return " ".join(each["message"] for each in found[f"acme.{name}"])

    assert "it prints, first of all 'hello'" in said("chatty")
    assert "it crashed the process" in said("crashes")
    assert "it raises SystemExit: enough" in said("exits")
    assert "it took longer than the time limit of 2 s" in said("hangs")
    assert "hung for more than 2 s where no alarm reaches it" in said("hangs_hard")
    assert "the backward gives -" in said("wrong")
    assert "a square" in said("wrong_type") or "str" in said("wrong_type")


def test_in_this_process_the_alarm_rings_too_and_names_the_probe(acme):
    report = verify("acme.hangs", limit=0.5)
    *_, hung, stopped = report.findings
    assert (hung.probe, hung.case) == ("first_order", "Case(float64 (2, 3))")
    assert "TimeoutError: it took longer than the time limit of 0.5 s" in hung.message
    assert stopped.message == "stopped at its time limit of 0.5 s"
    assert report.status is Status.FAIL


def test_where_no_alarm_can_ring_time_is_up_after_the_next_probe(acme):
    with ThreadPoolExecutor() as threads:
        report = threads.submit(verify, "acme.right", limit=1e-9).result()
    first, stopped = report.findings
    assert first.status is Status.PASS
    assert stopped.message == "stopped at its time limit of 1e-09 s"
    assert not report.passed


def test_an_operator_that_is_in_time_is_not_interrupted_later():
    before = signal.getsignal(signal.SIGALRM)
    assert verify("exp", limit=60, only=["first_order"]).passed
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize("jobs", ["0", "1", "3"])
def test_however_many_processes_results_are_the_same_in_the_order_of_names(jobs, tmp_path):
    file = tmp_path / "findings.json"
    names = ["tanh", "neg", "exp", "cos"]
    assert main([*names, "--probe", "first_order", "--jobs", jobs, "--json", str(file)]) == 0
    reports = json.loads(file.read_text())["reports"]
    assert [report["operator"] for report in reports] == names
    expected = [verify(name, only=["first_order"]).as_dict()["findings"] for name in names]
    assert [report["findings"] for report in reports] == expected


@pytest.mark.parametrize("jobs", ["0", "1"])
def test_ctrl_c_shows_what_was_done_so_far_and_exits_with_2(acme, jobs, tmp_path):
    file, hanging = tmp_path / "findings.json", tmp_path / "hanging"
    names = ["acme.right", "acme.wrong", "acme.hangs"]
    command = [sys.executable, "-m", "opgrad.check", *names, "--jobs", jobs, "--json", str(file)]
    with subprocess.Popen(
        [*command, "--probe", "first_order"],
        env={**os.environ, "PYTHONPATH": str(acme.path), "ACME_HANGS": str(hanging)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not hanging.exists() and process.poll() is None:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        printed, complaints = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "1 of 2 operators passed" in printed
    assert complaints == "opgrad.check: interrupted; 2 of 3 were done\n"
    assert list(findings(file)) == names[:2]


def test_a_name_that_is_claimed_twice_has_failed_and_the_others_go_on(acme, tmp_path):
    acme.install("acme-too", "9", operators={"acme.wrong": "acme_too:f"}, acme_too="f = 1")
    file = tmp_path / "findings.json"
    assert main(["acme.right", "acme.wrong", "exp", *FIRST, "--json", str(file)]) == 1
    found = findings(file)
    assert (found["acme.right"], found["exp"]) == ([], [])
    (clash,) = found["acme.wrong"]
    assert clash["probe"] == "load"
    assert "acme-ops 2.1" in clash["message"]
    assert "acme-too 9" in clash["message"]


@pytest.mark.parametrize("names", [["exp", "mull"], ["exp", "mul", "--disable", "mul"]])
def test_a_name_that_is_unknown_or_blocked_could_not_run(names, capsys):
    assert main([*names, "--jobs", "0", *FIRST]) == 2
    printed, said = capsys.readouterr()
    assert printed == ""
    assert "'mul'" in said


def test_what_is_written_past_sys_stdout_does_not_reach_the_terminal(site, tmp_path):
    source = RIGHT_AND_WRONG + textwrap.dedent("""
        import os

        class Loud(Right):
            @hookimpl
            def backward(self, grad, x):
                os.write(1, b"hello from C")
                return grad * 2 * x

        os.write(1, b"welcome")
        loud = Loud()
    """)
    site.install("loud-ops", operators={"loud.right": "loud_ops:loud"}, loud_ops=source)
    file = tmp_path / "findings.json"
    done = subprocess.run(
        [sys.executable, "-m", "opgrad.check", "loud.right", "-q", "--json", str(file), *FIRST],
        env={**os.environ, "PYTHONPATH": str(site.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "welcome" not in done.stdout
    assert "hello" not in done.stdout
    by = "standard output (by writing to it past sys.stdout)"
    assert [(each["probe"], each["message"]) for each in findings(file)["loud.right"]] == [
        ("load", f"when it is imported, it changes {by}"),
        *[("first_order", f"it changes {by}, for whoever comes after it")] * 2,
    ]


def test_nobody_has_to_read_it_to_the_end():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "opgrad.check", "--list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


# ---------------------------------------------------------------- how far off, and where

ERRORS = ["--jobs", "0", "--probe", "first_order"]


class TestTheWorstErrorIsInUnitsOfWhatIsAllowed:
    def test_in_reports_and_their_json(self, acme, tmp_path):
        file = tmp_path / "findings.json"
        main(["acme.right", "acme.wrong", *ERRORS, "--json", str(file)])
        right, wrong = json.loads(file.read_text())["reports"]
        assert right["worst_error"] == max(each["worst_error"] for each in right["findings"]) <= 1
        assert wrong["worst_error"] == max(each["worst_error"] for each in wrong["findings"]) > 1
        # Both derivatives are of the same size and opposite, so that nearly all of it is the sign.
        assert wrong["worst_error"] == pytest.approx(2 / 1e-8, rel=1e-2)
        assert wrong["findings"][0]["flat"] == [5, 5]

    def test_for_tiny_derivatives_too(self):
        class Bell(opgrad.Operator):
            """Its derivatives are next to nothing where it is far from its middle."""

            @opgrad.hookimpl
            def forward(self, x, /, *, xp):
                return xp.exp(-x * x / 2)

            @opgrad.hookimpl
            def backward(self, grad, x, out):
                return -grad * out * x

            @opgrad.hookimpl
            def self_check(self, rng):
                yield opgrad.Case(rng.normal(size=(3, 4)))

        report = verify(Bell())
        assert report.passed
        assert 0 < report.worst_error <= 1

    def test_and_blank_where_nothing_was_compared(self, acme, monkeypatch, capsys):
        monkeypatch.setattr(terminal, "has_rich", lambda: False)
        assert main(["acme.wrong_type", *ERRORS]) == 1
        heads, _, row, *_ = capsys.readouterr().out.splitlines()
        assert row[heads.index("error/allowed") :][:13].strip() == ""
        assert verify("acme.wrong_type", only=["first_order"]).worst_error is None

    def test_in_the_page_for_people(self, acme, tmp_path):
        file = tmp_path / "page.html"
        main(["acme.right", *ERRORS, "--html", str(file)])
        words = Document(file.read_text()).words
        assert words.count("worst error / allowed") == 3

    def test_and_json_has_no_number_that_is_not_finite(self, site, tmp_path):
        source = RIGHT_AND_WRONG.replace("-2 * grad * x", "grad * (x - x) / (x - x)")
        source += "wrong = Wrong()"
        site.install("acme-ops", operators={"acme.nan": "acme_ops:wrong"}, acme_ops=source)
        file = tmp_path / "findings.json"
        assert main(["acme.nan", *ERRORS, "--json", str(file)]) == 1
        (report,) = json.loads(file.read_text(), parse_constant=pytest.fail)["reports"]
        assert report["findings"][0]["analytic"] is None
        assert "the backward gives nan" in report["findings"][0]["message"]


# ---------------------------------------------------------------- files


def test_junit_has_a_suite_for_each_operator_and_a_case_for_each_probe(acme, tmp_path):
    file = tmp_path / "junit.xml"
    assert main(["acme.right", "acme.wrong", "--jobs", "0", *FIRST, "--junit", str(file)]) == 1
    right, wrong = ET.parse(file).getroot()
    assert (right.get("name"), right.get("failures")) == ("acme.right", "0")
    assert int(wrong.get("failures")) == len(wrong.findall("testcase/failure")) > 0
    for suite in (right, wrong):
        cases = suite.findall("testcase")
        assert int(suite.get("tests")) == len(cases)
        assert cases[0].attrib.keys() == {"classname", "name", "time"}
    errors = [float(each.find("properties/property").get("value")) for each in (right, wrong)]
    assert errors[0] < 1 < errors[1]
    failure = wrong.find("testcase[@name='first_order']/failure")
    assert failure.get("message").startswith("for d output[1, 2] / d x[1, 2] the backward gives -")
    assert "likely cause  the sign is wrong" in failure.text


def test_junit_stays_xml_whatever_an_operator_says(tmp_path):
    report = Report("odd", findings=[Finding(Status.FAIL, "a\x00b\x1b<&>", probe="p")])
    case = ET.fromstring(junit.render([report])).find("testsuite/testcase/failure")
    assert case.get("message") == "a?b?<&>"


class Document(HTMLParser):
    """Knows what is in a page, and that every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.links, self.words = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_holds_results_failures_and_curves_and_needs_nothing_else(acme, tmp_path):
    file = tmp_path / "page.html"
    main(["acme.right", "acme.wrong", "--jobs", "0", *FIRST, "--html", str(file)])
    text = file.read_text()
    page = Document(text)
    assert page.links == ["#acme.right", "#acme.wrong"]
    assert "@import" not in text
    assert "url(" not in text
    assert (page.seen.count("details"), page.seen.count("polyline")) == (3, 2)
    words = " ".join(page.words)
    for each in ("1 of 2", "first_order", "likely cause  the sign is wrong", "1 more like it"):
        assert each in words


def test_whatever_an_operator_says_stays_text_in_the_page():
    finding = Finding(Status.FAIL, "<script>alert(1)</script> & more", probe="<b>")
    page = Document(page_module.render([Report("<i>", findings=[finding])]))
    assert not {"script", "i"} & set(page.seen)
    assert "<script>alert(1)</script> & more" in " ".join(page.words)


def test_the_curve_is_the_error_of_central_differences(acme):
    from opgrad import ops

    for name, floor in (("right", 0.0), ("wrong", 2.0)):
        report = verify(f"acme.{name}", only=["first_order"])
        add_curve(report, getattr(ops.acme, name))
        steps, errors = np.array(report.curve).T
        assert steps[0] / steps[-1] > 1e12
        # Of a square they have no truncation error, only rounding.
        wide = steps > 1e-6
        np.testing.assert_allclose(errors[wide], floor, atol=1e-9)
        assert errors[steps < 1e-12].max() > 1e-6


def test_the_curve_of_a_smooth_function_falls_with_the_square_of_the_step():
    from opgrad import ops

    report = verify("exp", only=["first_order"])
    add_curve(report, ops.exp)
    (wide, first), (narrow, second) = report.curve[:2]
    assert wide == 2 * narrow
    assert first / second == pytest.approx(4, rel=1e-2)
