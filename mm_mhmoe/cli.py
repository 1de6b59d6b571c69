"""The one `mm-mhmoe` command. Every subcommand is a function of mm_mhmoe.commands; its signature is its options."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from mm_mhmoe import __version__
from mm_mhmoe.commands.parser import Parser, command_parser, spelt_out
from mm_mhmoe.process import fast_fp32_products, keep_large_buffers
from mm_mhmoe.training.interrupted import Interrupted, RunFailed, is_first_process

DESCRIPTION = """From image-text shards to a masked-pretrained MH-MoE encoder, fine-tuned models and scores.
New here? `mm-mhmoe demo` runs the whole path in about ten minutes on two CPU cores."""

STOPPED = "stopped. Finished parts are kept; the same command goes on from there."

Tree = Mapping[str, "str | tuple[str, Tree]"]

# A leaf is module:function below mm_mhmoe.commands; it is imported only when it is called or asked for help. The leaf
# "" of a group is what the group's own name does, where options follow it.
COMMANDS: Tree = {
    "demo": "demo:demo",
    "data": (
        "Build shards, check them, count them, look at them.",
        {
            "build": (
                "Turn a source into WebDataset shards.",
                {
                    "openclipart": "build:openclipart",
                    "statements": "build:statements",
                    "tuxpaint": "build:tuxpaint",
                    "debian-handbook": "build:debian_handbook",
                    "text": "build:text",
                    "folder": "build:folder",
                    "img2dataset": "build_research:img2dataset",
                    "coco": "build_research:coco",
                    "flickr30k": "build_research:flickr30k",
                    "visual-genome": "build_research:visual_genome",
                    "nocaps": "build_research:nocaps",
                    "vqav2": "build_research:vqav2",
                    "nlvr2": "build_research:nlvr2",
                    "imagenet": "build_research:imagenet",
                    "beit3": "build_research:beit3",
                },
            ),
            "index": "data:index",
            "validate": "validate:validate",
            "overlap": "overlap:overlap",
            "stats": "data:stats",
            "preview": "data:preview",
            "tokenize-images": "tokenize_images:tokenize_images",
        },
    ),
    "tokenizer": ("The text tokenizer.", {"train": "tokenizer:train"}),
    "vqkd": "vqkd:vqkd",
    "vqkd-view": "vqkd_view:vqkd_view",
    "plan": "plan:plan",
    "parity": "plan:parity",
    "pretrain": "pretrain:pretrain",
    "lm": "lm:lm",
    "generate": "generate:write",
    "finetune": (
        "Train a pretrained encoder for a task.",
        {
            "nlvr2": "finetune.nlvr2:nlvr2",
            "retrieval": "finetune.retrieval:retrieval",
            "vqa": "finetune.vqa:vqa",
            "captioning": "finetune.captioning:captioning",
            "classification": "finetune.classification:classification",
        },
    ),
    "eval": (
        "Score models, and compare scores.",
        {
            "": "evaluate:evaluate_model",
            "ls": "eval_ls:eval_ls",
            "compare": "compare:compare",
            "report": "eval_report:eval_report",
        },
    ),
    "serve": "serve.command:serve",
    "analyze": "analyze:analyze",
    "paper-table": "paper_table:paper_table",
    "task-table": "task_table:task_table",
    "lm-table": "lm_table:lm_table",
    "export": "export:export",
    "import": (
        "Turn other people's weights into a model directory.",
        {
            "beit3": "import_model:beit3",
            "beit2": "import_model:beit2",
            "timm": "import_model:timm",
            "vqkd": "import_vqkd:vqkd",
        },
    ),
    "bench": (
        "Measure speed, as ratios within one process.",
        {"layer": "bench:layer", "step": "bench_step:step", "data": "bench_data:data", "eval": "bench_eval:bench_eval"},
    ),
    "upcycle": (
        "Change a trained model's FFNs: dense to experts, more or fewer experts, experts to dense.",
        {"sparse": "upcycle:sparse", "resize": "upcycle:resized", "dense": "upcycle:dense"},
    ),
    "env": "env:env",
}
SUMMARIES = {
    "demo": "The whole path on the shipped clip-art, ending in an HTML report.",
    "data build openclipart": "Drawings with captions and questions, from Debian's Open Clip Art.",
    "data build statements": "Sentences that are true or false of two clip-art pictures, as NLVR2 has them.",
    "data build tuxpaint": "Pictures with captions in 78 languages, from Tux Paint's stamps.",
    "data build debian-handbook": "Paragraphs of one book in 26 languages.",
    "data build text": "Texts from plain files, JSON lines, Wikipedia or the Bible.",
    "data build folder": "Your own pictures with captions or classes, or your own texts.",
    "data build img2dataset": "What img2dataset downloaded (CC3M, CC12M, ...), checked and filtered.",
    "data build coco": "COCO's captions in Karpathy's splits.",
    "data build flickr30k": "Flickr30k in Karpathy's splits.",
    "data build visual-genome": "Visual Genome's pictures with the phrases about their regions.",
    "data build nocaps": "NoCaps: captions of things that COCO does not show.",
    "data build vqav2": "VQAv2's questions in BEiT-3's splits, with its answer vocabulary.",
    "data build nlvr2": "NLVR2: sentences about two pictures.",
    "data build imagenet": "ImageNet-1k.",
    "data build beit3": "BEiT-3's index files with their pictures.",
    "data index": "Check shards once and keep where every sample lies.",
    "data validate": "Find what is wrong with shards, and save what is intact.",
    "data overlap": "Find pictures of one set of shards that occur in another.",
    "data stats": "Count what shards hold.",
    "data preview": "Draw a contact sheet of pictures and captions.",
    "data tokenize-images": "Compute the visual tokenizer's codes of every crop once, for pretraining to read.",
    "tokenizer train": "Train a SentencePiece tokenizer on the captions of shards.",
    "vqkd": "Train the visual tokenizer that gives patches their codes.",
    "vqkd-view": "Show what a visual tokenizer's codes keep of pictures, and which are used.",
    "import vqkd": "A visual tokenizer of BEiT-v2 (VQ-KD), as released.",
    "plan": "What a run of pretrain or lm costs: parameters, FLOPs, memory on each device.",
    "parity": "Solve the size of experts for equal FLOPs or parameters.",
    "pretrain": "Masked pretraining on pictures, texts and pairs.",
    "lm": "Train a language model on texts of one or several languages.",
    "generate": "Write on from a beginning with a language model.",
    "finetune retrieval": "Contrastive fine-tuning of a dual encoder.",
    "finetune vqa": "Fine-tuning on questions about pictures.",
    "finetune classification": "Fine-tuning on classes of pictures.",
    "finetune nlvr2": "Fine-tuning on sentences that are true or false of two pictures.",
    "finetune captioning": "Fine-tuning on captions, which the model then writes.",
    "eval": "Score a model on tasks. See also: eval ls, compare, report.",
    "eval ls": "List the tasks, what each scores, and the data it needs.",
    "eval compare": "Put records side by side, with intervals and paired tests.",
    "eval report": "Write a page about records: tables, right and wrong answers, expert maps.",
    "serve": "A page on this machine: pictures for a query; captions, answers and experts for a picture.",
    "analyze": "Show where a model's routers send its tokens, in figures and numbers.",
    "paper-table": "Dense, X-MoE and MH-MoE encoders side by side, as in the paper's Table 1, at a small size.",
    "lm-table": "Dense, X-MoE and MH-MoE language models side by side, English and multilingual, at a small size.",
    "task-table": "One pretrained MH-MoE encoder and its dense twin on every task, at a small size.",
    "export": "Turn a run's newest checkpoint into a model directory.",
    "import beit3": "A released BEiT-3 checkpoint, with its vocabulary.",
    "import beit2": "A checkpoint of BEiT-v2's authors, as the picture side of an encoder.",
    "import timm": "A plain vision transformer, BEiT or BEiT-v2 of timm, as the picture side of an encoder.",
    "bench layer": "Time the sparse layer against dense FFNs and other ways to compute it.",
    "bench step": "Time a pretraining step against its matrix products, a plain encoder and torchscale's BEiT3.",
    "bench data": "Time reading, decoding, resizing and whole loaders against webdataset's and open_clip's.",
    "bench eval": "Time scoring a task against the model's own forward passes in it.",
    "upcycle sparse": "Make experts of a trained dense model's FFNs.",
    "upcycle resize": "Give a trained sparse model more or fewer experts.",
    "upcycle dense": "Turn a sparse model's experts into one dense FFN a layer.",
    "env": "Show versions and hardware, for reports of errors.",
}


def load(leaf: str) -> Callable[..., None]:
    module, function = leaf.split(":")
    return getattr(import_module(f"mm_mhmoe.commands.{module}"), function)


def _find(argv: Sequence[str]) -> tuple[str, str] | None:
    """The command that argv starts with, as (its words, its module:function); None if argv names none."""
    node: Any = COMMANDS
    for count, word in enumerate([*argv, "--help"]):
        if word.startswith("-") and "" in node:
            return " ".join(argv[:count]), node[""]
        if word not in node:
            return None
        node = node[word]
        if isinstance(node, str):
            return " ".join(argv[: count + 1]), node
        node = node[1]
    return None


def _overview(tree: Tree = COMMANDS, path: str = "", description: str = DESCRIPTION) -> Parser:
    """The commands without their options, for help and for errors in a command's name."""
    parser = Parser(prog=f"mm-mhmoe {path}".strip(), version=__version__, description=description)
    subcommands = parser.add_subcommands(title="commands", metavar="COMMAND", dest="command")
    for name, node in tree.items():
        full = f"{path} {name}".strip()
        if not name:
            continue
        summary = SUMMARIES[full] if isinstance(node, str) else node[0]
        subcommands.add_subcommand(name, Parser(prog=f"mm-mhmoe {full}"), help=summary)
    return parser


def run(argv: Sequence[str]) -> None:
    """Parses and calls. Raises what the command raises."""
    found = _find(argv)
    if found is None:
        tree, path, description = COMMANDS, list[str](), DESCRIPTION
        while len(path) < len(argv) and isinstance(group := tree.get(argv[len(path)]), tuple):
            path.append(argv[len(path)])
            description, tree = group
        _overview(tree, " ".join(path), description).parse_args(list(argv[len(path) :]))
        raise AssertionError("without a command, parsing ends in help or an error")
    # Each command has a parser of its own: jsonargparse cannot report an unknown key two levels down.
    name, leaf = found
    parser = command_parser(load(leaf), name, SUMMARIES[name])
    words = spelt_out(argv[len(name.split()) :], load(leaf))
    parsed = parser.instantiate_classes(parser.parse_args(words))
    fast_fp32_products()
    load(leaf)(**{key: value for key, value in vars(parsed).items() if key != "config"})


def main() -> None:
    """Entry point: bad input is one sentence and exit code 1, a usage error exit code 2, an interruption 130."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # shown where this module is run by python -m
    keep_large_buffers()
    try:
        run(sys.argv[1:])
    except Interrupted as stopped:
        if not is_first_process():
            sys.exit(0)  # any other code would make Lightning kill the first process before it has spoken
        kept = f"kept {stopped.checkpoint}" if stopped.checkpoint else "no checkpoint was due"
        sys.exit(_say(f"{stopped}; {kept}. The same command goes on from there.", 130))
    except KeyboardInterrupt:
        sys.exit(_say(STOPPED, 130))
    except SystemExit as ending:
        if isinstance(ending.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into a silent exit
            sys.exit(_say(STOPPED, 130))
        raise
    except (ValueError, OSError) as error:
        if os.environ.get("MM_MHMOE_DEBUG"):
            raise
        if isinstance(error, RunFailed) and not is_first_process():
            sys.exit(0)  # as above
        sys.exit(_say(f"error: {error}", 1))


def _say(message: str, code: int) -> int:
    print(f"\nmm-mhmoe: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
