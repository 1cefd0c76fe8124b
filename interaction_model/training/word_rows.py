"""Rows of one word begin alike, whether it is read, heard or said.

A word has a number for each way in which it comes up. With rows drawn independently, to say what was heard would have to
be learned for each of the words, and to find one where it stood before for each pair of ways. With rows alike, going in
and coming out, a head that copies one word copies nearly all. They may part while they are trained. Our choice; that
rows which go in and come out are one: Press and Wolf, 2017.
"""

from __future__ import annotations

import torch

from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.vocabulary import WORDS, WordKind, token_range

SHARE = 0.5
"""How alike two rows of one word begin, as the cosine between them."""


@torch.no_grad()
def begin_alike(network: Network) -> None:
    """Draw the rows of words anew with PyTorch's generator, in place; as long as before.

    The network must have been drawn with the product's vocabulary.
    """
    tables = (network.model.embed_tokens.weight, network.lm_head.weight)
    common = torch.randn(len(WORDS), tables[0].shape[1], device=tables[0].device)
    for table in tables:
        size = table.std()
        for kind in WordKind:
            rows = slice(token_range(kind).start, token_range(kind).start + len(WORDS))
            own = table[rows] / size
            table[rows] = size * (SHARE**0.5 * common + (1 - SHARE) ** 0.5 * own)
