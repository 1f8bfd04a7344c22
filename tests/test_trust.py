"""Attestations: what is written, when it holds, and that strict mode refuses what has none.

Hashes are compared with those that `hashlib` gives for files that the tests write themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import py_compile
import re
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from planting import RIGHT_AND_WRONG

import opgrad
from conftest import Site
from opgrad import registry as registry_module
from opgrad import trust
from opgrad.check.__main__ import main
from opgrad.check.disabling import disabled
from opgrad.check.verifying import chosen_probes
from opgrad.fingerprint import GROUPS
from opgrad.registry import Registry, RegistryError
from opgrad.registry import registry as installed

DOCS = (Path(__file__).parents[1] / "docs" / "trust.md").read_text(encoding="utf-8")

#: A module that must not be imported.
TRAP = "raise AssertionError('imported')"

SOURCE = f"{RIGHT_AND_WRONG}\nright, other, wrong = Right(), Right(), Wrong()\n"
RIGHT = {"acme.right": "acme_ops:right"}
NEVER_HASHED = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def record(site, name="acme-ops", number="1.0", listed=()):
    """Write what an installer leaves beside a distribution's metadata."""
    info = f"{name.replace('-', '_')}-{number}.dist-info"
    for each in NEVER_HASHED[1:]:
        (site.path / info / each).write_text("{}")
    listed = [*listed, *(f"{info}/{each}" for each in ("METADATA", "entry_points.txt"))]
    own = [f"{info}/{each}" for each in NEVER_HASHED]
    lines = [f"{each},sha256=AAAA,1" for each in (*listed, *own)]  # hashes that are wrong
    (site.path / info / "RECORD").write_text("\n".join(lines) + "\n")
    site.refresh()
    trust.forget()
    return listed


def install_acme(site, operators=RIGHT, source=SOURCE, number="1.0", **more):
    """Install acme-ops as a wheel is."""
    site.install("acme-ops", number, operators=operators, acme_ops=source, **more)
    record(site, number=number, listed=["acme_ops.py"])
    return site


@pytest.fixture(autouse=True)
def nothing_remembered(site):
    """Each test sees its own folder alone."""
    trust.forget()
    yield
    trust.forget()


@pytest.fixture
def acme(site):
    return install_acme(site)


@pytest.fixture(scope="module")
def attested(tmp_path_factory):
    """The attestation of acme-ops 1.0, made by the command, as text; paths in it are relative."""
    folder = tmp_path_factory.mktemp("attested")
    site = install_acme(Site(folder))
    file = folder / "acme-ops.json"
    command = ["-m", "opgrad.check", "--distribution", "acme-ops", "--attest", str(file)]
    done = run(*command, site=site)
    assert (done.returncode, done.stderr) == (0, "")
    return file.read_text()


@pytest.fixture
def file(tmp_path, attested):
    """The attestation in a file."""
    path = tmp_path / "proofs" / "acme-ops.json"
    path.parent.mkdir()
    path.write_text(attested)
    return path


def tell(file, capsys):
    """Return the exit code and all the output of --verify-attestation."""
    trust.forget()
    code = main(["--verify-attestation", str(file)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def run(*arguments, site, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, "PYTHONPATH": str(site.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


# ------------------------------------------------------------------------------ what is hashed


def test_the_groups_are_those_of_the_registry():
    assert GROUPS == (registry_module.GROUP, registry_module.OVERRIDES)


def test_each_file_is_hashed_from_disk_whatever_the_record_says(acme):
    info = "acme_ops-1.0.dist-info"
    names = ["acme_ops.py", f"{info}/METADATA", f"{info}/entry_points.txt"]
    expected = {name: sha256(acme.path / name) for name in names}
    assert trust.Installed.of("acme-ops").files == expected


def test_one_hash_stands_for_all_and_is_what_sha256sum_gives(acme):
    files = trust.Installed.of("acme-ops").files
    lines = b"".join(f"{files[name]}  {name}\n".encode() for name in sorted(files))
    assert trust.combined(files) == hashlib.sha256(lines).hexdigest()


@pytest.mark.parametrize(
    "outside",
    ["../bin/acme", "../share/acme/table.npy", "__pycache__/acme_ops.cpython-311.pyc"],
)
def test_scripts_data_outside_and_what_python_compiled_are_not(site, outside):
    site.install("acme-ops", operators=RIGHT, acme_ops=TRAP)
    path = site.path / outside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/a/path/of/this/machine")
    record(site, listed=["acme_ops.py", outside])
    assert {*trust.Installed.of("acme-ops").files} == {
        "acme_ops.py",
        "acme_ops-1.0.dist-info/METADATA",
        "acme_ops-1.0.dist-info/entry_points.txt",
    }


def test_what_is_listed_and_not_there_is_left_out(site):
    site.install("acme-ops", operators=RIGHT, acme_ops=TRAP)
    record(site, listed=["acme_ops.py", "acme_gone.py"])
    assert "acme_gone.py" not in trust.Installed.of("acme-ops").files


def write_package(folder):
    """Write a package into a folder; return what of it counts, with the content."""
    files = {
        "acme/__init__.py": TRAP,
        "acme/ops.py": TRAP,
        "acme/deep/er/__init__.py": TRAP,
        "acme/deep/table.npy": "1 2 3",
        "acme/compiled.pyc": "without a source",
    }
    others = [
        "acme/ops.py~",
        "acme/#ops.py#",
        "acme/ops.swp",
        "acme/__pycache__/ops.f-7.py311.nbi",
        "acme/.ops.py.swp",
        "acme/.cache/x.py",
        "elsewhere.py",
    ]
    for name, content in (*files.items(), *((name, "") for name in others)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}


def code_of(found):
    """Return the files of a fingerprint but for the metadata's."""
    return {name: each for name, each in found.files.items() if ".dist-info/" not in name}


def test_of_an_editable_install_the_packages_of_its_operators_are(site, tmp_path, monkeypatch):
    expected = write_package(tmp_path / "src")
    site.install("acme-ops", operators={"acme.f": "acme.ops:f", "acme.g": "acme.deep.er:g"})
    (site.path / "_acme.pth").write_text(str(tmp_path / "src"))
    record(site, listed=["_acme.pth"])
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "src")  # as the .pth file does
        found = code_of(trust.Installed.of("acme-ops"))
    assert found.pop("_acme.pth") == sha256(site.path / "_acme.pth")
    assert found == expected
    assert "acme" not in sys.modules


def test_without_a_record_the_packages_of_its_operators_are(site):
    expected = write_package(site.path)
    site.install("acme-ops", operators={"acme.f": "acme.ops:f"})
    assert trust.Installed.of("acme-ops").files == expected


def test_of_a_namespace_package_only_its_own_part_is(site):
    for name in ("acme/ours/__init__.py", "acme/theirs/__init__.py", "acme/single.py"):
        (site.path / name).parent.mkdir(parents=True, exist_ok=True)
        (site.path / name).write_text(TRAP)
    site.install("acme-ops", operators={"acme.f": "acme.ours.ops:f", "acme.g": "acme.single:g"})
    assert {*trust.Installed.of("acme-ops").files} == {"acme/ours/__init__.py", "acme/single.py"}


def test_links_are_followed_and_broken_ones_left_out(site, tmp_path):
    write_package(site.path)
    (tmp_path / "kernel.c").write_text("int f;")
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "more.py").write_text("more")
    (site.path / "acme" / "kernel.c").symlink_to(tmp_path / "kernel.c")
    (site.path / "acme" / "linked").symlink_to(tmp_path / "library")
    (site.path / "acme" / "again").symlink_to(tmp_path / "library")
    (site.path / "acme" / "broken.py").symlink_to(tmp_path / "nowhere")
    site.install("acme-ops", operators={"acme.f": "acme.ops:f"})
    found = trust.Installed.of("acme-ops").files
    assert found["acme/kernel.c"] == sha256(tmp_path / "kernel.c")
    assert found["acme/linked/more.py"] == sha256(tmp_path / "library" / "more.py")
    assert found["acme/again/more.py"] == found["acme/linked/more.py"]
    assert "acme/broken.py" not in found


def test_of_a_link_back_to_a_folder_it_is_in_the_way_is_hashed(site):
    write_package(site.path)
    circle = site.path / "acme" / "deep" / "circle"
    site.install("acme-ops", operators={"acme.f": "acme.ops:f"})
    for target, way in (
        (site.path / "acme", b".."),
        ("er/..", b"."),
        ("../deep/../../acme", b".."),
    ):
        circle.unlink(missing_ok=True)
        circle.symlink_to(target)
        found = trust.Installed.of("acme-ops").files
        assert found["acme/deep/circle"] == hashlib.sha256(way).hexdigest()
        assert not [name for name in found if name.startswith("acme/deep/circle/")]


def test_what_shadows_a_module_stands_in_its_place(acme, tmp_path, monkeypatch):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "acme_ops.py").write_text("shadow = 1")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "first")
        found = trust.Installed.of("acme-ops").files
    assert found["acme_ops.py"] == hashlib.sha256(b"shadow = 1").hexdigest()


HELPERS = [
    "acme_kernel.py",
    "acme_kernel/__init__.py",
    "acme_space/kernel.py",
    "acme_space/deep/kernel.py",
    "acme_space/part/__init__.py",
]


@pytest.mark.parametrize("helper", HELPERS)
def test_what_shadows_a_helper_stands_in_its_place(site, helper, tmp_path, monkeypatch):
    install_with_helper(site, helper)
    before = trust.Installed.of("acme-ops").files
    assert before[helper] == hashlib.sha256(b"true = 1").hexdigest()
    shadow = tmp_path / "first" / helper
    shadow.parent.mkdir(parents=True)
    shadow.write_text("shadow = 1")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "first")
        after = trust.Installed.of("acme-ops").files
    assert after == {**before, helper: hashlib.sha256(b"shadow = 1").hexdigest()}


@pytest.mark.parametrize("suffix", [".pyc", ".so", "/__init__.py", "/__init__.pyc"])
@pytest.mark.parametrize("helper", ["acme_kernel", "acme_space/kernel", "acme_part/sub/kernel"])
def test_what_is_put_before_a_helper_is_new(site, helper, suffix, tmp_path, monkeypatch):
    install_with_helper(site, f"{helper}.py", "acme_part/__init__.py", "acme_part/sub/__init__.py")
    before = trust.Installed.of("acme-ops").files
    beside = suffix != ".pyc" or "part" in helper  # elsewhere a source comes before byte code
    added = (site.path if beside else tmp_path / "first") / f"{helper}{suffix}"
    added.parent.mkdir(parents=True, exist_ok=True)
    added.write_text("shadow = 1")
    trust.forget()
    with monkeypatch.context() as patch:
        if not beside:
            patch.syspath_prepend(tmp_path / "first")
        after = trust.Installed.of("acme-ops").files
    assert after == {**before, f"{helper}{suffix}": hashlib.sha256(b"shadow = 1").hexdigest()}


def install_with_helper(site, *helpers):
    """Install acme-ops with modules that are no operators'."""
    site.install("acme-ops", operators=RIGHT, acme_ops=SOURCE)
    for each in helpers:
        (site.path / each).parent.mkdir(parents=True, exist_ok=True)
        (site.path / each).write_text("true = 1")
    record(site, listed=["acme_ops.py", *helpers])


def test_of_a_package_that_is_shadowed_nothing_is_left_but_what_shadows_it(
    site, tmp_path, monkeypatch
):
    """A fallback for a module that is missing is other code."""
    install_with_helper(site, "acme_kernel/__init__.py", "acme_kernel/fast.py")
    (tmp_path / "first" / "acme_kernel").mkdir(parents=True)
    (tmp_path / "first" / "acme_kernel" / "__init__.py").write_text("true = 1")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "first")
        found = trust.Installed.of("acme-ops").files
    assert [name for name in found if "kernel" in name] == ["acme_kernel/__init__.py"]


def test_below_namespaces_in_namespaces_modules_are_found(site):
    expected = write_package(site.path / "acme_a" / "b")
    site.install("acme-ops", operators={"acme.f": "acme_a.b.acme.ops:f"})
    assert trust.Installed.of("acme-ops").files == {
        f"acme_a/b/{name}": each for name, each in expected.items()
    }
    assert "acme_a" not in sys.modules


def test_what_is_imported_already_is_hashed_wherever_it_came_from(site, tmp_path, monkeypatch):
    """A folder that was on the path for a moment has given Python a part of a namespace."""
    for folder, source in ((site.path, "true = 1"), (tmp_path / "dev", "other = 1")):
        (folder / "acme_early" / "ops").mkdir(parents=True)
        (folder / "acme_early" / "ops" / "__init__.py").write_text(source)
    site.install("acme-ops", operators={"acme.f": "acme_early.ops:f"})
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path / "dev")
        assert importlib.import_module("acme_early.ops").other == 1
    found = trust.Installed.of("acme-ops").files
    del sys.modules["acme_early.ops"], sys.modules["acme_early"]
    assert found == {"acme_early/ops/__init__.py": hashlib.sha256(b"other = 1").hexdigest()}


UNCHECKED, CHECKED, TIMESTAMP = (
    py_compile.PycInvalidationMode[each] for each in ("UNCHECKED_HASH", "CHECKED_HASH", "TIMESTAMP")
)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("module", ["acme_ops.py", "acme_space/kernel.py", "acme_part/deep/f.py"])
def test_byte_code_that_is_never_compared_with_its_source_is_refused(site, module, level):
    install_with_helper(
        site, "acme_space/kernel.py", "acme_part/__init__.py", "acme_part/deep/f.py"
    )
    before = trust.Installed.of("acme-ops").files
    source = site.path / module
    for mode in (TIMESTAMP, CHECKED):
        py_compile.compile(str(source), optimize=level, invalidation_mode=mode)
        assert trust.Installed.of("acme-ops").files == before
    code = py_compile.compile(str(source), optimize=level, invalidation_mode=UNCHECKED)
    said = f"{code} is byte code that it does not compare with its source. Delete it."
    with pytest.raises(trust.TrustError, match=re.escape(said)):
        trust.Installed.of("acme-ops")


def test_the_environment_has_the_versions_of_what_is_required(site):
    requires = [
        "NumPy>=2",
        "pluggy[x] ; python_version > '3'",
        "pytest; extra == 'test'",
        "nope>=1",
    ]
    site.install("acme-ops", operators=RIGHT, requires=requires, acme_ops=TRAP)
    assert trust.Installed.of("acme-ops").environment == {
        "implementation": sys.implementation.name,
        "python": sys.version.split()[0],
        "platform": sysconfig.get_platform(),
        "packages": {
            "numpy": np.__version__,
            "opgrad": version("opgrad"),
            "pluggy": version("pluggy"),
        },
    }


@pytest.mark.parametrize(
    ("operators", "said"),
    [
        (None, "acme-ops 1.0 has no operators, so that nothing can be attested"),
        (
            {"acme.f": "acme_nowhere.ops:f"},
            "its operator 'acme.f' is in a module 'acme_nowhere.ops', which is no file that Python",
        ),
        ({"acme.f": "sys:exit"}, "'acme.f' is in a module 'sys', which is no file"),
    ],
)
def test_what_cannot_be_hashed_is_an_error_that_says_why(site, operators, said):
    site.install("acme-ops", operators=operators)
    with pytest.raises(trust.TrustError, match=re.escape(said)):
        trust.Installed.of("acme-ops")


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (b"Name: acme-ops\n", "the metadata of acme-ops has no Version. Repair or reinstall it."),
        (b"Version: 1.0\n", "the metadata of acme-ops has no Name. Repair or reinstall it."),
        (b"Name: acme-ops\nVersion:\n", "the metadata of acme-ops has no Version. Repair"),
        (b"Name: \xe9\n", "the metadata of acme-ops cannot be read: 'utf-8' codec can't"),
        (None, "the metadata of acme-ops "),  # what of it, depends on the version of Python
    ],
)
def test_damaged_metadata_is_an_error(acme, metadata, said):
    file = acme.path / "acme_ops-1.0.dist-info" / "METADATA"
    file.unlink()
    if metadata is not None:
        file.write_bytes(metadata)
    with pytest.raises(trust.TrustError, match=re.escape(said)):
        trust.Installed.of("acme-ops")


def test_without_a_version_nothing_is_attested(acme, tmp_path, capsys):
    (acme.path / "acme_ops-1.0.dist-info" / "METADATA").write_text("Name: acme-ops\n")
    acme.refresh()
    file = tmp_path / "a.json"
    assert main(["--distribution", "acme-ops", "--attest", str(file), "--jobs", "0"]) == 2
    assert "the metadata of acme-ops has no Version" in capsys.readouterr().err
    assert not file.exists()


def test_a_distribution_that_is_not_installed_is_an_error():
    with pytest.raises(trust.TrustError, match="no distribution 'acme-ops' is installed"):
        trust.Installed.of("acme-ops")


@pytest.mark.parametrize(
    ("content", "why"), [(b"x" * 140_000, "field"), (b"\xe9", "'utf-8' codec")]
)
def test_a_record_that_cannot_be_read_is_an_error(acme, content, why):
    (acme.path / "acme_ops-1.0.dist-info" / "RECORD").write_bytes(content)
    said = rf"the files of acme-ops 1\.0 cannot be read: {why}"
    with pytest.raises(trust.TrustError, match=said):
        trust.Installed.of("acme-ops")


# ------------------------------------------------------------------------------ what is written


def test_the_attestation_says_what_was_verified(acme, attested):
    content = json.loads(attested)
    found = trust.Installed.of("acme-ops")
    (operator,) = content["operators"]
    assert (content["format"], content["distribution"], content["version"]) == (
        1,
        "acme-ops",
        "1.0",
    )
    assert (operator["group"], operator["name"]) == ("opgrad.operators", "acme.right")
    assert operator["value"] == "acme_ops:right"
    assert 0 < operator["worst_error"] < 1
    assert content["files"] == found.files
    assert content["environment"] == found.environment
    assert content["seeds"] == [0]
    made = datetime.fromisoformat(content["date"])
    assert made.utcoffset() == timedelta(0)
    assert timedelta(0) < datetime.now(UTC) - made < timedelta(hours=1)


def test_it_counts_the_answers_of_every_usual_probe(attested):
    content = json.loads(attested)
    assert list(content["probes"]) == list(chosen_probes())
    assert content["probes"]["first_order"] == {"PASS": 2}  # for each of its two cases
    whole = {}
    for counts in content["probes"].values():
        for status, count in counts.items():
            whole[status] = whole.get(status, 0) + count
    assert content["operators"][0]["counts"] == whole
    assert "FAIL" not in whole


def test_its_checksum_is_that_of_its_other_fields(attested):
    content = json.loads(attested)
    given = content.pop("checksum")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert given == hashlib.sha256(text.encode("ascii")).hexdigest()


def documented(after):
    """Return the fields in the first table after some words of the documentation."""
    table = re.search(r"(?:^\|.*\n)+", DOCS.partition(after)[2], re.MULTILINE)[0]
    return re.findall(r"^\| `(\w+)` ", table, re.MULTILINE)


def test_its_fields_are_those_that_are_documented(attested):
    content = json.loads(attested)
    assert documented("JSON, with these fields:") == list(content)
    assert documented("Each of the operators:") == list(content["operators"][0])
    assert documented("The environment:") == list(content["environment"])


def test_more_cases_are_more_seeds(acme, tmp_path):
    file = tmp_path / "a.json"
    command = ["--distribution", "acme-ops", "--jobs", "0", "-q", "--seed", "7", "--cases", "2"]
    assert main([*command, "--attest", str(file)]) == 0
    assert json.loads(file.read_text())["seeds"] == [7, 8]


def test_a_file_is_not_touched_if_something_did_not_pass(site, tmp_path, capsys):
    install_acme(site, {**RIGHT, "acme.wrong": "acme_ops:wrong"})
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text("as it was")
    for file in (old, new):
        assert main(["--distribution", "acme-ops", "--attest", str(file), "--jobs", "0"]) == 1
        said = "opgrad.check: no attestation is written: acme.wrong did not pass\n"
        assert capsys.readouterr().err == said
    assert old.read_text() == "as it was"
    assert {each.name for each in tmp_path.iterdir()} == {"old.json", "site"}


@pytest.mark.parametrize(
    "change",
    ["with open(__file__, 'a') as file: file.write('#')", "import os; os.unlink(__file__)"],
    ids=["changed", "gone"],
)
def test_none_is_written_if_the_files_change_meanwhile(site, tmp_path, change, capsys):
    changing = f"{SOURCE}\n{change}\n"
    install_acme(site, source=changing)
    file = tmp_path / "a.json"
    command = ["--distribution", "acme-ops", "--attest", str(file), "--jobs", "0", "-q"]
    assert main(command) == 1
    assert "what is installed has changed while it was verified" in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["acme.right"],
        ["--family", "acme_ops"],
        ["--probe", "first_order"],
        ["--skip-probe", "first_order"],
        ["--fail-fast"],
        ["--list"],
        ["--list-probes"],
        ["--self-test"],
    ],
    ids=" ".join,
)
def test_options_that_leave_something_out_are_an_error_of_usage(acme, tmp_path, arguments, capsys):
    file = tmp_path / "a.json"
    assert main(["--distribution", "acme-ops", "--attest", str(file), *arguments]) == 2
    named = arguments[0] if arguments[0].startswith("-") else "NAME"
    assert f"leave out {named}, or leave out --attest" in capsys.readouterr().err
    assert not file.exists()


def test_to_attest_and_to_verify_an_attestation_are_two_things(acme, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--attest", str(tmp_path / "a.json"), "--verify-attestation", "b.json"])
    assert stop.value.code == 2
    assert "--verify-attestation: not allowed with argument --attest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "an attestation is about one distribution, got 0; name it with --distribution"),
        (
            ["--distribution", "acme-ops", "--distribution", "opgrad"],
            "about one distribution, got 2",
        ),
        (["--distribution", "acme"], "no operator here is of distribution 'acme'"),
    ],
)
def test_it_is_about_one_distribution(acme, tmp_path, arguments, said, capsys):
    assert main(["--attest", str(tmp_path / "a.json"), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_told_before_anything_is_verified(acme, tmp_path, capsys):
    command = ["--distribution", "acme-ops", "--attest"]
    assert main([*command, str(tmp_path)]) == 2
    assert f"--attest {tmp_path}: it is a folder; expected" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "no" / "a.json")]) == 2
    assert f"there is no folder {tmp_path / 'no'}; make it first" in capsys.readouterr().err


def test_a_folder_where_attestations_are_looked_for_is_made(acme, tmp_path, monkeypatch):
    monkeypatch.setenv("OPGRAD_ATTESTATIONS", str(tmp_path / "deep" / "er"))
    file = tmp_path / "deep" / "er" / "acme-ops.json"
    command = ["--distribution", "acme-ops", "--attest", str(file), "--jobs", "0", "-q"]
    assert trust.complaint("acme-ops", "acme.right", "acme_ops:right") is not None
    assert main(command) == 0
    assert trust.complaint("acme-ops", "acme.right", "acme_ops:right") is None


@pytest.mark.parametrize("relative", ["file", "variable"])
def test_such_a_folder_may_be_written_from_here(acme, tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "deep" / "er"
    written = {"file": "deep/er", "variable": str(folder)}
    file = f"{written[relative]}/acme-ops.json"
    looked_into = written["variable" if relative == "file" else "file"]
    monkeypatch.setenv("OPGRAD_ATTESTATIONS", looked_into)
    command = ["--distribution", "acme-ops", "--attest", file, "--jobs", "0", "-q"]
    assert main(command) == 0
    assert (folder / "acme-ops.json").is_file()


@pytest.mark.parametrize("how", ["environment", "option"])
def test_what_is_blocked_cannot_be_attested(site, tmp_path, monkeypatch, how, capsys):
    install_acme(site, {**RIGHT, "acme.other": "acme_ops:other"})
    command = ["--distribution", "acme-ops", "--attest", str(tmp_path / "a.json")]
    if how == "environment":
        monkeypatch.setenv("OPGRAD_DISABLE", "acme.other")
        assert main(command) == 2
    else:
        assert main([*command, "--disable", "acme.other"]) == 2
    assert "acme.other cannot be attested: it is blocked" in capsys.readouterr().err


# ------------------------------------------------------------------------------ overrides

SQUARE = """\
from opgrad import hookimpl
from opgrad_plugins.elementwise import Square

class Fast(Square):
    @hookimpl
    def forward(self, x, /):
        return {sign}x * x

square = Fast()
"""


def test_overrides_are_attested_like_operators(site, tmp_path, capsys):
    points = {"overrides": {"square": "acme_fast:square"}, "operators": RIGHT}
    site.install("acme-ops", **points, acme_ops=SOURCE, acme_fast=SQUARE.format(sign=""))
    file = tmp_path / "a.json"
    command = ["--distribution", "acme-ops", "--attest", str(file), "--jobs", "0", "-q"]
    assert main(command) == 0
    content = json.loads(file.read_text())
    assert [(each["group"], each["name"], each["value"]) for each in content["operators"]] == [
        ("opgrad.operators", "acme.right", "acme_ops:right"),
        ("opgrad.overrides", "square", "acme_fast:square"),
    ]
    assert {*content["files"]} == {"acme_ops.py", "acme_fast.py"}
    (site.path / "acme_fast.py").write_text(SQUARE.format(sign="-"))
    code, printed = tell(file, capsys)
    assert (code, "files are changed: acme_fast.py" in printed) == (1, True)
    command[command.index("--jobs") + 1] = "1"  # a process that has not imported it
    assert main(command) == 1
    assert "no attestation is written: square did not pass" in capsys.readouterr().err


class TestWhatAnOverrideStandsInFor:
    """Is verified as well, and has to pass, though it is another's, and not attested."""

    @pytest.fixture
    def attest(self, site, tmp_path, monkeypatch):
        """Attest a distribution that overrides ``acme.right`` of acme-ops, by an equal."""
        override = {"acme.right": "quick_ops:right"}
        site.install("quick-ops", overrides=override, quick_ops=SOURCE)
        file, found = tmp_path / "q.json", tmp_path / "found.json"

        def attest(source):
            site.install("acme-ops", operators=RIGHT, acme_ops=source)
            options = ["--jobs", "0", "-q", "--json", str(found)]
            code = main(["--distribution", "quick-ops", "--attest", str(file), *options])
            reports = json.loads(found.read_text())["reports"]
            return code, {each["operator"]: each["passed"] for each in reports}, file

        return attest

    def test_is_no_part_of_the_attestation(self, attest):
        code, passed, file = attest(SOURCE)
        assert (code, passed) == (0, {"acme.right": True, "acme.right@acme-ops": True})
        content = json.loads(file.read_text())
        assert [each["value"] for each in content["operators"]] == ["quick_ops:right"]
        asked = content["operators"][0]["counts"]["PASS"]
        assert sum(each.get("PASS", 0) for each in content["probes"].values()) == asked

    def test_prevents_it_if_it_does_not_pass(self, attest, capsys):
        wrong = SOURCE.replace("right, other, wrong", "wrong, other, right")  # right is Wrong
        code, passed, file = attest(wrong)
        assert code == 1
        assert passed["acme.right@acme-ops"] is False
        assert not file.exists()
        assert "acme.right@acme-ops did not pass" in capsys.readouterr().err


def test_what_another_overrides_is_attested_as_it_is(site, tmp_path):
    """Two distributions override one operator, wrongly: that is not the third one's fault."""
    install_acme(site)
    for name in ("fast-a", "fast-b"):
        module = name.replace("-", "_")
        source = SOURCE.replace("right, other, wrong", "wrong, other, right")  # right is Wrong
        site.install(name, overrides={"acme.right": f"{module}:right"}, **{module: source})
    file = tmp_path / "a.json"
    command = ["--distribution", "acme-ops", "--attest", str(file), "--jobs", "1", "-q"]
    assert main(command) == 0
    assert {each["value"] for each in json.loads(file.read_text())["operators"]} == {
        "acme_ops:right"
    }


# ------------------------------------------------------------------------------ when it holds


def test_it_holds_for_what_it_was_made_of(acme, file, capsys):
    code, printed = tell(file, capsys)
    assert code == 0
    assert printed.startswith(f"{file} holds for acme-ops 1.0: 1 operator, verified at 20")
    assert printed.count("\n") == 1


def test_telling_imports_nothing_of_it(site, tmp_path):
    site.install("acme-ops", operators=RIGHT, acme_ops=TRAP)
    path = tmp_path / "a.json"
    path.write_text(written(trust.Installed.of("acme-ops")))
    done = run("-m", "opgrad.check", "--verify-attestation", str(path), site=site)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wheel_that_ships_it_keeps_its_hashes(acme, file, tmp_path, capsys):
    shipped = tmp_path / "share" / "opgrad" / "attestations" / "acme-ops.json"
    shipped.parent.mkdir(parents=True)
    shipped.write_text(file.read_text())
    record(acme, listed=["acme_ops.py", "../share/opgrad/attestations/acme-ops.json"])
    assert tell(shipped, capsys)[0] == 0


def change_a_byte(site):
    source = site.path / "acme_ops.py"
    source.write_bytes(source.read_bytes()[:-1] + b" ")


def add_a_file_that_is_listed(site):
    (site.path / "acme_more.py").write_text("")
    record(site, listed=["acme_ops.py", "acme_more.py"])


def shadow_it_by_a_package(site):
    (site.path / "acme_ops").mkdir()
    (site.path / "acme_ops" / "__init__.py").write_text(SOURCE)


def points(text):
    def change(site):
        (site.path / "acme_ops-1.0.dist-info" / "entry_points.txt").write_text(text)

    return change


def upgrade(site):
    (site.path / "acme_ops-1.0.dist-info").rename(site.path / "acme_ops-1.1.dist-info")
    metadata = site.path / "acme_ops-1.1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 1.1"))


def uninstall(site):
    for each in (site.path / "acme_ops-1.0.dist-info").iterdir():
        each.unlink()
    (site.path / "acme_ops-1.0.dist-info").rmdir()


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (change_a_byte, "files are changed: acme_ops.py"),
        (add_a_file_that_is_listed, "files are new: acme_more.py"),
        (shadow_it_by_a_package, "files are new: acme_ops/__init__.py"),
        (upgrade, "it is about version 1.0, and 1.1 is installed"),
        (uninstall, "no distribution 'acme-ops' is installed"),
        (
            points("[opgrad.operators]\nacme.right = acme_ops:wrong\n"),
            "the operator 'acme.right' was acme_ops:right, and is acme_ops:wrong now",
        ),
        (
            points("[opgrad.operators]\nacme.r = acme_ops:right\nacme.right = acme_ops:right"),
            "the operator 'acme.r' is new",
        ),
        (points("[opgrad.overrides]\nexp = acme_ops:right"), "the operator 'acme.right' is gone"),
        (points("[opgrad.overrides]\nexp = acme_ops:right"), "the override 'exp' is new"),
    ],
)  # fmt: skip
def test_it_does_not_hold_after_any_change(acme, file, tamper, said, capsys):
    tamper(acme)
    acme.refresh()
    code, printed = tell(file, capsys)
    assert code == 1
    assert printed.startswith(f"{file} does not hold:\n")
    assert f"  {said}\n" in printed


@pytest.mark.parametrize("added", ["acme/new.py", "acme/deep/_kernel.cpython-311.so"])
def test_a_file_that_was_added_to_a_package_counts_though_no_record_lists_it(
    site, tmp_path, added, capsys
):
    expected = write_package(site.path)
    site.install("acme-ops", operators={"acme.f": "acme.ops:f"})
    record(site, listed=list(expected))
    file = tmp_path / "a.json"
    file.write_text(written(trust.Installed.of("acme-ops")))
    assert tell(file, capsys)[0] == 0
    (site.path / added).write_text("")
    assert tell(file, capsys) == (1, f"{file} does not hold:\n  files are new: {added}\n")


def test_what_is_gone_is_told_and_many_files_are_counted(site, tmp_path, capsys):
    expected = write_package(site.path)
    site.install("acme-ops", operators={"acme.f": "acme:f"})
    file = tmp_path / "a.json"
    file.write_text(written(trust.Installed.of("acme-ops")))
    del expected["acme/ops.py"]
    for name in expected:
        (site.path / name).write_text("changed")
    (site.path / "acme/ops.py").unlink()
    (site.path / "acme/extra.py").write_text("")
    assert tell(file, capsys)[1].splitlines()[1:] == [
        f"  files are changed: {', '.join(sorted(expected)[:3])} and 1 more",
        "  files are new: acme/extra.py",
        "  files are gone: acme/ops.py",
    ]


def edited(text, **changes):
    """Return an attestation with other fields, and a checksum that is right again."""
    content = {**json.loads(text), **changes}
    content.pop("checksum")
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "checksum": hashlib.sha256(plain.encode()).hexdigest()})


def written(found, **changes):
    """Return an attestation of what is installed that nobody verified."""
    lines = "".join(f"{found.files[name]}  {name}\n" for name in sorted(found.files))
    content = {
        "format": 1,
        "distribution": found.distribution,
        "version": found.version,
        "operators": [
            {"group": group, "name": name, "value": value, "worst_error": 0.0, "counts": {}}
            for group, name, value in sorted(found.operators)
        ],
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "files": found.files,
        "environment": found.environment,
        "probes": {},
        "seeds": [0],
        "date": "2026-01-01T00:00:00+00:00",
    }
    return edited(json.dumps({**content, "checksum": ""}), **changes)


def elsewhere(text, name, number):
    """Return an attestation that was made with another version of something, or none."""
    environment = json.loads(text)["environment"]
    if name in environment:
        environment[name] = number
    elif number:
        environment["packages"][name] = number
    else:
        del environment["packages"][name]
    return edited(text, environment=environment)


def bumped(number, place):
    """Return a version one higher in one of its numbers."""
    parts = number.split(".")
    parts[place] = str(int(re.match(r"\d+", parts[place])[0]) + 1)
    return ".".join(parts)


VERSIONS = {
    "python": sys.version.split()[0],
    "numpy": np.__version__,
    "opgrad": version("opgrad"),
}


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", VERSIONS)
def test_another_minor_version_was_not_what_the_proof_was_made_for(acme, file, name, place, capsys):
    there = bumped(VERSIONS[name], place)
    file.write_text(elsewhere(file.read_text(), name, there))
    code, printed = tell(file, capsys)
    assert code == 1
    assert f"  it was made with {name} {there}, here is {VERSIONS[name]}\n" in printed


@pytest.mark.parametrize("name", VERSIONS)
def test_with_another_bugfix_release_it_holds_and_this_is_told(acme, file, name, capsys):
    there = bumped(VERSIONS[name], 2)
    file.write_text(elsewhere(file.read_text(), name, there))
    code, printed = tell(file, capsys)
    assert code == 0
    assert f"  it was made with {name} {there}, here is {VERSIONS[name]}\n" in printed


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("platform", "vms-vax", 0, "it was made with platform vms-vax, here is "),
        ("implementation", "pypy", 1, "it was made with implementation pypy, here is cpython"),
        ("acme-base", "1.2", 1, "it was made with acme-base 1.2, here is none"),
        ("numpy", None, 1, f"it was made without numpy, here is {np.__version__}"),
    ],
)
def test_other_environments(acme, file, name, value, code, said, capsys):
    file.write_text(elsewhere(file.read_text(), name, value))
    told, printed = tell(file, capsys)
    assert (told, said in printed) == (code, True)


def without(text, name):
    return json.dumps({key: value for key, value in json.loads(text).items() if key != name})


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text[: len(text) // 2], "is no attestation: it is not whole JSON"),
        (lambda _: "", "is no attestation: it is not whole JSON"),
        (lambda _: "\x00\xff", "is no attestation: it is not whole JSON"),
        (lambda _: "[" * 100_000, "is no attestation: it is not whole JSON"),
        (lambda _: "[1]", "it is a list, expected an object with format, distribution"),
        (lambda text: edited(text, format=2), "its format is 2, this opgrad knows 1"),
        (lambda text: edited(text, format="1"), "its format is '1', this opgrad knows 1"),
        (
            lambda text: without(text, "files"),
            "it should have 'files' of type dict, which is missing",
        ),
        (lambda text: edited(text, seeds=3), "it should have 'seeds' of type list, which is 3"),
        (
            lambda text: edited(text, operators=[{"name": "f"}]),
            "one of its operators should have 'group' of type str, which is missing",
        ),
        (lambda text: edited(text, operators=["f"]), "one of its operators is a str, expected an"),
        (lambda text: edited(text, environment={}), "its environment should have 'implementation'"),
        (
            lambda text: text.replace('"seeds": [\n  0\n', '"seeds": [\n  1\n'),
            "it was changed after it was written, as its checksum tells",
        ),
        (
            lambda text: edited(text, sha256="0" * 64),
            "it was changed after it was written, as its sha256 tells",
        ),
    ],
)
def test_what_is_no_attestation_cannot_be_read_and_is_told_why(acme, file, edit, said, capsys):
    before = file.read_text()
    file.write_text(edit(before))
    assert file.read_text() != before
    code, printed = tell(file, capsys)
    assert code == 2
    assert printed.startswith(f"opgrad.check: {file} ")
    assert said in printed


def test_a_file_that_is_not_there_cannot_be_read(tmp_path, capsys):
    code, printed = tell(tmp_path / "nothing.json", capsys)
    assert (code, printed.endswith("nothing.json cannot be read: No such file or directory\n")) == (
        2,
        True,
    )


def test_the_attestation_of_another_distribution_is_not_this_ones(acme, file):
    acme.install("acme-copy", operators={"copy.right": "acme_ops:right"})
    verdict = trust.judge(trust.read(file), trust.Installed.of("acme-copy"))
    assert "it is about acme-ops, not acme-copy" in verdict.reasons


# ------------------------------------------------------------------------------ complaint

ASKED = ("acme-ops", "acme.right", "acme_ops:right")


@pytest.fixture
def folder(file, monkeypatch):
    """The folder of the attestation, which is the only one that is looked into."""
    monkeypatch.setenv("OPGRAD_ATTESTATIONS", str(file.parent))
    return file.parent


def test_there_is_none_about_what_is_attested(acme, folder):
    assert trust.complaint(*ASKED) is None


def test_without_an_attestation_it_names_the_file_and_the_command(acme, folder):
    (folder / "acme-ops.json").unlink()
    place = folder / "acme-ops.json"
    assert trust.complaint(*ASKED) == (
        f"there is no attestation {place}. Verify and attest it with "
        f"`python -m opgrad.check --distribution acme-ops --attest {place}`."
    )


def test_it_says_why_the_attestation_does_not_hold(acme, folder):
    change_a_byte(acme)
    said = f"{folder / 'acme-ops.json'} does not hold: files are changed: acme_ops.py. Verify and"
    assert trust.complaint(*ASKED).startswith(said)


def test_it_says_that_the_attestation_cannot_be_read(acme, folder):
    (folder / "acme-ops.json").write_text("{")
    assert "is no attestation: it is not whole JSON" in trust.complaint(*ASKED)


@pytest.mark.parametrize(
    ("operator", "value"), [("acme.right", "acme_ops:wrong"), ("acme.wrong", "acme_ops:right")]
)
def test_an_attestation_covers_what_it_names_and_nothing_else(acme, folder, operator, value):
    said = f"its attestation does not cover {operator!r} as {value}"
    assert trust.complaint("acme-ops", operator, value).startswith(said)


def test_it_says_that_byte_code_is_not_what_was_verified(acme, folder):
    code = py_compile.compile(str(acme.path / "acme_ops.py"), invalidation_mode=UNCHECKED)
    said = f"{code} is byte code that it does not compare with its source. Delete it. Verify and"
    assert said in trust.complaint(*ASKED)


def test_any_spelling_of_the_name_finds_the_file(acme, folder):
    assert trust.complaint("Acme_Ops", *ASKED[1:]) is None


def test_one_that_holds_is_enough(acme, folder, tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "acme-ops.json").write_text("{")
    listed = [tmp_path / "nowhere", tmp_path / "broken", "", folder]
    monkeypatch.setenv("OPGRAD_ATTESTATIONS", os.pathsep.join(map(str, listed)))
    assert trust.complaint(*ASKED) is None


@pytest.mark.parametrize("value", [None, "", os.pathsep])
def test_by_default_it_is_looked_for_below_the_prefix(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("OPGRAD_ATTESTATIONS", raising=False)
    else:
        monkeypatch.setenv("OPGRAD_ATTESTATIONS", value)
    assert trust.folders() == [Path(sys.prefix, "share", "opgrad", "attestations")]


def test_files_are_read_once_until_it_is_told_to_forget(acme, folder, monkeypatch):
    opened = []
    before = Path.open

    def watched(path, *more, **named):
        opened.append(path.name)
        return before(path, *more, **named)

    monkeypatch.setattr(Path, "open", watched)
    for _ in range(2):
        assert trust.complaint(*ASKED) is None
    assert opened.count("acme_ops.py") == 1
    change_a_byte(acme)
    assert trust.complaint(*ASKED) is None
    trust.forget()
    assert "files are changed" in trust.complaint(*ASKED)


@pytest.mark.parametrize(("value", "strict"), [("", False), ("0", False), ("1", True), ("x", True)])
def test_strict_is_what_the_variable_says(value, strict):
    assert trust.required({"OPGRAD_REQUIRE_VERIFIED": value}) is strict
    assert trust.required({}) is False


def test_it_is_suspended_for_a_while_here_and_in_processes_that_are_started(monkeypatch):
    monkeypatch.setenv("OPGRAD_REQUIRE_VERIFIED", "1")
    with trust.suspended():
        assert not trust.required()
        ask = "import os; print(os.environ['OPGRAD_REQUIRE_VERIFIED'])"
        assert subprocess.check_output([sys.executable, "-c", ask], text=True) == "0\n"
    assert trust.required()


def test_it_is_strict_again_after_an_exception(monkeypatch):
    monkeypatch.delenv("OPGRAD_REQUIRE_VERIFIED", raising=False)
    with contextlib.suppress(KeyError), trust.suspended():
        raise KeyError
    assert "OPGRAD_REQUIRE_VERIFIED" not in os.environ


# ------------------------------------------------------------------------------ strict mode


@pytest.fixture
def strict(site):
    """A registry that refuses."""
    return Registry(environment={"OPGRAD_REQUIRE_VERIFIED": "1"})


def test_an_operator_without_attestation_is_refused_before_it_is_imported(
    site, strict, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPGRAD_ATTESTATIONS", str(tmp_path))
    site.install("acme-ops", "2.5", operators={"acme.f": "acme_trap:f"}, acme_trap=TRAP)
    with pytest.raises(RegistryError) as caught:
        strict.load("acme.f")
    said = str(caught.value)
    place = tmp_path / "acme-ops.json"
    for each in (
        "operator 'acme.f' of acme-ops 2.5 ",
        f"there is no attestation {place}",
        f"`python -m opgrad.check --distribution acme-ops --attest {place}`",
    ):
        assert each in said
    assert "acme_trap" not in sys.modules


def test_with_an_attestation_it_is_not(acme, strict, folder):
    assert strict.load("acme.right")(2.0).item() == 4.0


def test_opgrads_own_operators_are_no_exception(site, tmp_path):
    code = "import opgrad; opgrad.tensor([1.0]) * 2"
    variables = {"OPGRAD_REQUIRE_VERIFIED": "1", "OPGRAD_ATTESTATIONS": str(tmp_path)}
    done = run("-c", code, site=site, **variables)
    assert done.returncode == 1
    assert f"operator 'mul' of opgrad {version('opgrad')} " in done.stderr
    (tmp_path / "opgrad.json").write_text(written(trust.Installed.of("opgrad")))
    done = run("-c", code, site=site, **variables)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("value", ["", "0"])
def test_it_is_off_unless_it_is_asked_for(site, tmp_path, value):
    variables = {"OPGRAD_REQUIRE_VERIFIED": value, "OPGRAD_ATTESTATIONS": str(tmp_path)}
    done = run("-c", "import opgrad; opgrad.tensor([1.0]) * 2", site=site, **variables)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("jobs", ["0", "2"])
def test_the_verifier_can_attest_what_is_refused_and_then_it_is_not(acme, tmp_path, jobs):
    """The whole way: refused, attested by the command of the refusal, used, changed, refused."""
    variables = {"OPGRAD_REQUIRE_VERIFIED": "1", "OPGRAD_ATTESTATIONS": str(tmp_path / "proofs")}
    use = ("-c", "import opgrad; print(opgrad.ops.acme.right.name)")
    refused = run(*use, site=acme, **variables)
    assert refused.returncode == 1
    command = re.search(r"`python (.*?)`", refused.stderr)[1].split()
    done = run(*command, "--jobs", jobs, "-q", site=acme, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert run(*use, site=acme, **variables).stdout == "acme.right\n"
    change_a_byte(acme)
    assert "files are changed: acme_ops.py" in run(*use, site=acme, **variables).stderr


def test_after_the_verifier_has_run_in_this_process_it_is_refused_again(
    acme, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPGRAD_REQUIRE_VERIFIED", "1")
    monkeypatch.setenv("OPGRAD_ATTESTATIONS", str(tmp_path))
    assert main(["acme.right", "--probe", "first_order", "--jobs", "0", "-q"]) == 0
    with pytest.raises(RegistryError, match=r"acme\.right"):
        installed.load("acme.right")


# ------------------------------------------------------------------------------ --disable

#: An operator that is only right while another name is blocked, in the process that asks.
LONELY = """
from opgrad.registry import registry

class Lonely(Right):
    @hookimpl
    def forward(self, x, /):
        assert {name!r} not in registry.names()
        return x * x

lonely = Lonely()
"""


@pytest.mark.parametrize("jobs", ["0", "1"])
@pytest.mark.parametrize(
    "given",
    ["acme.right", "acme-ops", "exp,acme.right", " acme-ops , exp", "exp --disable acme-ops"],
)
def test_what_is_disabled_is_blocked_in_every_process(acme, jobs, given, monkeypatch):
    monkeypatch.delenv("OPGRAD_DISABLE", raising=False)
    source = RIGHT_AND_WRONG + LONELY.format(name="acme.right")
    acme.install("lonely", operators={"acme.lonely": "lonely:lonely"}, lonely=source)
    command = ["acme.lonely", "--probe", "first_order", "--jobs", jobs, "-q"]
    assert main(command) == 1
    first, *more = given.split(" --disable ")
    assert main([*command, "--disable", first, *(f"--disable={each}" for each in more)]) == 0
    assert "OPGRAD_DISABLE" not in os.environ
    assert "acme.right" in installed.names()


def test_what_was_loaded_before_is_blocked_too(acme):
    assert opgrad.ops.acme.right(2.0).item() == 4.0
    with disabled(["acme-ops"]), pytest.raises(RegistryError, match="is blocked"):
        opgrad.ops.acme.right  # noqa: B018
    assert opgrad.ops.acme.right(2.0).item() == 4.0


def test_what_is_disabled_is_not_verified(site, capsys):
    install_acme(site, {**RIGHT, "acme.wrong": "acme_ops:wrong"})
    command = ["--distribution", "acme-ops", "--probe", "first_order", "--jobs", "0", "-q"]
    assert main(command) == 1
    assert main([*command, "--disable", "acme.wrong"]) == 0
    assert "1 of 1 operators passed" in capsys.readouterr().out
    assert main(["acme.wrong", "--disable", "acme.wrong"]) == 2
    assert "operator 'acme.wrong' of acme-ops 1.0 (acme_ops:wrong) is blocked" in (
        capsys.readouterr().err
    )


def test_it_adds_to_what_the_environment_blocks(acme, monkeypatch, capsys):
    monkeypatch.setenv("OPGRAD_DISABLE", "exp")
    assert main(["--list", "--disable", "mul"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.split()}
    assert {"exp", "mul"}.isdisjoint(listed)
    assert "acme.right" in listed
    assert os.environ["OPGRAD_DISABLE"] == "exp"


def test_an_override_is_disabled_by_the_name_of_its_plugin(site):
    site.install(
        "acme-fast", overrides={"square": "acme_fast:square"}, acme_fast=SQUARE.format(sign="-")
    )
    command = ["square", "--probe", "first_order", "--jobs", "1", "-q"]
    assert main(command) == 1
    assert main([*command, "--disable", "square@acme-fast"]) == 0


def test_listing_without_some_still_imports_nothing(acme):
    acme.install("acme-probes", probes={"acme": "acme_trap"}, acme_trap=TRAP)
    done = run("-m", "opgrad.check", "--list", "--disable", "acme-ops", site=acme)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_nothing_has_is_an_error_with_the_nearest(acme, capsys):
    assert main(["--list", "--disable", "exp,acme-op"]) == 2
    said = "nothing to disable: no operator or distribution is called 'acme-op'"
    printed = capsys.readouterr().err
    assert said in printed
    assert "'acme-ops'" in printed
