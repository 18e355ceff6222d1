"""The real graph on a machine whose faults are made: a GPU without memory, a model that is not there.

`import_path: tests.integration.faulty_graph:build`. Only the lowest call is replaced, the one into CTranslate2; what
becomes of its error is the product's own code.
"""

# no `from __future__ import annotations` here: Serve looks at the annotation of `args` itself to build GraphArgs

from dataclasses import replace
from typing import Any

from ray import serve
from ray.serve import Application

from serve_app import graph
from serve_app.deployments.whisper import WhisperReplica
from serve_app.graph_args import GraphArgs
from serve_app.models.options import ModelEnvironment
from serve_app.models.speech.backends import BackendName
from serve_app.models.speech.whisper.options import WhisperArgs


class FullGpu:
    """CTranslate2's model on a GPU that has no memory left for decoding."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        # word for word what CTranslate2 raises
        raise RuntimeError("CUDA failed with error out of memory")


class WhisperOnFullGpu(WhisperReplica):
    """Where the graph says GPU, the CPU computes until memory runs out."""

    backend_name = BackendName.FASTER_WHISPER

    def __init__(self, options: WhisperArgs, environment: ModelEnvironment) -> None:
        super().__init__(replace(options, device="cpu"), environment)
        if options.device != "cpu":
            backend: Any = self._model.get().backend
            backend._model = FullGpu(backend._model)


class WhisperWithoutModel(WhisperReplica):
    """Is told to load what is not there."""

    backend_name = BackendName.TRANSFORMERS

    def __init__(self, options: WhisperArgs, environment: ModelEnvironment) -> None:
        nowhere = ("/nowhere/whisper-large", "/nowhere/whisper-small")
        super().__init__(replace(options, models=nowhere), environment)


def build(args: GraphArgs) -> Application:
    """Return the graph with two faulty backends."""
    scaling = {"min_replicas": 0, "max_replicas": 1}
    graph.FasterWhisper = serve.deployment(WhisperOnFullGpu, name="FasterWhisper", autoscaling_config=scaling)
    graph.TransformersWhisper = serve.deployment(
        WhisperWithoutModel, name="TransformersWhisper", autoscaling_config=scaling
    )
    return graph.build(args)
