"""Build hooks of the documentation site: notebooks, figures, links into the repository, equations, API pages.

The pages are plain Markdown whose links also work on GitHub. At build time these hooks

* turn every notebook of `notebooks/` into a page, with its committed outputs (nothing is executed);
* copy the figures of `experiments/results/` that a page shows, so that no PNG is stored twice;
* rewrite links to files of the repository outside `docs/` to their address on GitHub, and refuse missing files;
* render equations as MathML, so that a page needs no script from elsewhere;
* replace `<!-- api: PACKAGE -->` by the reference of every public name of that package;
* replace `<!-- example: NAME -->` by the code of `docs/examples/NAME.py`.

Read next: `mkdocs.yml`, which names this file, and `tests/test_docs.py`.
"""

import ast
import base64
import html
import os
import posixpath
import re
from pathlib import Path

import latex2mathml.converter
import nbformat
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FIGURES = "figures"  # the site's folder of copied PNG files
API_MARK = re.compile(r"^<!-- api: (\S+) -->$", re.MULTILINE)
EXAMPLE_MARK = re.compile(r"^<!-- example: (\w+) -->$", re.MULTILINE)
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2\s*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
EXTERNAL = re.compile(
    r'<(?:script|img|iframe|source)[^>]*\ssrc="(https?:[^"]+)"|<link[^>]*rel="stylesheet"[^>]*href="(https?:[^"]+)"'
)
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
BADGE = re.compile(r"\[!\[([^\]]*)\]\(https?://[^)]*\)\]\((https?://[^)]*)\)")  # a linked image of another host
MAX_TEXT = 4000  # characters of one text output of a notebook


def on_files(files, config):
    """Adds the notebooks as pages, their images, and the figures that pages show."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        markdown, images = notebook_page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=markdown))
        for name, content in images.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    for name in sorted(shown_figures()):
        path = ROOT / "experiments" / "results" / name
        files.append(File.generated(config, f"{FIGURES}/{name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrites links that leave `docs/` and inserts the API reference and the code of the examples."""
    markdown = API_MARK.sub(lambda mark: api_reference(mark[1]), markdown)
    markdown = EXAMPLE_MARK.sub(lambda mark: example_block(mark[1]), markdown)
    return outside_code(markdown, lambda text: LINK.sub(lambda link: rewritten(link, page.file.src_uri, config), text))


def on_page_content(content, page, config, files):
    """Renders equations as MathML, and keeps a number and its standard error on one line."""
    return EQUATION.sub(_mathml, re.sub(r"(?<=\d) ± (?=\d)", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}", content))


def on_post_build(config):
    """Refuses a site on which a public name has no entry, or which loads a file from another host."""
    site = Path(config["site_dir"])
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    anchors = {name for text in pages.values() for name in re.findall(r'id="(bayesjax[\w.]*)"', text)}
    missing = [path for package in subpackages() for path in public_paths(package) if path not in anchors]
    if missing:
        raise PluginError(f"public names without an entry in the API reference: {missing}")
    external = {(path.name, *match) for path, text in pages.items() for match in EXTERNAL.findall(text)}
    if external:
        raise PluginError(f"pages load files from other hosts: {sorted(external)}")


# Notebooks


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its images by file name.

    Text cells stand as they are; code cells are fenced blocks, followed by their text output and images.
    """
    blocks, images = [], {}
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.cell_type == "markdown":
            source = cell.source.replace("$$\n$$", "$$\n\n$$")  # an equation is a paragraph
            blocks.append(BADGE.sub(r"[\1](\2)", source))
        if cell.cell_type != "code":
            continue
        blocks.append(f"```python\n{cell.source}\n```")
        for order, output in enumerate(cell.outputs):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{number}-{order}.png"
                images[name] = base64.b64decode(data["image/png"])
                blocks.append(f"![Figure made by the cell above]({name})")
            elif output.get("name") != "stderr":
                text = output.get("text", data.get("text/plain", "")).rstrip()
                blocks += [f"```{{ .text .output }}\n{text[:MAX_TEXT]}\n```"] if text else []
    return "\n\n".join(blocks) + "\n", images


# Examples


def example_block(name: str) -> str:
    """The code of an example as a fenced block.

    Raises:
      PluginError: if there is no such example.
    """
    path = DOCS / "examples" / f"{name}.py"
    if not path.exists():
        raise PluginError(f"there is no example docs/examples/{name}.py")
    return f"```python\n{path.read_text().rstrip()}\n```"


# Links and figures


def shown_figures() -> set[str]:
    """Names of the files of `experiments/results/` that a page of `docs/` shows."""
    text = "".join(path.read_text() for path in DOCS.rglob("*.md"))
    return set(re.findall(r"\.\./experiments/results/([^)\s/]+\.png)\)", text))


def outside_code(markdown: str, change) -> str:
    """`change` applied to all text that is not in a fenced block or in a code span."""
    parts, end = [], 0
    for code in FENCE.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])


def rewritten(link: re.Match, source: str, config) -> str:
    """A link as it stands on the site: to a copied figure, to the file on GitHub, or unchanged.

    Raises:
      PluginError: if the target is a path outside `docs/` at which there is no file.
    """
    image, text, target = link.groups()
    address, _, fragment = target.partition("#")
    if not address or re.match(r"[a-z]+:", address):
        return link[0]
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(source), address))
    if path.startswith("docs/"):
        return link[0]
    if not (ROOT / path).exists():
        raise PluginError(f"{source}: the link to {target} leads to no file of the repository")
    here = posixpath.dirname(source) or "."
    if path.startswith("experiments/results/") and path.endswith(".png"):
        return f"{image}[{text}]({posixpath.relpath(f'{FIGURES}/{posixpath.basename(path)}', here)})"
    if path.startswith("notebooks/") and path.endswith(".ipynb"):
        return f"{image}[{text}]({posixpath.relpath(path.removesuffix('.ipynb') + '.md', here)})"
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"[{text}]({config['repo_url'].rstrip('/')}/{kind}/main/{path}{'#' + fragment if fragment else ''})"


def _mathml(match: re.Match) -> str:
    """One equation of `pymdownx.arithmatex` as MathML, which browsers render by themselves."""
    display = "block" if match[2] == "[" else "inline"
    return latex2mathml.converter.convert(html.unescape(match[3]).strip(), display=display)


# API reference


def subpackages() -> list[str]:
    """The public subpackages and modules of bayesjax, from its `__all__`."""
    return [f"bayesjax.{name}" for name in _all_names(_source("bayesjax"))]


def public_paths(package: str) -> list[str]:
    """Where the public names of a package are defined, such as `bayesjax.kernels.sghmc.SGHMCState`.

    Public is what its `__all__` lists. A module in that list stands for all of its public functions and classes.
    """
    return [f"{module}.{name}" for module, names in public_modules(package).items() for name in names]


def public_modules(package: str) -> dict[str, list[str]]:
    """The modules of a package that define public names, each with these names in the order of the file."""
    source = _source(package)
    if source.name != "__init__.py":
        return {package: _defined(source)}
    imported = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    modules: dict[str, set[str]] = {}
    for name in _all_names(source):
        module, original = imported.get(name, (package, name))
        if module == package:  # a module of the package
            modules.setdefault(f"{package}.{original}", set()).update(_defined(_source(f"{package}.{original}")))
        elif module.startswith(f"{package}."):  # a name that one of its modules defines
            modules.setdefault(module, set()).add(original)
    return {
        module: [name for name in _defined(_source(module)) if name in names]
        for module, names in sorted(modules.items())
    }


def api_reference(package: str) -> str:
    """Directives of mkdocstrings for all public names of a package, a section for each of its modules."""
    blocks = []
    for module, names in public_modules(package).items():
        title = module.removeprefix("bayesjax.")
        members = "".join(f"\n        - {name}" for name in names)
        options = f"      heading: {title}\n      heading_level: 2\n      members:{members or ' false'}\n"
        blocks.append(f"::: {module}\n    options:\n{options}")
    return "\n".join(blocks)


def _source(module: str) -> Path:
    """The file of a module or package."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _all_names(source: Path) -> list[str]:
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    raise PluginError(f"{os.path.relpath(source, ROOT)} has no __all__")


def _defined(source: Path) -> list[str]:
    """Public functions, classes and documented constants of a module, in the order of the file."""
    body = ast.parse(source.read_text()).body
    names = []
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and _is_text(following):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            names.append(target.id if isinstance(target, ast.Name) else "_")
    return [name for name in names if not name.startswith("_")]


def _is_text(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
