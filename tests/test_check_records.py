"""What `python -m opgrad.check` writes down, and what `python -m opgrad` tells of it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from planting import RIGHT_AND_WRONG

from opgrad import trust
from opgrad.__main__ import main as show_main
from opgrad.check.__main__ import main
from opgrad.showing import records, terminal

VERSION = importlib.metadata.version("opgrad")
SOURCE = RIGHT_AND_WRONG + "right, wrong = Right(), Wrong()\n"
OVERRIDE = """
from opgrad_plugins.elementwise import Tanh

class Other(Tanh):
    pass

tanh = Other()
"""
CHECK = ["--jobs", "0", "-q"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Name a folder, which is not there yet."""
    made = tmp_path / "here" / "verifications"
    monkeypatch.setenv("OPGRAD_VERIFICATIONS", str(made))
    return made


@pytest.fixture
def acme(site, folder):
    operators = {"acme.right": "acme_ops:right", "acme.wrong": "acme_ops:wrong"}
    site.install("acme-ops", "2.1", operators=operators, acme_ops=SOURCE)
    return site


@pytest.fixture
def told(capsys):
    """Return what ``show`` says of the verification of an operator: a line, and data."""

    def told(name):
        capsys.readouterr()
        show_main(["show", name])
        lines = capsys.readouterr().out.splitlines()
        (line,) = [each for each in lines if each.startswith("  verification  ")]
        show_main(["show", name, "--json"])
        return line[16:], json.loads(capsys.readouterr().out)["last_verification"]

    return told


def record(folder, name, distribution="acme-ops"):
    return json.loads((folder / f"{name}@{distribution}.json").read_text())


def today():
    return datetime.now(UTC).date().isoformat()


class TestARun:
    def test_is_recorded_for_each_operator(self, acme, folder):
        before = datetime.now(UTC).replace(microsecond=0)
        assert main(["acme.right", "acme.wrong", *CHECK]) == 1
        right, wrong = record(folder, "acme.right"), record(folder, "acme.wrong")
        assert (right["verdict"], wrong["verdict"]) == ("PASS", "FAIL")
        assert right["worst_error"] <= 1 < wrong["worst_error"]
        assert before <= datetime.fromisoformat(right.pop("date")) <= datetime.now(UTC)
        assert right.pop("questions") >= right.pop("probes") > 30
        assert right.pop("worst_error") > 0
        files = trust.Installed.of("acme-ops").files
        assert right == {
            "format": 1,
            "operator": "acme.right",
            "distribution": "acme-ops",
            "version": "2.1",
            "entry_point": "acme_ops:right",
            "sha256": trust.combined(files),
            "opgrad": VERSION,
            "numpy": np.__version__,
            "verdict": "PASS",
            "speed": None,
        }
        assert sorted(each.name for each in folder.iterdir()) == [
            "acme.right@acme-ops.json",
            "acme.wrong@acme-ops.json",
        ]

    def test_takes_the_place_of_the_one_before(self, acme, folder):
        assert main(["acme.right", *CHECK]) == 0
        (acme.path / "acme_ops.py").write_text(SOURCE.replace("right, wrong", "wrong, right"))
        del sys.modules["acme_ops"]
        acme.refresh()
        assert main(["acme.right", *CHECK]) == 1
        assert record(folder, "acme.right")["verdict"] == "FAIL"

    @pytest.mark.parametrize("some", [["--probe", "sizes"], ["--skip-probe", "sizes"]])
    def test_of_some_probes_says_nothing_of_the_others_and_is_not_recorded(
        self, acme, folder, some
    ):
        assert main(["acme.right", *CHECK, *some]) == 0
        assert not folder.exists()

    def test_of_an_override_has_its_speed_and_one_of_its_base_has_none(self, site, folder):
        site.install("quick-ops", overrides={"tanh": "quick:tanh"}, quick=OVERRIDE)
        assert main(["tanh", *CHECK]) == 0
        assert record(folder, "tanh", "quick-ops")["speed"] > 0
        assert record(folder, "tanh", "opgrad")["speed"] is None

    def test_records_what_cannot_even_be_loaded(self, site, folder):
        site.install("acme-ops", operators={"acme.right": "acme_ops:right"}, acme_ops="1 / 0")
        assert main(["acme.right", *CHECK]) == 1
        found = record(folder, "acme.right")
        assert (found["verdict"], found["probes"], found["worst_error"]) == ("FAIL", 0, None)

    def test_is_recorded_nowhere_if_the_variable_is_empty(self, acme, tmp_path, monkeypatch):
        monkeypatch.setenv("OPGRAD_VERIFICATIONS", "")
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        assert main(["acme.right", *CHECK]) == 0
        assert not (tmp_path / "share").exists()

    def test_is_recorded_in_the_environment_by_default(self, acme, tmp_path, monkeypatch):
        monkeypatch.delenv("OPGRAD_VERIFICATIONS")
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        assert main(["acme.right", *CHECK]) == 0
        place = tmp_path / "share" / "opgrad" / "verifications"
        assert record(place, "acme.right")["verdict"] == "PASS"

    def test_goes_on_where_nothing_can_be_written_and_says_so_once(self, acme, folder, capsys):
        folder.parent.mkdir()
        folder.write_text("a file")
        assert main(["acme.right", "acme.wrong", *CHECK]) == 1
        said = capsys.readouterr().err
        assert said.startswith("opgrad.check: the verification is not recorded: ")
        assert str(folder) in said
        assert "Name a folder in OPGRAD_VERIFICATIONS" in said
        assert said.count("\n") == 1

    def test_is_no_attestation(self, acme, folder, monkeypatch):
        assert main(["acme.right", *CHECK]) == 0
        trust.forget()
        monkeypatch.setenv("OPGRAD_REQUIRE_VERIFIED", "1")
        monkeypatch.setenv("OPGRAD_ATTESTATIONS", str(folder))
        reason = trust.complaint("acme-ops", "acme.right", "acme_ops:right")
        assert "there is no attestation" in reason


class TestShow:
    def test_tells_when_it_passed_and_that_nothing_has_changed_since(self, acme, folder, told):
        assert told("acme.right") == ("never verified here", None)
        main(["acme.right", "acme.wrong", *CHECK])
        found = record(folder, "acme.right")
        asked = f"({found['probes']} probes, {found['questions']} questions)"
        line, data = told("acme.right")
        assert line == f"passed on {found['date'][:10]} {asked}, files unchanged since"
        assert found.pop("format") == 1
        assert data == {**found, "unchanged": True}
        assert told("acme.wrong")[0].startswith(f"failed on {today()[:8]}")

    def test_tells_that_files_have_changed_since(self, acme, told):
        main(["acme.right", *CHECK])
        with (acme.path / "acme_ops.py").open("a") as module:
            module.write("# changed\n")
        line, data = told("acme.right")
        assert line.endswith(", but its files have changed since")
        assert data["unchanged"] is False

    def test_tells_with_which_versions_that_was_where_there_are_others_now(
        self, acme, folder, told
    ):
        main(["acme.right", *CHECK])
        file = folder / "acme.right@acme-ops.json"
        then = {**json.loads(file.read_text()), "numpy": "1.0", "opgrad": "0.0.1"}
        file.write_text(json.dumps(then))
        assert told("acme.right")[0].endswith("; that was with opgrad 0.0.1 and numpy 1.0")

    def test_tells_how_fast_an_override_was_and_of_its_base_by_its_name(self, site, folder, told):
        site.install("quick-ops", overrides={"tanh": "quick:tanh"}, quick=OVERRIDE)
        main(["tanh", *CHECK])
        speed = record(folder, "tanh", "quick-ops")["speed"]
        line, data = told("tanh")
        assert f", {speed:.2g} times as fast as its base, files unchanged since" in line
        assert data["speed"] == speed
        line, data = told("tanh@opgrad")
        assert "times as fast" not in line
        assert (data["distribution"], data["verdict"]) == ("opgrad", "PASS")

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("{", "Expecting property name"),
            ("[]", "it is no object"),
            ('{"format": 2}', "its format is 2, this opgrad knows 1"),
            ('{"format": 1}', "its 'operator' is 'missing'"),
            ({"questions": "many"}, "its 'questions' is 'many'"),
            ({"verdict": "FINE"}, "its 'verdict' is 'FINE', expected one of"),
            ({"operator": "acme.wrong"}, "it is about acme.wrong of acme-ops"),
        ],
    )
    def test_takes_a_broken_record_for_none_and_says_so(self, acme, folder, told, content, why):
        main(["acme.right", *CHECK])
        file = folder / "acme.right@acme-ops.json"
        if isinstance(content, dict):
            content = json.dumps({**json.loads(file.read_text()), **content})
        file.write_text(content)
        line, data = told("acme.right")
        assert line.startswith(
            f"never verified here, as far as can be told: the record {file} cannot be read: "
        )
        assert why in line
        assert data is None


class TestTheListing:
    @pytest.fixture
    def quick(self, site, folder, monkeypatch):
        monkeypatch.setattr(terminal, "has_rich", lambda: False)
        site.install("quick-ops", overrides={"tanh": "quick:tanh"}, quick=OVERRIDE)
        return site

    @pytest.fixture
    def listed(self, capsys):
        def listed():
            capsys.readouterr()
            assert show_main(["tanh", "exp"]) == 0
            table, said = capsys.readouterr()
            assert show_main(["tanh", "exp", "--json"]) == 0
            lines = json.loads(capsys.readouterr().out)["operators"]
            return table, {each["distribution"]: each["speed"] for each in lines}, said

        return listed

    def test_has_the_speed_of_an_override_once_it_was_measured(self, quick, folder, listed):
        table, speeds, _ = listed()
        assert "speed" not in table
        assert speeds == {"opgrad": None, "quick-ops": None}
        main(["tanh", *CHECK])
        speed = record(folder, "tanh", "quick-ops")["speed"]
        table, speeds, _ = listed()
        assert speeds == {"opgrad": None, "quick-ops": speed}
        heads, _rule, exp, base, override, _ = table.splitlines()
        assert heads.endswith("  speed")
        assert override.endswith(f"  {speed:.2g}x")
        assert not exp.endswith("x")
        assert not base.endswith("x")

    def test_has_none_of_files_that_have_changed_since(self, quick, listed):
        main(["tanh", *CHECK])
        with (quick.path / "quick.py").open("a") as module:
            module.write("# changed\n")
        table, speeds, _ = listed()
        assert "speed" not in table
        assert speeds["quick-ops"] is None

    def test_takes_a_broken_record_for_none_and_says_so(self, quick, folder, listed):
        folder.mkdir(parents=True)
        (folder / "tanh@quick-ops.json").write_text("{")
        table, speeds, said = listed()
        assert "speed" not in table
        assert speeds["quick-ops"] is None
        assert said.startswith(f"opgrad: the record {folder / 'tanh@quick-ops.json'} cannot be")
        assert said.count("\n") == 1


def test_a_name_that_is_no_name_of_a_file_is_one_in_the_folder(folder):
    path = records._path("../acme/a b", "Acme_Ops")
    assert path.parent == folder
    assert path.name == "..%2Facme%2Fa%20b@acme-ops.json"


def test_the_tests_themselves_leave_the_environment_alone():
    place = Path(os.environ["OPGRAD_VERIFICATIONS"])
    assert Path(sys.prefix) not in place.parents
