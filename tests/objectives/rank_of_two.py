"""One of two processes, run as a script by test_gather.py: RANK FOLDER.

Reads given.pt (model, batches of the ranks) and writes RANK.pt: the contrastive loss of its batch, gradients averaged
over ranks, gathered rows, and the rows of its pairs that matching trains on.
"""

import sys

import torch
import torch.distributed as dist

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.models.heads import ContrastiveHead
from mm_mhmoe.objectives.contrastive import info_nce, similarities
from mm_mhmoe.objectives.gather import gather_over_ranks, take_rows
from mm_mhmoe.objectives.matching import matching_pairs


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
    own = torch.arange(3 * rank, 3 + 2 * rank)  # 0 1 2, and 3 4
    asked = torch.tensor([4, 0, 3, 0, 2][: 5 - 2 * rank])
    found["taken"] = take_rows(own.view(-1, 1).expand(-1, 2).contiguous(), asked)
    # Number n is the picture of text n; each is most like the next one, the last like the first.
    numbers = torch.arange(5)
    image_BP, text_BP = torch.eye(5)[own], torch.eye(5)[(own - 1) % 5]
    rows = matching_pairs(
        ImageTextBatch(
            images=Images(pixels_BCHW=numbers[own].to(torch.uint8).view(-1, 1, 1, 1)),
            texts=Texts(
                ids_BL=numbers[own].view(-1, 1).expand(-1, 2 + rank),
                valid_BL=torch.ones(len(own), 2 + rank, dtype=torch.bool),
            ),
        ),
        similarities(image_BP, text_BP, torch.tensor(1000.0), gather),
    )
    assert rows.images is not None and rows.texts is not None
    found |= {"pixels": rows.images.pixels_BCHW.flatten(), "ids": rows.texts.ids_BL, "valid": rows.texts.valid_BL}
    torch.save(found | {name: p.grad for name, p in head.named_parameters()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
