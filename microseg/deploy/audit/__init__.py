"""The audit of a report: few drawn fields that a person labels or counts."""
