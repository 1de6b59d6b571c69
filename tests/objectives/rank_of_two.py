"""One of two processes, run as a script by test_gather.py: RANK FOLDER.

Reads given.pt (model, batches of the ranks) and writes RANK.pt: the contrastive loss of its batch, gradients averaged
over ranks, and the gathered rows.
"""

import sys

import torch
import torch.distributed as dist

from mm_mhmoe.models.heads import ContrastiveHead
from mm_mhmoe.objectives.contrastive import info_nce
from mm_mhmoe.objectives.gather import gather_over_ranks


def main(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    gather = gather_over_ranks()
    assert gather is not None
    given = torch.load(f"{folder}/given.pt", weights_only=True)
    head = ContrastiveHead(6, 5).double()
    head.load_state_dict(given["head"])
    image_BD, text_BD = given["batches"][rank]
    loss = info_nce(head.embed_image(image_BD), head.embed_text(text_BD), head.scale, gather)
    loss.backward()
    for parameter in head.parameters():
        dist.all_reduce(parameter.grad.div_(2))  # as data parallelism does
    uneven, first = gather(torch.full((1 + 2 * rank, 2), float(rank)))
    found = {"loss": loss.detach(), "uneven": uneven, "first": torch.tensor(first)}
    torch.save(found | {name: p.grad for name, p in head.named_parameters()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
