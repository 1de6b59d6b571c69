from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE, Tokenizer
from mm_mhmoe_eval.comparison import System, compare, read_systems
from mm_mhmoe_eval.report.galleries import VIEWS, CardGallery, galleries
from mm_mhmoe_eval.report.record_page import RecordPage, write_records_page
from mm_mhmoe_eval.report_data import ExpertMapSection, PictureURI, picture_uri
from mm_mhmoe_eval.results import ResultRecord

from mm_mhmoe.commands.expert_views import maps_of
from mm_mhmoe.commands.sources import data_path
from mm_mhmoe.models.checkpoints import CONFIG, load
from mm_mhmoe.models.tasks import TaskModel

_SIDE = 160  # pixels of a picture on the page


def eval_report(
    records: list[str],
    out: Path = Path("report.html"),
    metrics: list[str] | str | None = None,
    shards: str = "demo:test",
    samples: int = 12,
    maps: int = 3,
    title: str = "Scores",
) -> None:
    """Writes a page about records: tables, scores by type, right and wrong answers, expert maps.

    Right and wrong answers are shown of records that were made with `eval --log_samples true`.

    Args:
        records: what to show, as words before the options, as for eval compare.
        out: the page, one file that needs no other.
        metrics: which to show, separated by commas; without it, those that the tasks name.
        shards: where the pictures of the answers lie; several joined by ::.
        samples: answers to show of a task and direction; 0: none.
        maps: pictures of these whose experts are drawn, with the first model whose directory is there; 0: none.
        title: heading of the page.
    """
    systems = read_systems(records)
    tables = compare(systems, metrics.split(",") if isinstance(metrics, str) else metrics)
    kinds = {record.task: record.kind for system in systems for record in system.records}
    with_pictures = [table.task for table in tables if kinds[table.task] in VIEWS]
    logged = [task for task in with_pictures if any(system.samples(task) for system in systems)]
    shown: dict[str, list[CardGallery]] = {}
    section, notes = None, []
    if samples and logged:
        dataset = ShardDataset(data_path(shards), "images")
        drawn: list[int] = []
        for task in logged:
            scored = [system for system in systems if system.of(task)]
            record = next(record for system in scored for record in system.of(task))
            place = _places(dataset, record)
            shown[task] = galleries(task, kinds[task], scored, _pictures(dataset, place), count=samples)
            drawn += [place[key] for gallery in shown[task] for card in gallery.cards for key in card.keys]
        section = _maps(systems, dataset, list(dict.fromkeys(drawn))[:maps])
        if maps and section is None:
            notes.append(
                "No expert maps: none of the models is a sparse one that reads texts and whose directory is there."
            )
    elif samples and with_pictures:
        notes.append("No answers are shown: the records were made without --log_samples.")
    page = RecordPage(title=title, systems=systems, tables=tables, galleries=shown, expert_maps=section, notes=notes)
    write_records_page(page, out)
    print(f"report: {out}")


def _places(dataset: ShardDataset, record: ResultRecord) -> dict[str, int]:
    """Where the pictures of a record's samples are. Other shards may have the same keys; checksums tell them apart."""
    scored = set(record.checksums.values())
    place = {key: number for number, key in enumerate(dataset.keys) if dataset.place(number)[0] in scored}
    if not place:
        raise ValueError(f"shards: {record.task} was scored on other ones; name those as well, joined by ::")
    return place


def _pictures(dataset: ShardDataset, place: dict[str, int]) -> Callable[[str], PictureURI]:
    @cache
    def picture(key: str) -> PictureURI:
        if key not in place:
            raise ValueError(f"shards: picture {key} of the records is not among them; name all that were scored")
        return picture_uri(dataset.picture(place[key]), max_side=_SIDE)

    return picture


def _maps(systems: list[System], dataset: ShardDataset, chosen: list[int]) -> ExpertMapSection | None:
    """Of the first system with a sparse model that reads texts and is still where its record says."""
    for system in systems:
        directory = Path(system.records[0].model_dir or "")
        if not chosen or not all((directory / name).is_file() for name in (CONFIG, TOKENIZER_FILE)):
            continue
        model = load(directory)
        if isinstance(model, TaskModel) and model.config.ffn != "dense":
            rule = f"Pictures of the answers above, in the encoder of {system.name}."
            return maps_of(model, dataset, Tokenizer.load(directory), chosen, rule)
    return None
