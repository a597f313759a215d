"""Execution providers: what was asked for is what runs, or the worker does not start."""

from typing import get_args

import onnxruntime
import pytest
from unit.runtime.onnx_files import negating

from ondemand.errors import ConfigurationError
from ondemand.runtime import execution_providers
from ondemand.runtime.execution_providers import PROVIDERS, Provider, check_opened, wanted
from ondemand.runtime.onnx import OnnxSession
from ondemand.settings import WorkerSettings

CUDA_BUILD = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


class Session:
    """What ONNX Runtime gives where a provider did not start: a session without it."""

    def __init__(self, content, options, *, providers, enable_fallback):
        assert "CUDAExecutionProvider" in providers
        assert enable_fallback == 0

    def get_providers(self):
        return ["CPUExecutionProvider"]


@pytest.fixture
def cuda_build(monkeypatch):
    """A build with CUDA on a computer without it."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA_BUILD)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)


def test_the_setting_takes_exactly_the_names_that_are_known():
    """A name that can be set can be found, and the reverse."""
    (names, _) = get_args(WorkerSettings.model_fields["execution_providers"].annotation)
    assert set(get_args(names)) == set(PROVIDERS)


def test_the_runtime_knows_every_name():
    """Names of another version would be "missing" for ever."""
    assert {provider.name for provider in PROVIDERS.values()} <= set(
        onnxruntime.get_all_providers()
    )


def test_the_order_asked_for_is_the_order_passed_on():
    """The first one that can run an operator gets it."""
    assert wanted(("tensorrt", "cuda", "cpu"), CUDA_BUILD) == CUDA_BUILD
    assert wanted(("cuda",), CUDA_BUILD) == ["CUDAExecutionProvider"]


@pytest.mark.parametrize("asked", [(), ("cpu", "cpu")])
def test_each_provider_is_named_once(asked):
    """None, or one twice, is a misunderstanding."""
    with pytest.raises(ConfigurationError, match="each provider once"):
        wanted(asked, CUDA_BUILD)


def test_an_unknown_name_is_refused_with_the_known_ones():
    """Also for callers that have no settings."""
    with pytest.raises(ConfigurationError, match=r"asks for gpu, .* cpu, cuda, tensorrt"):
        wanted(("gpu", "cpu"), CUDA_BUILD)


@pytest.mark.parametrize("asked", [("cuda",), ("cuda", "cpu"), ("tensorrt", "cuda", "cpu")])
def test_this_build_refuses_cuda_and_says_what_to_install(asked):
    """Asked for CUDA, this build has the processor only: an error, not a fallback."""
    with pytest.raises(ConfigurationError) as caught:
        OnnxSession(negating(), threads=1, execution_providers=asked)
    message = str(caught.value)
    assert f"asks for {', '.join(name for name in asked if name != 'cpu')}, " in message
    assert "that is installed has cpu" in message
    assert "install onnxruntime-gpu, built for this system" in message


@pytest.mark.parametrize("asked", [("cuda",), ("cuda", "cpu")])
def test_a_provider_that_does_not_start_is_an_error(cuda_build, asked):
    """The build has it, the computer does not: ONNX Runtime drops it and says nothing."""
    with pytest.raises(ConfigurationError, match=r"asks for cuda; .* could not start it"):
        OnnxSession(negating(), threads=1, execution_providers=asked)


def test_all_that_was_asked_for_must_be_open():
    """One of two is missing: that one is named."""
    check_opened(("cuda", "cpu"), CUDA_BUILD)
    with pytest.raises(ConfigurationError, match="asks for openvino;"):
        check_opened(("openvino", "cuda"), CUDA_BUILD)


def test_what_a_provider_cannot_run_goes_to_the_processor_only_if_that_was_asked_for(monkeypatch):
    """With the real runtime: its Azure provider runs no operator of this model."""
    others = {**PROVIDERS, "azure": Provider("AzureExecutionProvider", "onnxruntime")}
    monkeypatch.setattr(execution_providers, "PROVIDERS", others)
    OnnxSession(negating(), threads=1, execution_providers=("azure", "cpu"))
    with pytest.raises(ConfigurationError, match=r"CPU EP.*add cpu to let the processor run"):
        OnnxSession(negating(), threads=1, execution_providers=("azure",))
