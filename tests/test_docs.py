"""What newcomers read first: short, its links lead somewhere, the command line as it is."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    gone = [link for link in links if not link.startswith("https://") and not (page.parent / link).exists()]
    assert not gone


def test_the_readme_is_short_and_leads_to_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert all(f"docs/{page.name}" in text for page in PAGES[1:])


def test_the_page_of_commands_is_what_they_say(monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert "".join(page.split()) == "".join(made.page().split()), "run python docs/make_cli.py"
    listed = re.findall(r"^    (\S+)  ", made.help_of(), flags=re.M)
    assert len(listed) > 10 and set(listed) == {command.split()[0] for command in made.COMMANDS}
