"""What lies in the top-level deploy/: images, units and manifests that name files, extras and commands which exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from microseg import __version__
from tests.command_line import parsed

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
EXTRAS = {
    "station-cpu": {"cpu", "openvino", "archive"},
    "station-gpu": set[str](),
    "station-ray": {"cpu", "openvino", "archive", "cloud", "ray"},
    "training": {"train", "export"},
}


def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return content


def instructions(path: Path) -> list[tuple[str, str]]:
    """(NAME, rest) of a Dockerfile's lines, continued ones joined."""
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    lines = "\n".join(kept).replace("\\\n", " ").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    return [(name.upper(), " ".join(rest.split())) for name, rest in pairs]


def last(steps: list[tuple[str, str]], name: str) -> str:
    return [rest for step, rest in steps if step == name][-1]


def test_commands_are_held_against_the_real_ones() -> None:
    assert parsed(["train", "supervised", "/data", "--recipe", "S.10"])[0] == "train supervised"
    for wrong in (["measure"], ["segment", "a", "--engine", "b", "--fast"], ["train", "supervised"]):
        with pytest.raises(Exception, match=r"No such|Missing"):
            parsed(wrong)


def test_the_commands_of_the_readme_are_real() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    programs = {"microseg", "microseg-station", "microseg-station-gpu"}
    found = set()
    for words in (shlex.split(line, comments=True) for line in blocks.splitlines()):
        # As a program, or after the name of an image.
        if words and (words[0] == "microseg" or words[:2] == ["docker", "run"]):
            (at,) = (index for index, word in enumerate(words) if word in programs)
            found.add(parsed(words[at + 1 :])[0])
    assert {"segment", "export", "inspect", "verify", "tune"} <= found


def test_every_image_of_the_issue_is_there() -> None:
    assert {path.stem for path in DOCKERFILES} == set(EXTRAS)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
class TestDockerfile:
    def test_bases_are_pinned_and_new_enough(self, path: Path) -> None:
        bases = [rest.split()[0] for name, rest in instructions(path) if name == "FROM"]
        least = tuple(map(int, project()["requires-python"].removeprefix(">=").split(".")))
        for base in bases:
            image, _, tag = base.rpartition(":")
            if image == "python":
                python = re.fullmatch(r"(\d+)\.(\d+)\.\d+-slim-[a-z]+", tag)
                assert python is not None and tuple(map(int, python.groups())) >= least
            else:
                assert image.endswith("/tensorrt") and re.fullmatch(r"\d\d\.\d\d-py3", tag)
                # What no tag shows is asked of the image while it is built.
                assert f"sys.version_info >= {least}" in last(instructions(path), "RUN")

    def test_the_extras_exist_and_bring_torch_to_training_alone(self, path: Path) -> None:
        install = last(instructions(path), "RUN")
        found = re.search(r"\.whl\)\[([\w,-]+)\]", install)
        extras = set(found[1].split(",")) if found else set()
        known = project()["optional-dependencies"]
        assert extras == EXTRAS[path.stem] and extras <= set(known)
        requirements = [re.split(r"[><=;~ \[]", item)[0] for extra in extras for item in known[extra]]
        assert ("torch" in requirements) == (path.stem == "training")

    def test_the_gpu_station_has_the_rest_of_its_extra(self, path: Path) -> None:
        if path.stem != "station-gpu":
            return
        named = re.findall(r'"([\w-]+)>=', last(instructions(path), "RUN"))
        extra = {re.split(r"[><=]", item)[0] for item in project()["optional-dependencies"]["tensorrt"]}
        assert set(named) == extra - {"tensorrt"}

    def test_what_is_copied_exists_and_is_not_ignored(self, path: Path) -> None:
        lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        allowed = [line[1:] for line in lines if line.startswith("!")]
        assert "*" in lines
        for name, rest in instructions(path):
            if name == "COPY" and not rest.startswith("--from"):
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists() and any(fnmatch(source, pattern) for pattern in allowed), source

    def test_it_holds_what_the_wheel_is_made_of(self, path: Path) -> None:
        wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"][
            "targets"
        ]
        needed = {"pyproject.toml", project()["readme"], *project()["license-files"]}
        needed |= {*wheel["wheel"]["packages"], *wheel["wheel"]["force-include"]}
        copied = {source for name, rest in instructions(path) if name == "COPY" for source in rest.split()[:-1]}
        assert needed <= copied

    def test_it_runs_the_command_and_not_as_root(self, path: Path) -> None:
        steps = instructions(path)
        assert shlex.split(last(steps, "ENTRYPOINT").strip("[]")) == list(project()["scripts"])
        user = last(steps, "USER")
        assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
        after = [name for name, _ in steps][[name for name, _ in steps].index("USER") :]
        assert not {"RUN", "COPY", "ADD"} & set(after)
        assert not {"ADD", "SHELL"} & {name for name, _ in steps}
        assert last(steps, "HEALTHCHECK") == "NONE"
        # A volume takes over whose a folder of the image is; one that is not there would be root's.
        if path.stem.startswith("station"):
            folder = last(steps, "ENV").partition("MICROSEG_CONFIG=")[2]
            assert f"--mode=1777 {folder}" in last(steps, "RUN")


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / name, encoding="utf-8")
    return parser


def test_the_unit_measures_with_a_real_command() -> None:
    service = unit("microseg-segment@.service")
    program, *arguments = shlex.split(service["Service"]["ExecStart"])
    assert Path(program).name in project()["scripts"]
    command, values = parsed(arguments)
    assert command == "segment"
    folder = service["Service"]["WorkingDirectory"]
    assert service["Unit"]["ConditionDirectoryNotEmpty"] == f"{folder}/{values['input_path']}"
    assert service["Unit"]["ConditionPathExists"] == f"{folder}/{values['engine']}"
    assert folder.startswith(service["Service"]["ReadWritePaths"])
    assert "report" in str(values["out"]) and service["Service"]["SuccessExitStatus"] == "130"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for path in (DEPLOY / "systemd").iterdir():
        # It wants programs that exist, users that exist, and instances.
        text = path.read_text(encoding="utf-8").replace("/opt/microseg/bin/microseg", sys.executable)
        (tmp_path / path.name.replace("@", "@a")).write_text(
            text.replace("User=microseg", "User=root"), encoding="utf-8"
        )
    units = sorted(tmp_path.iterdir())
    assert len(units) == 2
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_job_trains_with_a_real_command() -> None:
    (job,) = yaml.safe_load_all((DEPLOY / "kubernetes" / "train-job.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command, values = parsed(container["args"])
    assert command == "train supervised" and values["resume"] is True
    from microseg.train.recipe_files import load_recipe

    load_recipe(values["recipe"])
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}
    assert str(values["domain"]).startswith("/data/") and str(values["out"]).startswith("/runs/")
    assert {"/data", "/runs", "/tmp", "/dev/shm"} == set(mounts)
    user = last(instructions(DEPLOY / "docker" / "training.Dockerfile"), "USER").split(":")
    assert [str(pod["securityContext"][key]) for key in ("runAsUser", "runAsGroup")] == user
    tag = container["image"].rpartition(":")[2]
    assert tag == __version__
    failed = job["spec"]["podFailurePolicy"]["rules"][1]["onExitCodes"]
    assert failed["containerName"] == container["name"] and failed["values"] == [2]
    # A failure policy takes no other.
    assert pod["restartPolicy"] == "Never"


def test_the_shards_and_their_merge_run_real_commands() -> None:
    text = (DEPLOY / "kubernetes" / "segment-job.yaml").read_text(encoding="utf-8")
    shards, merge = yaml.safe_load_all(text)
    assert {(job["apiVersion"], job["kind"]) for job in (shards, merge)} == {("batch/v1", "Job")}
    spec = shards["spec"]
    assert (spec["completionMode"], merge["spec"]["suspend"]) == ("Indexed", True)
    done = []
    for job in (shards, merge):
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"].rpartition(":")[2] == __version__ and pod["restartPolicy"] == "Never"
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        user = last(instructions(DEPLOY / "docker" / "station-cpu.Dockerfile"), "USER").split(":")
        assert [str(pod["securityContext"][key]) for key in ("runAsUser", "runAsGroup")] == user
        script = container["args"][0]
        for index, status, left in ((0, 3, 0), (spec["completions"] - 1, 0, 0), (1, 2, 2)):
            shell = f'microseg() {{ printf "%s\\n" "$@"; return {status}; }}; {script}'
            environment = os.environ | {"JOB_COMPLETION_INDEX": str(index)}
            ran = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True, env=environment)
            assert ran.returncode == left
            done.append(parsed(ran.stdout.splitlines()))
    assert [command for command, _ in done] == ["segment"] * 3 + ["merge"] * 3
    shard_texts = [values["shard"] for command, values in done if command == "segment"]
    assert shard_texts == [
        f"1/{spec['completions']}",
        f"{spec['completions']}/{spec['completions']}",
        f"2/{spec['completions']}",
    ]
    assert done[0][1]["out"] == done[3][1]["out"]
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == [2]
    assert f"job/{shards['metadata']['name']}" in text and f"job/{merge['metadata']['name']}" in text


def test_the_ray_job_runs_a_real_command() -> None:
    (job,) = yaml.safe_load_all((DEPLOY / "kubernetes" / "rayjob.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    text = (DEPLOY / "docker" / "station-ray.Dockerfile").read_text(encoding="utf-8")
    assert f'"ray[default]=={cluster["rayVersion"]}"' in text
    user = last(instructions(DEPLOY / "docker" / "station-ray.Dockerfile"), "USER").split(":")
    for part in (cluster["headGroupSpec"], group):
        pod = part["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == f"microseg-ray:{__version__}"
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert [str(pod["securityContext"][key]) for key in ("runAsUser", "runAsGroup")] == user
    for status, left in ((3, 0), (0, 0), (2, 2)):
        script = job["spec"]["entrypoint"].replace("microseg segment", f"give {status} segment")
        # What `ray job submit` gives to a shell.
        give = 'give() { status=$1; shift; printf "%s\\n" "$@"; return "$status"; }; '
        ran = subprocess.run(
            ["/bin/sh", "-c", script.replace("-c '", f"-c '{give}")], capture_output=True, text=True, check=False
        )
        assert ran.returncode == left
    command, values = parsed(ran.stdout.splitlines())
    assert command == "segment" and (values["on"], values["address"]) == ("ray", "auto")
    # Each worker has room for an actor, and there are as many.
    assert values["cpus_per_actor"] == group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
    assert values["actors"] == group["maxReplicas"] and group["minReplicas"] >= 1


def test_kubernetes_takes_the_manifests() -> None:
    """Where kubernetes-validate is installed, which has the published schemas and is large."""
    validate = pytest.importorskip("kubernetes_validate").validate
    documents = [
        document
        for path in sorted((DEPLOY / "kubernetes").iterdir())
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]
    for document in documents:
        if document["kind"] != "RayJob":
            for version in ("1.29", "1.37"):
                validate(document, version, strict=True)
            continue
        # A kind of KubeRay: its pods are Kubernetes' own.
        cluster = document["spec"]["rayClusterSpec"]
        for part in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": part["template"]["spec"]}
            validate(pod, "1.37", strict=True)
