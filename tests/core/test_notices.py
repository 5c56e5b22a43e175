"""A notice is a text with a kind, also in copies."""

from __future__ import annotations

import copy
import json
import pickle

from microseg.core.notices import Notice


def test_copies_keep_the_kind() -> None:
    notice = Notice("page", "page 2 of 3 is measured")
    for other in (copy.copy(notice), copy.deepcopy(notice), pickle.loads(pickle.dumps(notice))):
        assert (other, other.kind) == ("page 2 of 3 is measured", "page")
    assert json.dumps([notice]) == '["page 2 of 3 is measured"]'
