"""Hook of mkdocs: documents that live beside the code become pages of the site, and their links follow them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # document of the repository -> page of the site; what lies in docs/ is a page under its own name
    "README.md": "index.md",
    "label_tools/README.md": "label_tools.md",
    "label_tools/text/bad_input.md": "bad_input.md",
    "anchors/README.md": "lesson.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"(!?)\[([^]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files, config):
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links lead from where a document lies in the repository; on the site from page to page. A link to code becomes
    its text, since the code is no part of the site; a link to nothing stops the build."""
    name = page.file.src_uri
    source = next((source for source, made in PAGES.items() if made == name), f"docs/{name}")

    def follow(match: re.Match) -> str:
        image, text, target, place = match[1], match[2], match[3], match[4] or ""
        path = os.path.normpath(os.path.join(os.path.dirname(source), target)).replace(os.sep, "/")
        if not (ROOT / path).exists():
            raise PluginError(f'{source}: link to "{target}": no such file in the repository')
        made = PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if made is None:
            return text
        return f"{image}[{text}]({os.path.relpath(made, os.path.dirname(name) or '.')}{place})"

    return LINK.sub(follow, markdown)
