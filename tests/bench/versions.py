"""The sources of another version of ours, unpacked under `.cache/bench/`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.bench.world import ROOT


def unpack(ref: str) -> Path:
    """The folder that holds `ref`, a git commit, branch or tag.

    Raises:
        SystemExit: git doesn't know it.
    """
    asked = ["git", "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"BASE={ref}: git knows no such commit, branch or tag")
    commit = found.stdout.strip()
    folder = ROOT / ".cache" / "bench" / commit[:12]
    if not folder.exists():
        draft = folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True
        )
        subprocess.run(["tar", "-x", "-C", str(draft)], input=archive.stdout, check=True)
        draft.rename(folder)
    return folder
