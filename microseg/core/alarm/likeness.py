"""Whether the fields of a section are like labelled fields that validate an engine, by what the alarm measures of both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from microseg.core.alarm.schema import GROUPS, FieldAlarm, Group
from microseg.core.alarm.scores import group_of
from microseg.core.statistics.student import t_quantile

# Sections like the validated fields that count as others: one in a thousand for each group of measures.
_CONFIDENCE = 0.999
# Degrees of freedom that the factor has at least. With fewer it exceeds every section, however foreign: two specimens would
# give 318. So few show hardly a range, and a raised alarm is then rather believed.
_LEAST_DEGREES = 3


def differing_groups(
    validated: Sequence[FieldAlarm], specimens: Sequence[str], section: Sequence[FieldAlarm]
) -> tuple[Group, ...]:
    """Groups of measures in which a section lies outside the range that validated fields span.

    The range is a prediction interval (ISO 16269-8:2004: one further observation of a normal distribution whose
    mean and standard deviation come from the sample). In place of an observation stands the distance from the mean of the
    validated fields: the root mean square over the measures of the group. Each validated field is compared with the other
    specimens, as a section is compared with all of them. The limit is the root mean square of their distances times Student's
    t for one degree of freedom less than there are specimens, and at least the largest of their distances. The factor is 10.2
    for up to four specimens, 4.8 for eight and 3.7 for sixteen: few labelled fields show a range that is only coarsely known.
    It is that of a single observation, though a section has several fields: what sets a section apart all its fields share.

    Args:
        validated: what the alarm measures of each labelled field.
        specimens: the specimen or spot of each of them.
        section: what the same calibration of the alarm measures of each field of the section.

    Returns:
        The groups; empty where the section is in the range, and where fewer than two specimens or no field show one.
    """
    names = list(dict.fromkeys(specimens))
    if len(names) < 2 or not section:
        return ()
    of = np.array([names.index(specimen) for specimen in specimens])
    factor = t_quantile(_CONFIDENCE, max(_LEAST_DEGREES, len(names) - 1))
    found: list[Group] = []
    for group in GROUPS:
        common = _common([*validated, *section], group)
        if not common:
            continue
        known, new = (_values(fields, common) for fields in (validated, section))
        means = np.array([known[of == index].mean(0) for index in range(len(names))])
        others = (means.sum(0) - means) / (len(names) - 1)
        distances = _distances(known - others[of])
        scale = np.sqrt(np.mean([np.mean(distances[of == index] ** 2) for index in range(len(names))]))
        limit = max(float(factor * scale), float(distances.max()))
        if np.sqrt(np.mean(_distances(new - means.mean(0)) ** 2)) > limit:
            found.append(group)
    return tuple(found)


def _common(fields: Sequence[FieldAlarm], group: Group) -> list[str]:
    """Measures of a group that all fields have. Of the features a field holds their distance alone, its score."""
    if group == "features":
        return ["features"] if all(group in field.scores for field in fields) else []
    return [
        name
        for name in fields[0].deviations
        if group_of(name) == group and all(name in field.deviations for field in fields)
    ]


def _values(fields: Sequence[FieldAlarm], names: Sequence[str]) -> NDArray[np.float64]:
    """Measures of fields, (n, measures)."""
    if names == ["features"]:
        return np.array([[field.scores["features"]] for field in fields])
    return np.array([[field.deviations[name] for name in names] for field in fields])


def _distances(off: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square over the measures, (n,)."""
    return np.asarray(np.sqrt((off**2).mean(1)))
