"""Compiled manifests: deterministic, named after their content, fit for a cluster."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kfp import dsl

from components.image import IMAGE
from pipelines import compile as compiling
from pipelines.compile import Code, check_image, compile_models, manifests, model_folders
from pipelines.deployment import Deployment
from pipelines.pod import CONFIG_MAP, CREDENTIALS, ENDPOINTS, SECRET, Images
from pipelines.schedules import schedule_documents
from zeroskew.errors import ConfigError, PipelineError
from zeroskew.model_config import load_model_config
from zeroskew.schedule.schedule_config import ScheduleSection
from zeroskew.schedule.schedule_spec import parse_schedule
from zeroskew.steps.repeating import ATTEMPTS

ROOT = Path(__file__).parents[3]
CODE = Code(sha="1f3a9c2d4e5f60718293a4b5c6d7e8f901234567", tree="ab" * 32)
MODEL = ROOT / "pipelines/flight_delay"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def hello_task():
    """Does nothing."""


@dsl.pipeline(name="hello")
def HELLO():
    hello_task()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("manifests")
    images = Images("registry.test/zeroskew:1f3a9c2", trainer="registry.test/trainer:1f3a9c2")
    paths = compile_models([MODEL], out, images, CODE)
    return {path.stem: list(yaml.safe_load_all(path.read_text())) for path in paths}


@pytest.fixture(scope="module")
def compiled(written):
    """The pipelines alone."""
    return {name: documents for name, documents in written.items() if name != "schedules"}


def executors(documents):
    return documents[1]["spec"]["pipelineSpec"]["deploymentSpec"]["executors"]


def platform(documents, name):
    platforms = documents[1]["spec"]["platformSpec"]["platforms"]
    return platforms["kubernetes"]["deploymentSpec"]["executors"][name]


def test_each_model_has_its_pipelines(compiled):
    assert set(compiled) == {
        "training", "materialisation", "batch-prediction", "consistency-audit", "live-performance",
        "rollback",
    }  # fmt: skip
    assert [d["kind"] for d in compiled["training"]] == ["Pipeline", "PipelineVersion"]
    assert MODEL in model_folders()


def test_schedules_stand_beside_the_pipelines_that_they_run(written, compiled):
    schedules = {each["metadata"]["name"]: each for each in written["schedules"]}
    assert set(schedules) == {
        "flight-delay-materialisation", "flight-delay-consistency-audit",
        "flight-delay-live-performance",
    }  # fmt: skip
    pipelines = {documents[0]["metadata"]["name"] for documents in compiled.values()}
    for each in schedules.values():
        assert each["kind"] == "PipelineSchedule"
        assert parse_schedule(each["spec"]).pipeline_ref.name in pipelines
        # The newest, whatever is compiled later.
        assert "versionName" not in each["spec"]["pipelineRef"]


def test_schedules_that_are_not_there_any_more_leave_no_file(tmp_path):
    root = tmp_path / "root"
    folder = root / "pipelines/fraud"
    shutil.copytree(MODEL, folder)
    text = (MODEL / "model.yaml").read_text().replace("name: flight_delay\n", "name: fraud\n", 1)
    (folder / "model.yaml").write_text(text)
    code, images = CODE, Images("registry.test/zeroskew:1f3a9c2")
    paths = compile_models([folder], tmp_path / "out", images, code, root=root)
    assert (tmp_path / "out/fraud/schedules.yaml") in paths
    (folder / "model.yaml").write_text(text.partition("\nschedules:")[0])
    paths = compile_models([folder], tmp_path / "out", images, code, root=root)
    assert not (tmp_path / "out/fraud/schedules.yaml").exists()
    assert all(path.stem != "schedules" for path in paths)


@pytest.mark.parametrize(
    ("pipeline", "parameters", "said"),
    [
        ("materialisation", {"end": "now"}, "no parameter 'end'"),
        ("live-performance", {"days": "many"}, "'many' is not a value of type integer"),
        ("live-performance", {"days": "true"}, "is not a value of type integer"),
        ("materialisation", {"views": "a"}, "is not a value of type list"),
        ("batch-prediction", {}, "cannot run without entity_rows"),
    ],
)
def test_arguments_that_a_pipeline_does_not_take_are_refused_when_it_is_compiled(
    pipeline, parameters, said
):
    section = {
        "pipeline": pipeline,
        "schedule": "0 * * * *",
        "parameters": [{"name": name, "value": value} for name, value in parameters.items()],
    }
    config = load_model_config(MODEL).model_copy(
        update={"schedules": {"mine": ScheduleSection.model_validate(section)}}
    )
    made = {pipeline: compiling.FACTORIES[pipeline](MODEL, None)}
    with pytest.raises(ConfigError) as refused:
        schedule_documents(config, made, namespace="", where="model.yaml")
    assert said in str(refused.value)
    assert "schedules.mine.parameters" in str(refused.value)


def test_with_a_deployment_training_ends_with_its_commit(tmp_path):
    deployment = Deployment("s3://models", "registry.test/triton:1f3a9c2", "team")
    paths = compile_models(
        [MODEL], tmp_path, Images("registry.test/z:1f3a9c2"), CODE, deployment=deployment
    )
    (training,) = [path for path in paths if path.stem == "training"]
    documents = list(yaml.safe_load_all(training.read_text()))
    assert {"exec-publish", "exec-deploy"} <= set(executors(documents))
    spec = documents[1]["spec"]["pipelineSpec"]
    conditions = [
        task["triggerPolicy"]["condition"]
        for task in spec["root"]["dag"]["tasks"].values()
        if "triggerPolicy" in task
    ]
    assert sum("loses" in condition for condition in conditions) == 1
    with_token = [
        name for name in executors(documents)
        if any(
            each["secretName"] == "zeroskew-git"
            for each in platform(documents, name).get("secretAsEnv", ())
        )
    ]  # fmt: skip
    assert with_token == ["exec-deploy"], "no other step may push"


def test_a_namespace_that_leaves_a_version_no_name_is_refused_before_anything_is_written(tmp_path):
    deployment = Deployment("s3://models", "registry.test/triton:1f3a9c2", "n" * 35)
    with pytest.raises(ConfigError, match="52 together"):
        compile_models(
            [MODEL], tmp_path, Images("registry.test/z:1f3a9c2"), CODE, deployment=deployment
        )
    assert not any(tmp_path.iterdir())


def test_the_version_is_named_after_commit_and_content(compiled):
    for name, (pipeline, version) in compiled.items():
        assert pipeline["metadata"]["name"] == f"flight-delay-{name}"
        assert version["spec"]["pipelineName"] == f"flight-delay-{name}"
        assert re.fullmatch(r"1f3a9c2d4e5f-[0-9a-f]{8}", version["spec"]["versionName"])
        whole = f"flight-delay-{name}-{version['spec']['versionName']}"
        assert version["metadata"]["name"] == whole
        assert version["spec"]["tags"]["code"] == CODE.sha
        assert version["metadata"]["labels"]["zeroskew.dev/model"] == "flight_delay"


@pytest.mark.parametrize("seed", ["0", "1234"])
def test_the_same_code_gives_the_same_bytes(tmp_path, seed):
    for out in ("a", "b"):
        done = subprocess.run(
            [
                sys.executable, "-m", "pipelines.compile", str(MODEL), "--out", str(tmp_path / out),
                "--image", "registry.test/zeroskew:1", "--trainer-image", "registry.test/trainer:1",
            ],
            cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed, "ZEROSKEW_CODE_SHA": "f" * 40},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seed = "77"
    for path in (tmp_path / "a").rglob("*.yaml"):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes()


def test_three_steps_need_the_trainer_and_none_a_gpu_unless_model_yaml_says_so(compiled):
    containers = {
        name.removeprefix("exec-"): each["container"]
        for documents in compiled.values()
        for name, each in executors(documents).items()
    }
    on_trainer = {
        name for name, each in containers.items()
        if each["image"] == "registry.test/trainer:1f3a9c2"
    }  # fmt: skip
    assert on_trainer == {"train", "export", "drift-report"}
    others = {each["image"] for name, each in containers.items() if name not in on_trainer}
    assert others == {"registry.test/zeroskew:1f3a9c2"}
    assert all("accelerator" not in each["resources"] for each in containers.values())


def test_each_step_asks_for_what_model_yaml_says(tmp_path):
    folder = tmp_path / "pipelines/flight_delay"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(
        (MODEL / "model.yaml").read_text() + "\nresources:\n  gpu: 2\n  gpu_type: amd.com/gpu\n"
        "  join: {requests: {cpu: 1, memory: 3Gi}, limits: {cpu: 6, memory: 48Gi}}\n"
    )
    images = Images("registry.test/z:1", trainer="registry.test/t:1")
    paths = compile_models([folder], tmp_path / "out", images, CODE, root=tmp_path)
    (training,) = [path for path in paths if path.stem == "training"]
    documents = list(yaml.safe_load_all(training.read_text()))
    found = {n.removeprefix("exec-"): e["container"] for n, e in executors(documents).items()}
    assert found["join"]["resources"].items() >= {
        "resourceCpuRequest": "1", "resourceCpuLimit": "6",
        "resourceMemoryRequest": "3Gi", "resourceMemoryLimit": "48Gi",
    }.items()  # fmt: skip
    assert found["train"]["resources"]["accelerator"]["resourceType"] == "amd.com/gpu"
    assert found["train"]["resources"]["accelerator"]["resourceCount"] == "2"
    assert found["train"]["image"] == "registry.test/t:1"
    assert sum("accelerator" in each["resources"] for each in found.values()) == 1
    (toleration,) = platform(documents, "exec-train")["tolerations"]
    assert toleration["key"] == "amd.com/gpu"


def test_the_platform_image_alone_is_not_enough(monkeypatch):
    for name in ("ZEROSKEW_IMAGE", "ZEROSKEW_TRAINER_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="--trainer-image") as caught:
        compiling._images("registry.test/z:1", "", CODE)
    assert "torch" in str(caught.value)
    assert compiling._images("", "", CODE).trainer == f"zeroskew-trainer:{CODE.tag}"
    with pytest.raises(ConfigError, match="another image tomorrow"):
        compiling._images("registry.test/z:1", "registry.test/t:latest", CODE)


def test_every_step_gets_endpoints_credentials_and_an_unprivileged_user(compiled):
    for documents in compiled.values():
        for name in executors(documents):
            pod = platform(documents, name)
            config = pod["configMapAsEnv"][0]
            assert config["configMapNameParameter"]["runtimeValue"]["constant"] == CONFIG_MAP
            assert {"configMapKey": "ZEROSKEW_REDIS", "envVar": "ZEROSKEW_REDIS"} in config[
                "keyToEnv"
            ]
            assert (
                pod["secretAsEnv"][0]["secretNameParameter"]["runtimeValue"]["constant"] == SECRET
            )
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert int(pod["activeDeadlineSeconds"]) >= 600


def test_the_config_map_to_start_from_has_every_key():
    document = yaml.safe_load((ROOT / "manifests/endpoints.yaml").read_text())
    assert document["metadata"]["name"] == CONFIG_MAP
    assert set(document["data"]) == set(ENDPOINTS)
    text = (ROOT / "manifests/endpoints.yaml").read_text()
    assert all(key in text for key in CREDENTIALS)


def test_nothing_is_installed_at_run_time(compiled):
    for documents in compiled.values():
        for executor in executors(documents).values():
            assert "pip install" not in " ".join(executor["container"]["command"])


def test_the_step_repeats_and_the_engine_does_not(compiled):
    """What Argo is asked to repeat it repeats at every level, or not at all: as it is set up."""
    for documents in compiled.values():
        assert "retryPolicy" not in yaml.safe_dump(documents)
        for name, executor in executors(documents).items():
            values = {each["name"]: each["value"] for each in executor["container"]["env"]}
            assert values[ATTEMPTS] == ("2" if name == "exec-train" else "4")


def test_nothing_asks_for_a_cache_that_cannot_hit(compiled):
    """Each input of training is made anew by a step that must look again."""
    for documents in compiled.values():
        assert "enableCache" not in yaml.safe_dump(documents)


def test_another_code_url_is_another_version_and_not_a_change_of_one(compiled):
    with_url = Code(CODE.sha, CODE.tree, "https://git.test/zeroskew")
    other = Code(CODE.sha, CODE.tree, "https://git.test/elsewhere")
    found = {
        code.url: manifests(HELLO, code, model="flight_delay")[1]
        for code in (CODE, with_url, other)
    }
    names = {each["metadata"]["name"] for each in found.values()}
    assert len(names) == 3
    specs = {each["spec"]["versionName"]: each["spec"] for each in found.values()}
    assert len(specs) == 3


def test_a_spec_that_kubeflow_pipelines_cannot_keep_is_refused():
    @dsl.pipeline(name="hello", description="Blows 🌬 hard.")
    def windy():
        hello_task()

    with pytest.raises(PipelineError, match="cannot keep: 🌬"):
        manifests(windy, CODE, model="m")


@pytest.fixture
def rollback_alone(monkeypatch):
    monkeypatch.setattr(compiling, "FACTORIES", {"rollback": compiling.FACTORIES["rollback"]})
    # They run other pipelines.
    monkeypatch.setattr(compiling, "schedule_documents", lambda *_, **__: [])


def run_main(tmp_path, **given):
    compiling.main(
        models=[MODEL], out=tmp_path, image="registry.test/z:1", trainer_image="registry.test/t:1",
        **given,
    )  # fmt: skip
    found = yaml.safe_load_all((tmp_path / "flight_delay/rollback.yaml").read_text())
    return {each["metadata"].get("namespace") for each in found}


def test_for_one_user_pipelines_are_where_kubeflow_pipelines_runs(rollback_alone, tmp_path):
    with pytest.raises(ConfigError, match="knows pipelines in 'kubeflow' only"):
        run_main(tmp_path, namespace="team")
    assert list(tmp_path.iterdir()) == []
    assert run_main(tmp_path) == {"kubeflow"}


def test_for_several_users_they_are_where_the_user_says(rollback_alone, tmp_path):
    assert run_main(tmp_path, namespace="team", multi_user=True) == {"team"}
    assert run_main(tmp_path, multi_user=True) == {None}


def test_only_a_run_that_a_decision_asked_for_reports_on_it(compiled):
    spec = compiled["training"][1]["spec"]["pipelineSpec"]
    (drifted,) = [t for t in spec["root"]["dag"]["tasks"].values() if "triggerPolicy" in t]
    assert drifted["triggerPolicy"]["condition"].endswith("!= ''")
    inside = spec["components"][drifted["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inside) == {"drift-report"}
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["decision"]["defaultValue"] == ""


def test_nothing_is_joined_or_trained_before_its_gate(compiled):
    tasks = compiled["training"][1]["spec"]["pipelineSpec"]["root"]["dag"]["tasks"]
    assert "gate" in tasks["join"]["dependentTasks"]
    assert "gate-2" in tasks["train"]["dependentTasks"]
    findings = tasks["gate-2"]["inputs"]["artifacts"]["findings"]["taskOutputArtifact"]
    assert findings["producerTask"] == "validate-training-set"


@pytest.mark.parametrize(
    "image",
    ["zeroskew", "zeroskew:latest", "localhost:5000/zeroskew", "zeroskew@sha256:12", "z:main"],
)
def test_an_image_that_may_move_is_refused(image):
    with pytest.raises(ConfigError, match="another image tomorrow"):
        check_image(image)


@pytest.mark.parametrize("image", ["z:1f3a9c2", "localhost:5000/z:v1", f"z@sha256:{'a' * 64}"])
def test_an_image_that_cannot_move_is_taken(image):
    assert check_image(image) == image


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def nothing():
    pass


def pipeline_named(name, description="d"):
    @dsl.pipeline(name=name, description=description)
    def pipeline():
        nothing()

    return pipeline


def test_a_name_too_long_for_a_label_is_refused():
    with pytest.raises(PipelineError, match="64 letters"):
        manifests(pipeline_named("a" * 64), CODE, model="m")
    assert manifests(pipeline_named("a" * 63), CODE, model="m")


def test_a_spec_too_large_for_etcd_is_refused(monkeypatch):
    monkeypatch.setattr(compiling, "MAX_BYTES", 2_000)
    with pytest.raises(PipelineError, match="at most 2,000"):
        manifests(pipeline_named("a", description="x" * 3_000), CODE, model="m")


def test_a_model_outside_the_repository_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not inside the platform's image"):
        compile_models([tmp_path], tmp_path / "out", Images(), CODE)


def test_changed_files_change_the_tree_hash_and_the_tag(tmp_path):
    (tmp_path / "zeroskew").mkdir()
    source = tmp_path / "zeroskew/a.py"
    source.write_text("x = 1\n")
    before = compiling._tree_hash(tmp_path)
    (tmp_path / "zeroskew/notes.txt").write_text("not code")
    assert compiling._tree_hash(tmp_path) == before
    source.write_text("x = 2\n")
    assert compiling._tree_hash(tmp_path) != before
    assert Code("f" * 40, before).tag == "f" * 12
    assert Code("unknown", before).tag == f"unknown-{before[:8]}"
    assert Code("f" * 40 + "-dirty", before).tag == f"{'f' * 12}-{before[:8]}"
