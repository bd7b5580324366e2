"""Networks with attention in PyTorch, for the benchmarks: plain code of the shape of nanoGPT's `model.py`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# b: batch, t: tokens, d: width; a cache is (keys, values), each [b, heads, capacity, d / heads]


class Attention(nn.Module):
    """Multi-head attention with one projection to queries, keys and values, or to keys and values of a memory."""

    def __init__(self, width: int, heads: int, bias: bool = True, dropout: float = 0.0, is_causal: bool = False):
        super().__init__()
        self.heads, self.dropout, self.is_causal = heads, dropout, is_causal
        self.qkv, self.out = nn.Linear(width, 3 * width, bias), nn.Linear(width, width, bias)

    def forward(self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None, cache=None, first: int = 0):
        """Returns [b, t, d]. With a cache, x are the tokens from `first` on; their keys and values are put into it."""
        if memory is None:
            q, k, v = self.split(self.qkv(x), 3)
        else:
            weights, biases = self.qkv.weight.tensor_split([x.shape[-1]]), self.qkv.bias.tensor_split([x.shape[-1]])
            (q,) = self.split(F.linear(x, weights[0], biases[0]), 1)
            k, v = self.split(F.linear(memory, weights[1], biases[1]), 2)
        if cache is not None:
            last = first + x.shape[1]
            cache[0][:, :, first:last], cache[1][:, :, first:last] = k, v
            k, v = cache[0][:, :, :last], cache[1][:, :, :last]
        dropout = self.dropout if self.training else 0.0
        causal = self.is_causal and x.shape[1] > 1
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        return self.out(y.transpose(1, 2).flatten(2))

    def split(self, x: Tensor, parts: int) -> list[Tensor]:
        return [part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in x.chunk(parts, 2)]


def feed_forward(width: int, hidden: int, activation: nn.Module, bias: bool = True) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden, bias), activation, nn.Linear(hidden, width, bias))


class GPT(nn.Module):
    """`arch.gpt.GPT`: tied head, learned positions, norms before each branch."""

    def __init__(
        self, vocabulary: int, context: int, depth: int, width: int, heads: int, bias: bool, dropout: float, gelu: str
    ):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            norms = [nn.LayerNorm(width, bias=bias) for _ in range(2)]
            attention = Attention(width, heads, bias, dropout, is_causal=True)
            branches = [attention, feed_forward(width, 4 * width, nn.GELU(gelu), bias)]
            self.blocks.append(nn.ModuleList([*norms, *branches]))
        self.norm = nn.LayerNorm(width, bias=bias)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, caches=None, first: int = 0) -> Tensor:
        """Returns the logits [b, t, vocabulary]. With a cache per block, they are those of tokens from `first` on."""
        places = torch.arange(first, first + tokens.shape[1], device=tokens.device)
        x = self.drop(self.embedding(tokens) + self.positions(places))
        for i, (norm1, norm2, attention, mlp) in enumerate(self.blocks):
            x = x + self.drop(attention(norm1(x), cache=caches and caches[i], first=first))
            x = x + self.drop(mlp(norm2(x)))
        return F.linear(self.norm(x), self.embedding.weight)


class Transformer(nn.Module):
    """`arch.transformer.Transformer`: one embedding for source, target and head, sinusoids, norms after each branch."""

    def __init__(
        self, vocabulary: int, longest: int, depth: int, width: int, heads: int, mlp_width: int, dropout: float
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        angles = torch.arange(longest)[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("sinusoids", torch.stack([angles.sin(), angles.cos()], -1).flatten(1))
        self.drop = nn.Dropout(dropout)

        def block(*attentions: Attention) -> nn.ModuleList:
            branches = [*attentions, feed_forward(width, mlp_width, nn.ReLU())]
            return nn.ModuleList([nn.ModuleList([branch, nn.LayerNorm(width)]) for branch in branches])

        self.encoder = nn.ModuleList(block(Attention(width, heads)) for _ in range(depth))
        self.decoder = nn.ModuleList(
            block(Attention(width, heads, is_causal=True), Attention(width, heads)) for _ in range(depth)
        )

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """Returns the logits [b, t, vocabulary]."""
        mask = (torch.arange(source.shape[1], device=source.device) < lengths[:, None])[:, None, None]
        memory = self.embed(source)
        for attention, mlp in self.encoder:
            memory = self.add(attention, memory, mask=mask)
            memory = self.add(mlp, memory)
        x = self.embed(target)
        for attention, cross, mlp in self.decoder:
            x = self.add(attention, x)
            x = self.add(cross, x, memory, mask)
            x = self.add(mlp, x)
        return F.linear(x, self.embedding.weight)

    def embed(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) * self.embedding.embedding_dim**0.5
        return self.drop(x + self.sinusoids[: tokens.shape[1]])

    def add(self, pair: nn.ModuleList, x: Tensor, *arguments, **options) -> Tensor:
        branch, norm = pair
        return norm(x + self.drop(branch(x, *arguments, **options)))


class BERT(nn.Module):
    """`arch.bert.BERT` that predicts the tokens at given places: norms after each branch, tied head."""

    def __init__(
        self, vocabulary: int, context: int, depth: int, width: int, heads: int, dropout: float, segments: int = 2
    ):
        super().__init__()
        sizes = (vocabulary, context, segments)
        self.embedding, self.positions, self.segments = (nn.Embedding(size, width) for size in sizes)
        self.drop, self.norm = nn.Dropout(dropout), nn.LayerNorm(width, 1e-12)
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            branches = [Attention(width, heads, dropout=dropout), feed_forward(width, 4 * width, nn.GELU())]
            self.blocks.append(nn.ModuleList([nn.LayerNorm(width, 1e-12) for _ in branches] + branches))
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, 1e-12))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, lengths: Tensor, segments: Tensor, places: Tensor) -> Tensor:
        """Returns the logits [b, places, vocabulary]."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        mask = (positions < lengths[:, None])[:, None, None]
        x = self.embedding(tokens) + self.positions(positions) + self.segments(segments)
        x = self.drop(self.norm(x))
        for norm1, norm2, attention, mlp in self.blocks:
            x = norm1(x + self.drop(attention(x, mask=mask)))
            x = norm2(x + self.drop(mlp(x)))
        x = x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
        return F.linear(self.transform(x), self.embedding.weight, self.bias)
