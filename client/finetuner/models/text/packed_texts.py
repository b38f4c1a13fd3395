"""The forward pass of a causal text tower on a CPU, without the work that its output does not read.

Texts of a batch have different lengths. Layers that treat each token by itself get the tokens of all texts one after
the other, without padding; attention alone sees a row per text. The output is read at the end token, so the last layer
computes keys and values of all tokens, and everything else of the end tokens only. With clip-mini, whose three layers
read texts of 4 to 16 words, that is under half of the work. The output is the same up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def packs(network: Any) -> bool:
    """Return whether `packed_text_features` computes what the layers of a tower would.

    Hooks, compiled blocks and layers of other classes, such as LoRA's, are called as they are.

    Args:
        network: open_clip's CLIP, for which `reads_end_token` holds.
    """
    from open_clip.transformer import ResidualAttentionBlock, Transformer
    from torch.nn import MultiheadAttention

    tower = network.transformer
    modules = [tower, *tower.resblocks, *(getattr(block, "attn", None) for block in tower.resblocks)]
    return (
        type(tower) is Transformer
        and all(type(block) is ResidualAttentionBlock for block in tower.resblocks)
        and all(
            type(block.attn) is MultiheadAttention
            and block.attn.in_proj_weight is not None
            and block.attn.bias_k is None
            and not block.attn.add_zero_attn
            for block in tower.resblocks
        )
        and all(
            module._compiled_call_impl is None and not module._forward_hooks and not module._forward_pre_hooks
            for module in modules
        )
    )


def packed_text_features(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return the text tower's output, (batch, dim), not normalised.

    Args:
        network: open_clip's CLIP in eval mode on a CPU, which `packs`.
        tokens: (batch, length) int64. Every row holds its end token, the highest id.
    """
    import torch

    batch, length = tokens.shape
    ends = tokens.argmax(dim=-1)  # (batch,)
    read = torch.arange(length) <= ends[:, None]  # (batch, length) bool
    places: torch.Tensor | None = None
    sources: torch.Tensor | None = None
    dtype = network.transformer.get_cast_dtype()
    positional = network.positional_embedding[:length].to(dtype)
    if batch == 1 or bool(read.all()):
        x: torch.Tensor = (network.token_embedding(tokens).to(dtype) + positional).flatten(0, 1)  # (tokens, width)
        last = torch.arange(batch) * length + ends
    else:
        places = read.flatten().nonzero().squeeze(1)  # (tokens,), each in the rows
        sources = read.flatten().cumsum(0) - 1  # (batch * length,), the token of each place in the rows
        x = network.token_embedding(tokens.flatten().index_select(0, places)).to(dtype)
        x = x + positional.index_select(0, places % length)
        last = (ends + 1).cumsum(0) - 1
    *blocks, final = network.transformer.resblocks
    for block in blocks:
        normal = block.ln_1(x)
        asked, keys, values = _rows(_projected(block.attn, normal, 0, 3), sources, batch, length, block.attn)
        mixed = torch.nn.functional.scaled_dot_product_attention(asked, keys, values, is_causal=True)
        x = _finished(block, x, _tokens(mixed, places))
    normal = final.ln_1(x)
    keys, values = _rows(_projected(final.attn, normal, 1, 3), sources, batch, length, final.attn)
    (asked,) = _rows(_projected(final.attn, normal.index_select(0, last), 0, 1), None, batch, 1, final.attn)
    mixed = torch.nn.functional.scaled_dot_product_attention(asked, keys, values, attn_mask=read[:, None, None, :])
    x = network.ln_final(_finished(final, x.index_select(0, last), _tokens(mixed, None)))  # (batch, width)
    projection = network.text_projection
    if projection is not None:
        x = projection(x) if callable(projection) else x @ projection
    return x


def _projected(attention: Any, x: torch.Tensor, first: int, end: int) -> torch.Tensor:
    """Return the queries (0), keys (1) and values (2) from `first` to `end` of tokens, (tokens, parts * width)."""
    import torch

    width = attention.embed_dim
    weight, bias = attention.in_proj_weight[first * width : end * width], attention.in_proj_bias
    return torch.nn.functional.linear(x, weight, None if bias is None else bias[first * width : end * width])


def _rows(
    x: torch.Tensor, sources: torch.Tensor | None, batch: int, length: int, attention: Any
) -> tuple[torch.Tensor, ...]:
    """Return the parts of tokens, (tokens, parts * width), each as (batch, heads, length, width / heads).

    The padding of a text repeats its last token. It comes after the end of its text, so that a mask hides it.
    """
    if sources is not None:
        x = x.index_select(0, sources)
    heads, size = attention.num_heads, attention.head_dim
    return x.view(batch, length, -1, heads, size).permute(2, 0, 3, 1, 4).unbind(0)


def _tokens(mixed: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
    """Return attention's output, (batch, heads, length, width / heads), as (tokens, width)."""
    x = mixed.transpose(1, 2).flatten(2).flatten(0, 1)
    return x if places is None else x.index_select(0, places)


def _finished(block: Any, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    """Return a block's output of tokens, (tokens, width), from its input and its attention's output."""
    x = x + block.ls_1(block.attn.out_proj(mixed))
    finished: torch.Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return finished
