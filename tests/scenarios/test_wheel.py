"""The wheel, installed into a clean virtual environment, serves away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def run(*command, cwd, timeout=600):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DOSSIER", "VIRTUAL"))}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of a virtual environment with nothing but the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("wheel")
    dist = folder / "dist"
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(dist), str(ROOT), cwd=folder)
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "venv", str(folder / "venv"), cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel), cwd=folder)
    return folder, wheel


def test_the_wheel_holds_code_schemas_codes_samples_and_licences(installed):
    names = zipfile.ZipFile(installed[1]).namelist()
    for wanted in ("ihe/codes.csv", "dossier/samples/laboratory-report.xml", "dossier/samples/consultation-report.pdf"):
        assert wanted in names
    page = "atna/record_repository/page"
    for wanted in (
        "files/log.css",
        "templates/base.html",
        *(f"texts/{language}.toml" for language in ["fr", "de", "lb", "en"]),
    ):
        assert f"{page}/{wanted}" in names
    assert any(name.startswith("schemas/") and name.endswith(".xsd") for name in names)
    assert any(name.startswith("schemas/") and name.endswith(".wsdl") for name in names)
    for licence in ("LICENSE", "NOTICE"):
        assert any(name.endswith(f"dist-info/licenses/{licence}") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "bench/", "docs/"))]


def test_it_serves_away_from_the_checkout(installed, tmp_path):
    folder, _wheel = installed
    # folders that would be mistaken for ours by an import from the working directory
    for name in ("registry", "wire", "ihe"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported from the working directory')\n")
    out = run(str(folder / "venv" / "bin" / "dossier"), "demo", cwd=tmp_path, timeout=240)
    assert out.splitlines()[-1] == "demo: ok"
