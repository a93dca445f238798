"""`python -m bench.readme`: updates the table of speeds in README.md from results.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report import RESULTS

README = Path(__file__).parents[1] / "README.md"
_BEGIN, _END = "| on {cores} cores | changes/s | compared with |\n", "\n\n"


def table(results: Mapping[str, Any]) -> str:
    """The Markdown table, with rates rounded to thousands."""
    rows = [
        (
            "bytes of the binlog to Arrow columns, checksums verified: multi-row events of 17 mixed columns",
            results["bulk_decode_changes_per_s"],
            f"{results['decode_bulk_vs_mysql_replication']:.0f} times mysql-replication; "
            f"{results['decode_bulk_vs_floor']:.2f} times reading the socket and dropping the bytes",
        ),
        (
            "the same, one-row transactions",
            results["oltp_decode_changes_per_s"],
            f"{results['decode_oltp_vs_mysql_replication']:.0f} times; {results['decode_oltp_vs_floor']:.2f}",
        ),
        (
            "MySQL to JetStream, acknowledged and fenced, `arrow`",
            results["bulk_arrow_changes_per_s"],
            f"{results['bulk_arrow_vs_bare_publish']:.2f} times a loop that only publishes the same messages, "
            "in atomic batches",
        ),
        (
            "the same, `json`, 1,000 changes per message",
            results["bulk_json_batched_changes_per_s"],
            f"{results['bulk_json_batched_vs_bare_publish']:.2f}",
        ),
        (
            "the same, `json`, one change per message",
            results["bulk_json_changes_per_s"],
            f"{results['bulk_json_vs_bare_publish']:.2f}",
        ),
        (
            "JetStream to a DuckDB mirror, from `arrow`",
            results["bulk_mirror_arrow_changes_per_s"],
            f"{results['bulk_mirror_arrow_vs_fetch']:.2f} times a loop that only fetches",
        ),
    ]
    lines = [f"| {what} | {round(rate, -3):,} | {comparison} |" for what, rate, comparison in rows]
    head = _BEGIN.format(cores=results["measured_on"]["cores"])
    return head + "| --- | ---: | --- |\n" + "\n".join(lines)


def main() -> None:
    """Replace the old table."""
    text = README.read_text()
    made = table(json.loads(RESULTS.read_text()))
    begin = text.index(made.splitlines()[0])
    README.write_text(text[:begin] + made + text[text.index(_END, begin) :])


if __name__ == "__main__":
    main()
