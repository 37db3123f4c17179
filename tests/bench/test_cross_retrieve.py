"""The benchmark of a large document through both gateways, small: processes of their own, byte for byte, bounded memory."""

import re

from bench import cross_retrieve


def test_a_document_passes_both_gateways_in_bounded_memory(tmp_path):
    said = "\n".join(cross_retrieve.measure(tmp_path, 1 / 16))
    assert "through both gateways / directly" in said
    (grown,) = re.findall(r"worst process: (-?\d+) MiB above idle", said)
    assert int(grown) <= cross_retrieve.GOAL_MIB
