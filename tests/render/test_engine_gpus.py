"""Engines for parts of GPUs, and for GPUs that are claimed: the Job asks for what the server asks for."""

from __future__ import annotations

from support.job_problems import engine
from support.objects import env_of, one
from support.render import render

MIG = {"type": "nvidia-a100-80gb", "sharing": "mig", "mig": {"profile": "3g.40gb"}}


def test_an_engine_for_a_slice_is_another_one(major):
    """Of what a GPU has, a slice has a part: what was tuned for one is not for the other."""
    whole, part = (
        one(render(engine(accelerator=gpu), major=major), "Job") for gpu in ({"type": "nvidia-a100-80gb"}, MIG)
    )
    asked = [job["spec"]["template"]["spec"]["initContainers"][0] for job in (whole, part)]
    assert ["nvidia.com/gpu" in step["resources"]["limits"] for step in asked] == [True, False]
    assert asked[1]["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == 1
    assert env_of(asked[0])["ENGINE"] != env_of(asked[1])["ENGINE"]


def test_claimed_gpus_are_claimed_for_the_build_too():
    objects = render({"cloud": "gke", **engine(accelerator={"type": "nvidia-h100", "dra": True})})
    template = one(objects, "ResourceClaimTemplate")["metadata"]["name"]
    for kind in ("Job", "Deployment"):
        spec = one(objects, kind)["spec"]["template"]["spec"]
        assert spec["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": template}], kind
    for step in one(objects, "Job")["spec"]["template"]["spec"]["initContainers"]:
        assert step["resources"]["claims"] == [{"name": "gpu"}]
        assert "nvidia.com/gpu" not in step["resources"]["limits"]
