"""``houseroom explain connect``: a host, or a single request of one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("explains what Linux enforces", allow_module_level=True)

SOURCE = Path(__file__).resolve().parents[2] / "src"
RULES = ["--allow", "GET api.example.org/v1/**", "--allow", "pypi.org:443", "--allow", "h.org", "--credential", "A_TOKEN h.org"]
RULES += ["--credential", "B_TOKEN h.org from command:op read 'two words'"]


def explained(word: str, directory: Path) -> tuple[int, dict[str, object]]:
    argv = [sys.executable, "-m", "houseroom", "explain", "--json", "connect", word, *RULES, "--workspace", str(directory)]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(SOURCE), "HOME": str(directory)}, cwd="/"
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("word", "decision", "subject", "inspects"),
    [
        ("pypi.org", "allow", "pypi.org:443", False),
        ("pypi.org:80", "deny", "pypi.org:80", False),
        ("api.example.org", "allow", "api.example.org:443", True),
        ("GET api.example.org/v1/a?x=y", "allow", "GET api.example.org:443/v1/a", True),
        ("api.example.org:8443/v1/a", "allow", "GET api.example.org:8443/v1/a", True),
        ("POST api.example.org/v1/a", "deny", "POST api.example.org:443/v1/a", False),
        ("api.example.org/v1/../x", "deny", "GET api.example.org:443/v1/../x", False),
        ("DELETE pypi.org/x", "allow", "DELETE pypi.org:443/x", False),
    ],
)
def test_a_host_or_a_request(tmp_path: Path, word: str, decision: str, subject: str, inspects: bool) -> None:
    status, said = explained(word, tmp_path)
    assert (said["decision"], said["subject"], said["inspects"]) == (decision, subject, inspects), said
    assert status == (0 if decision == "allow" else 1)


def test_what_would_allow_a_request(tmp_path: Path) -> None:
    assert explained("POST api.example.org/v1/a", tmp_path)[1]["grant"] == ["houseroom", "run", "--allow", "POST api.example.org:443/v1/a"]
    assert explained("GET api.example.org/x;y", tmp_path)[1]["grant"] is None


def test_where_a_credential_is_put_in(tmp_path: Path) -> None:
    kept = {"variable": "B_TOKEN", "from": 'command:op read "two words"'}
    for word, used in (("h.org", [{"variable": "A_TOKEN", "from": "env:A_TOKEN"}, kept]), ("h.org:444", []), ("pypi.org", [])):
        said = explained(word, tmp_path)[1]
        assert (said["credentials"], said["inspects"]) == (used, bool(used))
