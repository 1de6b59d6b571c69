"""Truth: the record that the page is about."""

from __future__ import annotations

from mm_mhmoe_eval.results import ResultRecord
from mm_mhmoe_eval.runner import Evaluation, write_evaluation

from mm_mhmoe.cli import run


def test_scores_of_texts_need_no_pictures(tmp_path, capsys):
    record = ResultRecord(
        task="lm_eval:choose",
        task_version=1,
        kind="lm_eval",
        model="mine",
        metrics={"acc": 0.125},
        samples=8,
        seed=0,
        headline=["acc"],
        checksums={"test": "of the prompts"},
    )
    write_evaluation(Evaluation(record=record, samples=[{"doc_id": 0}]), tmp_path / "scores", log_samples=True)
    run(["eval", "report", str(tmp_path / "scores"), f"--out={tmp_path / 'page.html'}"])
    page = (tmp_path / "page.html").read_text()
    assert "lm_eval:choose" in page and "12.5" in page and "log_samples" not in page
