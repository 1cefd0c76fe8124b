"""What was found when a model's layers and the model itself were computed alone and in company."""

from __future__ import annotations

from dataclasses import dataclass

from microturn.kernels.evidence import Evidence


@dataclass(frozen=True)
class Finding:
    """One layer, or one way to run the whole model."""

    name: str
    """A layer's name in the model, or what was compared."""
    kind: str
    """A layer's class, or `model`."""
    evidence: Evidence


@dataclass(frozen=True)
class Certificate:
    """Whether a model is batch-invariant on the examples that it was given. Prints as a table.

    Samples were compared, so it proves variance where it finds some, and makes invariance likely where it finds none.
    """

    model: str
    fingerprint: str
    """The numeric fingerprint of the process that made it; it says nothing of others."""
    layers: tuple[Finding, ...]
    """Each leaf module in the order of its first call: its recorded inputs alone and in batches."""
    whole: tuple[Finding, ...]
    """The model from its input to its output."""

    @property
    def is_invariant(self) -> bool:
        """True if the model and each of its layers gave the same bits in every arrangement."""
        return not self.variant and any(finding.evidence.checks for finding in self.whole)

    @property
    def variant(self) -> tuple[Finding, ...]:
        """What gave other bits somewhere."""
        return tuple(one for one in self.layers + self.whole if one.evidence.mismatches)

    def __str__(self) -> str:
        """A table of all findings under one line of summary."""
        findings = self.layers + self.whole
        width = max((len(finding.name) for finding in findings), default=0)
        kind = max((len(finding.kind) for finding in findings), default=0)
        verdict = (
            "batch-invariant" if self.is_invariant else f"NOT batch-invariant in {len(self.variant)} places"
        )
        head = f"{self.model}: {verdict} ({self.fingerprint})"
        lines = [f"  {one.name:<{width}}  {one.kind:<{kind}}  {_verdict(one.evidence)}" for one in findings]
        return "\n".join([head, *lines])


def _verdict(evidence: Evidence) -> str:
    if evidence.mismatches:
        return f"{evidence.mismatches} of {evidence.checks} differ, first: {evidence.first}"
    return f"same bits in {evidence.checks} checks" if evidence.checks else "not compared"
