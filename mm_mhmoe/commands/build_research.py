"""The recipes of `data build` for data sets of research: each one's options. Their cards say where to get the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mm_mhmoe.commands.build import build

if TYPE_CHECKING:
    from mm_mhmoe_data.recipes.research_options import BuildOptions


def coco(
    root: Path,
    out: Path,
    image_size: int = 0,
    quality: int = 90,
    samples_per_shard: int = 1000,
    limit: int | None = None,
    workers: int | None = None,
) -> None:
    """Turns COCO's captions, in Karpathy's splits, into shards that CLIP_benchmark reads too.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: holds train2014/, val2014/ and dataset_coco.json.
        out: directory to write.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of the WebP pictures that are made then, 1 to 100.
        samples_per_shard: at most.
        limit: only the first so many pictures of each split, for a trial.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.coco import plan_coco

    options = _options(image_size, quality, samples_per_shard, limit)
    build(plan_coco(root, options), out, workers)


def flickr30k(
    root: Path,
    out: Path,
    image_size: int = 0,
    quality: int = 90,
    samples_per_shard: int = 1000,
    limit: int | None = None,
    workers: int | None = None,
) -> None:
    """Turns Flickr30k, in Karpathy's splits, into shards that CLIP_benchmark reads too.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: holds flickr30k-images/ and dataset_flickr30k.json.
        out: directory to write.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of the WebP pictures that are made then, 1 to 100.
        samples_per_shard: at most.
        limit: only the first so many pictures of each split, for a trial.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.flickr30k import plan_flickr30k

    options = _options(image_size, quality, samples_per_shard, limit)
    build(plan_flickr30k(root, options), out, workers)


def visual_genome(
    root: Path,
    out: Path,
    max_phrases: int | None = None,
    karpathy: Path | None = None,
    image_size: int = 0,
    quality: int = 90,
    samples_per_shard: int = 1000,
    limit: int | None = None,
    workers: int | None = None,
) -> None:
    """Turns Visual Genome into shards whose captions are the phrases about regions.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: holds VG_100K/, VG_100K_2/, region_descriptions.json and image_data.json.
        out: directory to write.
        max_phrases: at most so many different phrases of a picture; all by default.
        karpathy: COCO's dataset_coco.json. Pictures that are in its val and test splits are left out.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of the WebP pictures that are made then, 1 to 100.
        samples_per_shard: at most.
        limit: only the first so many pictures of each split, for a trial.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.visual_genome import plan_visual_genome

    options = _options(image_size, quality, samples_per_shard, limit)
    build(plan_visual_genome(root, options, max_phrases=max_phrases, karpathy=karpathy), out, workers)


def vqav2(
    root: Path,
    out: Path,
    rest_val: int = 1000,
    min_count: int = 9,
    seed: int = 0,
    image_size: int = 0,
    quality: int = 90,
    samples_per_shard: int = 1000,
    limit: int | None = None,
    workers: int | None = None,
) -> None:
    """Turns VQAv2 into shards of pictures, questions and answers in BEiT-3's splits, and its answer vocabulary.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: holds train2014/, val2014/, perhaps test2015/, and the official files in vqa/.
        out: directory to write.
        rest_val: val pictures to choose models by; the others are for training.
        min_count: an answer is in the vocabulary if so many questions have it.
        seed: of the choice of those pictures.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of the WebP pictures that are made then, 1 to 100.
        samples_per_shard: at most.
        limit: only the first so many pictures of each split, for a trial.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.vqav2 import plan_vqav2

    options = _options(image_size, quality, samples_per_shard, limit)
    build(plan_vqav2(root, options, rest_val=rest_val, min_count=min_count, seed=seed), out, workers)


def nlvr2(
    root: Path,
    out: Path,
    image_size: int = 0,
    quality: int = 90,
    samples_per_shard: int = 1000,
    limit: int | None = None,
    workers: int | None = None,
) -> None:
    """Turns NLVR2 into shards of a sentence and two pictures, KEY.left and KEY.right.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: holds images/train/, dev/, test1/ and the repository lil-lab/nlvr as nlvr/.
        out: directory to write.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of the WebP pictures that are made then, 1 to 100.
        samples_per_shard: at most.
        limit: only the first so many sentences of each split, for a trial.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.nlvr2 import plan_nlvr2

    options = _options(image_size, quality, samples_per_shard, limit)
    build(plan_nlvr2(root, options), out, workers)


def nocaps(
    root: Path,
    out: Path,
    image_size: int = 0,
    quality: int = 90,
    samples_per_shard: int = 1000,
    limit: int | None = None,
    workers: int | None = None,
) -> None:
    """Turns NoCaps into shards that CLIP_benchmark reads too.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: holds val/ and nocaps_val_4500_captions.json; for the test set test/ and nocaps_test_image_info.json.
        out: directory to write.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of the WebP pictures that are made then, 1 to 100.
        samples_per_shard: at most.
        limit: only the first so many pictures of each split, for a trial.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.nocaps import plan_nocaps

    options = _options(image_size, quality, samples_per_shard, limit)
    build(plan_nocaps(root, options), out, workers)


def imagenet(
    root: Path,
    out: Path,
    val_labels: Path | None = None,
    seed: int = 0,
    image_size: int = 0,
    quality: int = 90,
    samples_per_shard: int = 1000,
    limit: int | None = None,
    workers: int | None = None,
) -> None:
    """Turns ImageNet-1k into shards that CLIP_benchmark reads too.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: holds train/ and val/ with a folder for each class; val/ may be flat.
        out: directory to write.
        val_labels: where val/ is flat: LOC_val_solution.csv, or a WordNet id a line in the order of the pictures.
        seed: of the order of the pictures.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of the WebP pictures that are made then, 1 to 100.
        samples_per_shard: at most.
        limit: only the first so many pictures of each split, for a trial.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.imagenet import plan_imagenet

    options = _options(image_size, quality, samples_per_shard, limit)
    build(plan_imagenet(root, options, val_labels=val_labels, seed=seed), out, workers)


def img2dataset(
    root: Path,
    out: Path,
    min_side: int | None = None,
    max_aspect: float | None = None,
    min_caption: int = 1,
    max_caption: int | None = None,
    image_size: int = 0,
    quality: int = 90,
    max_shards: int | None = None,
    workers: int | None = None,
) -> None:
    """Turns what img2dataset downloaded (CC3M, CC12M, ...) into checked, filtered shards with keys of their own.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: img2dataset's output, 00000.tar and so on.
        out: directory to write.
        min_side: pictures with a shorter side, in pixels, are left out.
        max_aspect: pictures that are longer than so many times their shorter side are left out.
        min_caption: shorter captions, in characters, are left out.
        max_caption: longer captions are left out.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of the WebP pictures that are made then, 1 to 100.
        max_shards: only the first so many shards, for a trial.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.img2dataset import PairFilter, plan_img2dataset
    from mm_mhmoe_data.recipes.research_options import PictureOptions

    pairs = PairFilter(min_side=min_side, max_aspect=max_aspect, min_caption=min_caption, max_caption=max_caption)
    pictures = PictureOptions(image_size=image_size, quality=quality)
    build(plan_img2dataset(root, pictures, pairs, max_shards=max_shards), out, workers)


def beit3(
    root: Path,
    out: Path,
    task: Literal["vqav2", "nlvr2", "coco_retrieval", "flickr30k", "coco_captioning", "nocaps", "imagenet"],
    tokenizer: Path | None = None,
    image_size: int = 0,
    quality: int = 90,
    samples_per_shard: int = 1000,
    limit: int | None = None,
    workers: int | None = None,
) -> None:
    """Turns BEiT-3's index files, with the pictures that they refer to, into shards.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: holds the index files of the task and the pictures; for vqav2 also answer2label.txt.
        out: directory to write.
        task: whose index files.
        tokenizer: beit3.spm, which turns the files' token ids into texts again.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of the WebP pictures that are made then, 1 to 100.
        samples_per_shard: at most.
        limit: only the first so many pictures of each split, for a trial.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.beit3 import plan_beit3

    options = _options(image_size, quality, samples_per_shard, limit)
    build(plan_beit3(root, task, options, tokenizer=tokenizer), out, workers)


def _options(image_size: int, quality: int, samples_per_shard: int, limit: int | None) -> BuildOptions:
    from mm_mhmoe_data.recipes.research_options import BuildOptions, PictureOptions

    pictures = PictureOptions(image_size=image_size, quality=quality)
    return BuildOptions(pictures=pictures, samples_per_shard=samples_per_shard, limit=limit)
