"""Which traces are recorded: every delegation and every fault, and of the rest what the environment says."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, StaticSampler
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from microturn.protocols import telemetry_names as names
from microturn.protocols.trace_ids import ids_to_use

_ALWAYS = frozenset({names.PROCESS_SPAN, names.FLIGHT_SPAN, names.WEAVE_SPAN})


class DelegationSampler(Sampler):
    """Records roots that belong to a delegation or tell of a fault, with all in them, and leaves the rest to another.

    An operator who turns all sampling off gets none of ours either.
    """

    def __init__(self, others: Sampler) -> None:
        self._others = others
        self._is_off = isinstance(others, StaticSampler) and others.get_description() == "AlwaysOffSampler"

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide, as the SDK asks for each span."""
        parent = get_current_span(parent_context).get_span_context()
        is_ours = name in _ALWAYS or names.MESSAGE_ID in (attributes or {})
        is_wanted = parent.trace_flags.sampled if parent.is_valid else is_ours
        if is_wanted and not self._is_off:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)
        return self._others.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """What it is, for operators."""
        return f"DelegationSampler{{{self._others.get_description()}}}"


class TaskIdGenerator(IdGenerator):
    """Gives a delegation's spans the ids that follow from its task, and all others random ones."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_span_id(self) -> int:
        """The id of the span that is started now."""
        ids = ids_to_use()
        return self._random.generate_span_id() if ids is None else ids.span_id

    def generate_trace_id(self) -> int:
        """The id of the trace that the span begins."""
        ids = ids_to_use()
        return self._random.generate_trace_id() if ids is None else ids.trace_id
