"""Programs compiled are kept for the next process, whatever its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.test_road import TINY, ftcot


@pytest.mark.slow
def test_a_second_process_with_another_folder_compiles_nothing(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY)
    env = {
        "FTCOT_CACHE": str(tmp_path / "cache"),
        "JAX_COMPILATION_CACHE_DIR": "",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # every program, however busy the machine
    }
    programs = []
    for out in ("one", "two"):
        ftcot("train", str(recipe), "sweep={}", "--out", str(tmp_path / out), env=env)
        programs.append({path.name for path in (tmp_path / "cache" / "compiled").glob("*-cache")})
    assert len(programs[0]) >= 1
    assert programs[1] == programs[0]
