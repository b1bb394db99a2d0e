"""Commands of the documentation are ones that the programs take: commands, options, paths."""

import json
import re
import shlex

import pytest
import typer

ENDS = {"|", "||", "&&", ";", "&", ")"}
ELLIPSES = {"…", "..."}
SHELL = {"sh", ""}
"""Languages of blocks with commands: fenced, or only indented."""


def lines_of(block):
    """(line number, command line) of a block; lines that go on in the next are put together."""
    number, whole, until = block.line, "", ""
    for offset, line in enumerate(block.text.splitlines(), 1 if block.language else 0):
        if until:
            until = "" if line.strip() == until else until
            continue
        if found := re.search(r"<<-?\s*['\"]?(\w+)", line):
            until = found[1]
        whole = f"{whole} {line.strip()}" if whole else line.rstrip()
        if not whole.strip() or (number == block.line and not whole):
            continue
        if whole.endswith("\\"):
            whole = whole[:-1].rstrip()
            continue
        yield block.line + offset, whole
        whole = ""


def commands_in(text):
    """Words of each simple command. What stands behind two spaces explains the line."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;()<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    try:
        words = list(lexer)
    except ValueError:
        # Prose, or a text over several lines.
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if word in ENDS:
            while command and re.fullmatch(r"\w+=.*", command[0]):
                command.pop(0)
            if command[:1] == ["export"]:
                command = []
            if command:
                yield command
            command = []
        elif not set(word) <= set("<>()&|;"):
            command.append(word)


def all_commands(page):
    for block in page.blocks():
        if block.language in SHELL:
            for number, line in lines_of(block):
                text = line if block.language else re.split(r"(?<=\S)\s{2,}(?=\S)", line)[0]
                for command in commands_in(text):
                    yield f"{block.page}:{number}", command


@pytest.fixture(scope="session")
def applications():
    """Click's command of each program, by the words that call it."""
    from pipelines import compile as compile_module
    from pipelines import demo, run_commands
    from zeroskew.cli import application

    def of(function):
        app = typer.Typer()
        app.command()(function)
        return typer.main.get_command(app)

    return {
        ("zeroskew",): typer.main.get_command(application()),
        ("python", "-m", "pipelines.run"): typer.main.get_command(run_commands.app),
        ("python", "-m", "pipelines.compile"): of(compile_module.main),
        # Its one argument is where the data goes.
        ("python", "-m", "pipelines.flight_delay.data"): None,
        ("python", "-m", "pipelines.demo"): of(demo.demo),
        ("python", "-m", "operators"): None,
    }


def problems_of(words, command, name):
    """What is wrong with the words after the program's name."""
    while getattr(command, "commands", None) is not None:
        if not words or words[0] in {"--help", *ELLIPSES}:
            return
        if words[0] not in command.commands:
            if words[0].startswith("-") and words[0] in options_of(command):
                words = words[1:]
                continue
            known = ", ".join(sorted(command.commands))
            yield f"`{name}` has no command {words[0]}; it has {known}"
            return
        name, command, words = f"{name} {words[0]}", command.commands[words[0]], words[1:]
    yield from arguments_of(words, command, name)


def options_of(command):
    return {text: each for each in command.params for text in (*each.opts, *each.secondary_opts)}


def arguments_of(words, command, name):
    options, given, places, partial = options_of(command), set(), 0, False
    words = iter(words)
    for word in words:
        if word in ELLIPSES or word == "/":
            partial = True
            if word == "/":
                break
        elif word.startswith("-") and word != "-":
            text, _, value = word.partition("=")
            option = options.get(text)
            if text == "--help":
                return
            if option is None or option.param_type_name == "argument":
                known = sorted(each for each in options if each.startswith("--"))
                yield f"`{name}` has no option {text}; it has {', '.join(known)}"
                # Nor is it known whether the next word is its value.
                partial = True
                continue
            given.add(option.name)
            takes = not (getattr(option, "is_flag", False) or getattr(option, "count", False))
            if takes and not value and (following := next(words, None)) is None:
                yield f"`{name}`: {text} needs a value"
                partial = True
            elif takes and not value and following in ELLIPSES:
                partial = True
        else:
            places += 1
    if partial:
        return
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    most = sum(each.nargs if each.nargs > 0 else 1000 for each in arguments)
    least = sum(max(each.nargs, 1) for each in arguments if each.required)
    if places > most:
        yield f"`{name}` takes {most} arguments, and {places} are given"
    if places < least:
        yield f"`{name}` needs {least} arguments, and {places} are given"
    for each in command.params:
        if each.param_type_name == "option" and each.required and each.name not in given:
            yield f"`{name}` needs {each.opts[0]}; write … where it is left out"


def test_our_own_commands_and_options_exist(page, applications):
    problems = []
    for where, words in all_commands(page):
        words = ["python" if word in ("python3", ".venv/bin/python") else word for word in words]
        program = words[:3] if words[:2] == ["python", "-m"] else words[:1]
        if tuple(program) in applications:
            if (command := applications[tuple(program)]) is not None:
                found = problems_of(words[len(program) :], command, " ".join(program))
                problems += [f"{where}: {text}" for text in found]
        elif words[:2] == ["python", "-m"] and words[2].startswith(("pipelines", "zeroskew")):
            problems.append(f"{where}: `python -m {words[2]}` is not known to this test: add it")
    assert not problems, "\n".join(["", *problems])


def test_paths_of_the_repository_exist(page, root):
    """Folders of `-k`, files of `-f` and of scripts; a build's own results are made by it."""
    problems = []
    tops = {each.name for each in root.iterdir()} - {"build", "pipelines"}
    for where, words in all_commands(page):
        for before, word in zip(["", *words], words, strict=False):
            named = re.fullmatch(r"([\w.-]+)/[\w./-]+", word)
            if words[0] == "kubectl" and before in ("-k", "--kustomize"):
                if not (root / word / "kustomization.yaml").is_file():
                    problems.append(f"{where}: {word} has no kustomization.yaml")
            elif named and named[1] in tops and not (root / word).exists():
                problems.append(f"{where}: there is no {word}")
    assert not problems, "\n".join(["", *problems])


def test_targets_of_make_exist(page, root):
    targets = set(re.findall(r"^([\w-]+):", (root / "Makefile").read_text(), re.M))
    problems = [
        f"{where}: the Makefile has no {word}"
        for where, words in all_commands(page)
        if words[0] == "make"
        for word in words[1:]
        if re.fullmatch(r"[a-z][\w-]*", word) and word not in targets
    ]
    assert not problems, "\n".join(["", *problems])


def test_values_of_the_chart_exist(page, root):
    schema = json.loads((root / "charts/zeroskew/values.schema.json").read_text())
    problems = []
    for where, words in all_commands(page):
        if words[0] != "helm" or not any(word.startswith("charts/zeroskew") for word in words):
            continue
        for before, word in zip(["", *words], words, strict=False):
            if before == "--set":
                at = schema
                for part in re.split(r"\.", word.partition("=")[0]):
                    at = at.get("properties", {}).get(re.sub(r"\[\d+\]", "", part))
                    if at is None:
                        problems.append(f"{where}: the chart has no value {word.partition('=')[0]}")
                        break
                    if "$ref" in at or "properties" not in at:
                        break
    assert not problems, "\n".join(["", *problems])


def test_the_check_finds_the_commands_of_readme(every_page):
    (readme,) = (each for each in every_page if each.path == "README.md")
    found = [words for _, words in all_commands(readme)]
    assert len([words for words in found if words[0] == "zeroskew"]) > 30
    assert ["kubectl", "apply", "-f", "manifests/endpoints.yaml"] in found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("zeroskew rollout rum pipelines/mine", "has no command rum"),
        ("zeroskew rollout run pipelines/mine --verison 2", "has no option --verison"),
        ("zeroskew features audit", "needs 1 arguments"),
        ("zeroskew up now and here", "takes 0 arguments"),
        ("ZEROSKEW_HOME=x zeroskew rollout run pipelines/mine | tee --nothing log", ""),
        ("zeroskew profile march.parquet …", ""),
        ("zeroskew up / status / down", ""),
    ],
)
def test_the_check_sees_a_wrong_command(line, said, applications):
    found = [
        text
        for words in commands_in(line)
        if words[0] == "zeroskew"
        for text in problems_of(words[1:], applications["zeroskew",], "zeroskew")
    ]
    assert len(found) == bool(said), found
    assert not said or said in found[0]
