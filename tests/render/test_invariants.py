"""The invariants on every values file and preset; and every invariant can be broken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from support.invariants import INVARIANTS
from support.matrix import scenario
from support.objects import Object, one

BROKEN: dict[str, tuple[str, Callable[[list[Object]], Any]]] = {}


@pytest.mark.parametrize("key", INVARIANTS)
def test_every_values_file_holds(case, key):
    assert list(INVARIANTS[key](case.objects)) == []


def broken(key: str, case: str = "prod") -> Callable:
    """Enters a change of a release's objects that breaks an invariant."""

    def enter(change: Callable[[list[Object]], Any]) -> Callable:
        BROKEN[f"{key}: {change.__name__}"] = (case, change)
        return change

    return enter


def pod(objects: list[Object]) -> Object:
    return one(objects, "Deployment", "llama")["spec"]["template"]


def server(objects: list[Object]) -> Object:
    return pod(objects)["spec"]["containers"][0]


@broken("pods_are_restricted")
def privileged(objects):
    server(objects)["securityContext"]["privileged"] = True


@broken("root_file_systems_are_read_only")
def writable_root(objects):
    server(objects)["securityContext"]["readOnlyRootFilesystem"] = False


@broken("no_token_and_no_service_links")
def token(objects):
    del pod(objects)["spec"]["automountServiceAccountToken"]


@broken("names_are_valid_and_unique")
def same_object_twice(objects):
    objects.append(one(objects, "Service", "llama"))


@broken("names_are_valid_and_unique")
def a_name_in_capitals(objects):
    one(objects, "Service", "llama")["metadata"]["name"] = "LLM"


@broken("nothing_is_null_or_left_unrendered")
def null(objects):
    server(objects)["command"] = None


@broken("nothing_is_null_or_left_unrendered")
def no_value(objects):
    server(objects)["args"][0] = "<no value>"


@broken("names_in_lists_are_unique")
def variable_twice(objects):
    server(objects)["env"].append(server(objects)["env"][0])


@broken("mounts_have_volumes_and_volumes_are_mounted")
def mount_without_volume(objects):
    pod(objects)["spec"]["volumes"].pop()


@broken("mounts_have_volumes_and_volumes_are_mounted")
def volume_without_mount(objects):
    server(objects)["volumeMounts"].pop(0)  # the server alone has /dev/shm


@broken("scratch_volumes_have_a_limit")
def no_limit(objects):
    pod(objects)["spec"]["volumes"][0]["emptyDir"] = {}


@broken("rendered_references_exist")
def no_account(objects):
    objects.remove(one(objects, "ServiceAccount", "llama"))


@broken("ports_are_named_and_exist")
def probe_of_no_port(objects):
    server(objects)["livenessProbe"]["httpGet"]["port"] = "health"


@broken("services_reach_pods")
def another_target_port(objects):
    one(objects, "Service", "llama")["spec"]["ports"][0]["targetPort"] = "web"


@broken("services_reach_pods")
def another_selector(objects):
    one(objects, "Service", "llama")["spec"]["selector"]["app.kubernetes.io/name"] = "x"


@broken("pods_of_two_models_are_told_apart")
def a_selector_of_all(objects):
    del one(objects, "Service", "llama")["spec"]["selector"]["gpu-inference.io/model"]


@broken("workloads_select_their_pods")
def another_label(objects):
    pod(objects)["metadata"]["labels"]["gpu-inference.io/model"] = "x"


@broken("devices_are_requested_as_limited")
def fewer_gpus(objects):
    server(objects)["resources"]["requests"]["nvidia.com/gpu"] = 0


@broken("every_container_is_bounded")
def unbounded(objects):
    del server(objects)["resources"]["limits"]["memory"]


@broken("images_are_pinned")
def latest(objects):
    server(objects)["image"] = "registry.example.com:5000/vllm"


@broken("autoscalers_own_the_replicas")
def replicas_too(objects):
    one(objects, "Deployment", "llama")["spec"]["replicas"] = 2


@broken("autoscalers_own_the_replicas")
def another_target(objects):
    one(objects, "HorizontalPodAutoscaler", "llama")["spec"]["scaleTargetRef"]["name"] = "vllm"


@broken("no_two_autoscalers_fight")
def second_autoscaler(objects):
    second = copy.deepcopy(one(objects, "HorizontalPodAutoscaler", "llama"))
    second["metadata"]["name"] = "second"
    objects.append(second)


@broken("budgets_protect_and_never_block")
def zero_unavailable(objects):
    one(objects, "PodDisruptionBudget", "llama")["spec"]["maxUnavailable"] = 0


@broken("budgets_protect_and_never_block")
def overlapping(objects):
    second = copy.deepcopy(one(objects, "PodDisruptionBudget", "llama"))
    second["metadata"]["name"] = "second"
    objects.append(second)


@broken("loading_is_never_killed")
def impatient(objects):
    server(objects)["startupProbe"]["failureThreshold"] = 3


@broken("loading_is_never_killed")
def no_startup_probe(objects):
    del server(objects)["startupProbe"]


@broken("drains_fit_into_the_grace_period")
def short_grace(objects):
    pod(objects)["spec"]["terminationGracePeriodSeconds"] = 5


@broken("rollouts_outlast_the_start")
def default_deadline(objects):
    pod(objects)["metadata"]["annotations"]["gpu-inference.io/load-seconds"] = "900"
    del one(objects, "Deployment", "llama")["spec"]["progressDeadlineSeconds"]


@broken("routes_lead_to_services", "traffic")
def backend_elsewhere(objects):
    ingress = one(objects, "Ingress", "llm")
    ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] = {"number": 8080}


@broken("tolerations_name_a_key")
def tolerates_everything(objects):
    pod(objects)["spec"]["tolerations"] = [{"operator": "Exists"}]


@broken("only_tests_are_hooks")
def install_hook(objects):
    one(objects, "Service", "llama")["metadata"]["annotations"] = {"helm.sh/hook": "post-install"}


def test_every_invariant_is_broken_by_something():
    assert {key.split(": ")[0] for key in BROKEN} == set(INVARIANTS)


@pytest.mark.parametrize("key", BROKEN)
def test_a_broken_invariant_is_named(key):
    case, change = BROKEN[key]
    objects = copy.deepcopy(scenario(case).objects)
    wanted = key.split(": ")[0]
    assert list(INVARIANTS[wanted](objects)) == []
    change(objects)
    assert list(INVARIANTS[wanted](objects)), f"{wanted} does not see it"
