"""The documentation tells the truth, as far as a test can see: commands and options are there and parse, settings load,
links lead somewhere. (What docs/dialects.md says of payloads is tested beside the dialects.)
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path

import click
import pytest

from refcast import dialects, filters, retry, settings
from refcast.cli import main
from refcast.cli.described import KEYS, wanted
from refcast.cli.document import Document
from refcast.errors import BadInput, RefcastError
from refcast.links import PRESETS, Urls
from refcast.model import Endpoint, NetworkRules

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
VARIABLES = r"(?:[A-Z_]+=\S+ )*"


def commands(command: click.Command, path: str = "refcast") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by what one types."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            each = command.get_command(context, name)
            assert each is not None
            yield from commands(each, f"{path} {name}")
    elif not command.hidden:
        yield path, command


COMMANDS = dict(commands(main))


def options(command: click.Command) -> list[str]:
    return [
        word
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for word in [*parameter.opts, *parameter.secondary_opts]
    ]


def sections(page: Path) -> dict[str, str]:
    """The text below each heading."""
    parts = re.split(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def shown(page: Path) -> Iterator[str]:
    """The lines of shell, and what the text quotes, that call refcast."""
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            if found := re.match(rf"(?:.* \| )?(?:sudo -u [\w-]+ )?{VARIABLES}(refcast [^>]+)", line):
                yield found[1]
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for quoted in re.findall(r"`([^`]+)`", text):
        if found := re.match(r"(?:sudo -u \w+ )?(refcast .*)", " ".join(quoted.split())):
            yield found[1]


def parse(line: str) -> None:
    """Parse a command line as the shell and click would. Raises click's errors."""
    words = shlex.split(re.sub(r"\$\(.*?\)", "OUTPUT", line), comments=True)[1:]
    command: click.Command = main
    context: click.Context | None = None
    while isinstance(command, click.Group):
        context = command.make_context(command.name, words, parent=context)
        words = [*getattr(context, "_protected_args", []), *context.args]
        if not words:
            return
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        if not words:  # named in a sentence, or complete as it is
            return
    command.make_context(command.name, words, parent=context)


@pytest.mark.parametrize("path", COMMANDS)
class TestCommands:
    def test_has_a_section_that_names_its_options(self, path: str) -> None:
        section = sections(DOCS / "commands.md").get(path)
        assert section, f"docs/commands.md has no section {path}"
        assert [word for word in options(COMMANDS[path]) if f"`{word}" not in section] == []

    def test_the_section_names_no_other_options(self, path: str) -> None:
        section = sections(DOCS / "commands.md")[path]
        listed = re.findall(r"`(--[a-z-]+)", "".join(re.findall(r"^- .*?:", section, re.DOTALL | re.MULTILINE)))
        assert set(listed) <= set(options(COMMANDS[path]))

    def test_the_section_shows_it(self, path: str) -> None:
        section = sections(DOCS / "commands.md")[path]
        assert re.search(rf"^{path}\b", section, re.MULTILINE)

    def test_it_and_its_options_have_a_help(self, path: str) -> None:
        command = COMMANDS[path]
        assert command.help
        assert [p.name for p in command.params if isinstance(p, click.Option) and not p.help] == []


def test_the_page_has_no_other_commands() -> None:
    assert {name for name in sections(DOCS / "commands.md") if name.startswith("refcast ")} == set(COMMANDS)


def test_the_options_before_the_command_are_on_the_page() -> None:
    head = (DOCS / "commands.md").read_text().split("\n## ")[0]
    assert [word for word in options(main) if f"`{word}" not in head] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_shown_parses(page: Path) -> None:
    for line in shown(page):
        try:
            parse(line)
        except click.ClickException as error:
            pytest.fail(f"{page.name}: {line}: {error.format_message()}")


def test_the_parser_of_this_test_sees_mistakes() -> None:
    for line in ("refcast endpoint lost", "refcast status --nonsense", "refcast endpoint add --timeout soon a b"):
        with pytest.raises(click.UsageError):
            parse(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        headings = [re.sub(r"[^\w -]", "", heading.lower()) for heading in sections(file)]
        anchors = {heading.replace(" ", "-") for heading in headings} if anchor else {""}
        assert anchor in anchors, target


def test_the_readme_leads_to_every_page() -> None:
    leads = re.findall(r"\]\(docs/([^)#]+)", (ROOT / "README.md").read_text())
    assert set(leads) == {page.name for page in DOCS.glob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_run_exist(page: Path) -> None:
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()] + page.read_text().split("`")
    for line in lines:
        if found := re.match(r"(?:sudo )?(?:\.venv/bin/python )?\.?/?((?:benchmarks|tests)/\S+|install\.sh)", line):
            assert (ROOT / found[1]).exists(), line


class TestSettings:
    page = DOCS / "settings.md"

    @pytest.mark.parametrize("example", blocks(page, "toml"))
    def test_an_example_loads(self, tmp_path: Path, example: str) -> None:
        (tmp_path / settings.FILE).write_text(example)
        assert settings.load(tmp_path) != settings.Settings()

    def test_every_setting_is_described_and_in_the_first_example(self, tmp_path: Path) -> None:
        tables = {"urls": Urls, "network": NetworkRules, "retention": settings.Retention}
        known = {f"{table}.{field.name}" for table, kind in tables.items() for field in fields(kind)}
        known |= {"roots", "limits.commits", "limits.files", "network.proxy"}
        known |= {"urls.preset", "urls.base", "pushers.file", "pushers.gitolite"}
        described = set(re.findall(r"^\| `([a-z_.]+)` \|", self.page.read_text(), re.MULTILINE))
        assert described - set(PRESETS) == known
        (tmp_path / settings.FILE).write_text(blocks(self.page, "toml")[0])
        loaded = settings.load(tmp_path)
        assert loaded.roots
        assert all(getattr(loaded.urls, field.name) for field in fields(Urls))
        assert loaded.network.allow
        assert loaded.network.refuse
        assert loaded.proxy

    def test_the_defaults_are_as_described(self) -> None:
        text = self.page.read_text()
        assert f"| `limits.commits` | {settings.Settings().commits} |" in text
        assert f"| `limits.files` | {settings.Settings().files} |" in text
        kept = settings.Settings().retention
        assert f"| `retention.days` | {kept.days:g} |" in text
        assert f"| `retention.waiting_days` | {kept.waiting_days:g} |" in text
        assert f"| `retention.size` | {kept.size / 1024**3:g} GiB |" in text
        assert f"| `retention.waiting_size` | {kept.waiting_size / 1024**3:g} GiB |" in text

    def test_every_preset_is_described(self) -> None:
        assert set(PRESETS) <= set(re.findall(r"^\| `([a-z-]+)` \|", self.page.read_text(), re.MULTILINE))

    def test_an_error_names_file_and_key(self, tmp_path: Path) -> None:
        (tmp_path / settings.FILE).write_text("[limits]\ncommits = -1\n")
        with pytest.raises(BadInput, match=r"refcast\.toml: limits\.commits"):
            settings.load(tmp_path)


class TestFilters:
    page = DOCS / "filters.md"

    def test_every_filter_is_in_the_table_with_its_option_and_its_key(self) -> None:
        judged = {
            node.attr
            for node in ast.walk(ast.parse(inspect.getsource(filters)))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "endpoint"
        }
        assert judged - {field.name for field in fields(Endpoint)} == set()
        rows = re.findall(r"^\| `(--[a-z-]+)` \| `([a-z_]+)` \|", self.page.read_text(), re.MULTILINE)
        assert {KEYS[key].option for _, key in rows} == judged
        named = {word: one.name for one in COMMANDS["refcast endpoint add"].params for word in one.opts}
        assert [(named.get(option), key) for option, key in rows] == [(KEYS[key].option, key) for _, key in rows]

    @pytest.mark.parametrize(
        "row", re.findall(r"^\| (.*) \| (names|paths) \| (.*) \| (.*) \|$", page.read_text(), re.MULTILINE)
    )
    def test_the_examples_are_as_shown(self, row: tuple[str, ...]) -> None:
        patterns, passing, stopped = (tuple(re.findall("`([^`]+)`", row[column])) for column in (0, 2, 3))
        filters.check(patterns, row[1], anchored=row[1] == "names")
        match = filters.Paths(patterns).match if row[1] == "paths" else partial(filters.matches, patterns)
        assert [name for name in passing if not match(name)] == []
        assert [name for name in stopped if match(name)] == []

    def test_every_word_that_skips_is_named(self) -> None:
        text = sections(self.page)["Skipping"]
        assert [word for word in (*filters.SKIP_OPTIONS, *filters.SKIP_MARKS) if word not in text] == []
        assert [word for word in filters.SKIPS if f"--skip-by {word}" not in text] == []


class TestAsCode:
    page = DOCS / "as-code.md"

    def test_every_key_is_in_the_table(self) -> None:
        rows = "".join(re.findall(r"^\| (`.*?) \|", self.page.read_text(), re.MULTILINE))
        assert re.findall(r"`([a-z_]+)`", rows) != []
        assert sorted(re.findall(r"`([a-z_]+)`", rows)) == sorted(KEYS)

    def test_the_example_says_what_it_shows(self, tmp_path: Path) -> None:
        (example,) = blocks(self.page, "toml")
        (tmp_path / "secret").write_text("hush")
        (tmp_path / "url").write_text("https://chat.example.org/x")
        text = re.sub(r'"/etc/refcast/[a-z]+\.', f'"{tmp_path}/', example)
        document = Document("example", text, tmp_path)
        assert [wanted(document, name, None, set()).endpoint.name for name in document.endpoints] == ["web", "ops"]


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "operation.md"], ids=lambda page: page.name)
def test_exit_codes_are_listed(page: Path) -> None:
    codes = {RefcastError.exit_code, *(each.exit_code for each in RefcastError.__subclasses__())}
    section = sections(page)["Exit codes"]
    assert {int(code) for code in re.findall(r"^\| (\d) \|", section, re.MULTILINE)} == codes | {0}


def test_the_retry_schedule_is_as_described() -> None:
    (row,) = re.findall(r"^\| wait \| (.*) \|$", (DOCS / "operation.md").read_text(), re.MULTILINE)
    units = {"min": 60, "h": 3600}
    waits = [int(number) * units[unit] for number, unit in (cell.split() for cell in row.split(" | "))]
    assert waits == [wait.total_seconds() for wait in retry.SCHEDULE]


@pytest.mark.parametrize("name", dialects.DIALECTS)
def test_every_dialect_is_in_the_readme(name: str) -> None:
    assert f"\n| `{name}` |" in (ROOT / "README.md").read_text()


def test_the_options_of_install_sh_are_on_its_page() -> None:
    done = subprocess.run([ROOT / "install.sh", "--help"], capture_output=True, text=True, check=True)
    offered = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", done.stdout, re.MULTILINE))
    rows = "".join(re.findall(r"^\| `-.*?\|", (DOCS / "install.md").read_text(), re.MULTILINE))
    assert set(re.findall(r"--[a-z-]+", rows)) == offered
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in re.findall(r"^(?:sudo )?\./install\.sh(.*)", block, re.MULTILINE):
                assert set(re.findall(r"--[a-z-]+", line.partition("#")[0])) <= offered
