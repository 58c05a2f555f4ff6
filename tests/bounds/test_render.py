"""The page says what the results say."""

import importlib.util
import json
from pathlib import Path

import pytest

from flowcodec.errors import InputError

ROOT = Path(__file__).parents[2]


def render_script():
    spec = importlib.util.spec_from_file_location("render_bounds", ROOT / "scripts" / "render_bounds.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_makes_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are up to date, figures are drawn, and a page without its marks is refused."""
    script, page = render_script(), tmp_path / "bounds.md"
    page.write_text((ROOT / "docs" / "bounds.md").read_text())
    arguments = ["render_bounds.py", "--page", str(page), "--figures", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    script.main()
    assert page.read_text() == (ROOT / "docs" / "bounds.md").read_text()
    assert (tmp_path / "bounds.png").stat().st_size > 10_000 and (tmp_path / "bounds_pictures.png").exists()
    page.write_text("nothing")
    with pytest.raises(InputError, match="expected the marks"):
        script.main()


def test_sections_that_are_missing_or_in_part_say_so() -> None:
    script = render_script()
    document = json.loads((ROOT / "results" / "bounds.json").read_text())
    assert script.rendered({}, "pairs", script.pairs) == script.NOT_MEASURED
    part = {"pairs": document["pairs"] | {"share": 0.5, "model": "abcdef0123"}}
    assert "model abcdef01, 0.5 of the crops and seeds" in script.rendered(part, "pairs", script.pairs)
