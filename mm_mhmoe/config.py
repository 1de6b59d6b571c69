"""What a model is made of: frozen dataclasses that are checked when they are made, and the size presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from mm_mhmoe.sizing import MATRICES, FFNSize, Parity, solve_hidden

FFNKind = Literal["dense", "moe", "mh_moe"]
RouterKind = Literal["top_k", "xmoe", "xmoe_released", "sigmoid_bias", "expert_choice"]
DropPolicy = Literal["position", "priority"]
SecondPolicy = Literal["all", "random"]
Activation = Literal["gelu", "swiglu"]
XMoEGate = Literal["softmax", "sigmoid"]
BalanceScope = Literal["local", "global"]
BalanceChoices = Literal["all", "first"]
Pools = Literal["modality", "shared"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Pictures as the encoder takes them.

    Args:
        image_size: side of the square picture in pixels.
        patch_size: side of a square patch in pixels; divides image_size.
        pixel_mean: mean of each colour channel, with black 0 and white 1; pixels are normalised by it (BEiT-3: .5).
        pixel_std: standard deviation of each channel, in the same scale (BEiT-3: .5).
    """

    image_size: int = 224
    patch_size: int = 16
    pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("pixel_mean", "pixel_std"):  # JSON and YAML know lists only
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        _require(
            len(self.pixel_mean) == len(self.pixel_std) == 3 and min(self.pixel_std) > 0,
            f"vision.pixel_mean={self.pixel_mean} and vision.pixel_std={self.pixel_std} need a number for red, green "
            "and blue each, the latter positive",
        )
        _require(
            self.patch_size > 0 and self.image_size > 0 and self.image_size % self.patch_size == 0,
            f"vision.image_size={self.image_size} is not a positive multiple of vision.patch_size={self.patch_size}; "
            "change one of them",
        )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        return self.grid**2


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Texts as the encoder takes them.

    Args:
        vocab_size: rows of the token table; at least the pieces of the tokenizer.
        max_length: longest text in tokens, begin and end tokens included.
        positions: rows of the table of text positions; null: max_length. BEiT-3's table is longer than its texts.
        bos_id: id of the begin token, which serves as the text's [CLS].
        pad_id: id of padding.
        eos_id: id of the end token.
        unk_id: id of an unknown piece.
        mask_id: id that stands in for a hidden token.
    """

    vocab_size: int = 64010
    max_length: int = 64
    positions: int | None = None
    bos_id: int = 0
    pad_id: int = 1
    eos_id: int = 2
    unk_id: int = 3
    mask_id: int = 4

    def __post_init__(self) -> None:
        _require(self.max_length >= 3, f"text.max_length={self.max_length} leaves no room for a token; use 3 or more")
        _require(
            self.num_positions >= self.max_length,
            f"text.positions={self.positions} is less than text.max_length={self.max_length}; lower the latter",
        )
        ids = (self.bos_id, self.pad_id, self.eos_id, self.unk_id, self.mask_id)
        _require(
            len(set(ids)) == len(ids) and min(ids) >= 0 and max(ids) < self.vocab_size,
            f"text special ids {ids} must differ and lie below text.vocab_size={self.vocab_size}",
        )

    @property
    def num_positions(self) -> int:
        """Rows of the table of positions."""
        return self.max_length if self.positions is None else self.positions


@dataclass(frozen=True, kw_only=True)
class MoEConfig:
    """The sparse FFN.

    Args:
        num_experts: experts of one layer.
        top_k: experts that each (sub-)token is sent to.
        heads: sub-tokens that MH-MoE splits every token into (arXiv 2404.15045 uses 4); a plain MoE has no heads.
        projection_layers: linear maps in MH-MoE's multi-head layer and in its merge layer each; the paper uses 1.
        inner_residual: adds each sub-token of MH-MoE to its output (equation 6 of the paper; not in its code).
        parity: how hidden_dim is found. flops: the layer costs per token what the dense FFN of ffn_dim costs, at most
            (arXiv 2411.16205, head and merge layers counted, router not). params: the layer has the parameters of a
            plain MoE of num_experts experts as large as the dense FFN (arXiv 2404.15045; an expert of MH-MoE then does
            about as much work for a sub-token as the dense FFN for a token). none: hidden_dim is taken as given.
        hidden_dim: hidden size of one expert, for parity=none.
        router: top_k: softmax (Switch, GShard). xmoe: cosine in a low dimension with a learned temperature (X-MoE,
            arXiv 2204.09179). xmoe_released: as the published code, with neither. sigmoid_bias: sigmoid scores balanced
            by a bias (DeepSeek-V3); set balance_loss_weight to 0 with it. expert_choice: experts choose (sub-)tokens,
            top_k of them on average.
        router_dim: low dimension of the two xmoe routers.
        xmoe_gate: what makes scores of xmoe's cosines: softmax over experts (temperature 0.3 in the balance loss); or
            sigmoid of each (0.07), whose balance loss is not 1 at perfect balance. xmoe_released has softmax only.
        normalize_weights: whether the weights of an input's top_k > 1 experts sum to one (GShard, Mixtral). false: they
            stay probabilities, as in MH-MoE's published decoder. For top_k and the two xmoe routers.
        second_policy: random computes the second choice of top_k only sometimes, in training (GShard).
        router_jitter: multiplicative noise on the input of top_k, in training (Switch: 1e-2).
        router_noise: additive noise on the logits of top_k, in training.
        capacity_factor: an expert computes at most this times its even share; null: nothing is dropped.
        drop_policy: who is dropped from a full expert: position: who comes last; priority: who weighs least.
        shared_experts: experts that every (sub-)token goes through besides those it is sent to.
        activation: of the experts: gelu; or swiglu, with three matrices instead of two (Mixtral, DeepSeekMoE).
        expert_bias: whether the experts' matrices have biases.
        recompute: keeps less for the backward pass: the experts compute their first product again.
        every: a sparse FFN in every n-th layer, counted from the n-th (2: layers 2, 4, ...); the others are dense.
        pools: under encoder.multiway: modality: pictures and texts have num_experts experts each, with routers (and
            multi-head and merge layers) of their own; shared: one router and num_experts experts serve both.
        balance_loss_weight: weight of the load-balance loss (1e-2 in arXiv 2404.15045).
        balance_scope: whose loads the load-balance loss evens out: local: those of each process's batch; global: those
            of all processes together (arXiv 2501.11873). One process has one batch, which is both.
        balance_choices: which choices count as load there: all top_k; or the first only (GShard, MH-MoE's code).
        z_loss_weight: weight of the router z-loss (ST-MoE, arXiv 2202.08906, uses 1e-3).
    """

    num_experts: int = 8
    top_k: int = 2
    heads: int = 4
    projection_layers: int = 1
    inner_residual: bool = False
    parity: Parity = "flops"
    hidden_dim: int | None = None
    router: RouterKind = "top_k"
    router_dim: int = 16
    xmoe_gate: XMoEGate = "softmax"
    normalize_weights: bool = True
    second_policy: SecondPolicy = "all"
    router_jitter: float = 0.0
    router_noise: float = 0.0
    capacity_factor: float | None = None
    drop_policy: DropPolicy = "position"
    shared_experts: int = 0
    activation: Activation = "gelu"
    expert_bias: bool = True
    recompute: bool = False
    every: int = 2
    pools: Pools = "modality"
    balance_loss_weight: float = 1e-2
    balance_scope: BalanceScope = "local"
    balance_choices: BalanceChoices = "all"
    z_loss_weight: float = 1e-3

    def __post_init__(self) -> None:
        _require(
            1 <= self.top_k <= self.num_experts,
            f"moe.top_k={self.top_k} must lie between 1 and moe.num_experts={self.num_experts}",
        )
        _require(self.heads >= 1, f"moe.heads={self.heads} must be 1 or more")
        _require(self.projection_layers >= 0, f"moe.projection_layers={self.projection_layers} must not be negative")
        _require(self.every >= 1, f"moe.every={self.every} must be 1 or more")
        _require(self.shared_experts >= 0, f"moe.shared_experts={self.shared_experts} must not be negative")
        _require(self.router_dim >= 1, f"moe.router_dim={self.router_dim} must be 1 or more")
        for name, choices in (
            ("router", RouterKind),
            ("drop_policy", DropPolicy),
            ("second_policy", SecondPolicy),
            ("activation", Activation),
            ("xmoe_gate", XMoEGate),
            ("balance_scope", BalanceScope),
            ("balance_choices", BalanceChoices),
            ("parity", Parity),
            ("pools", Pools),
        ):
            value = getattr(self, name)
            _require(value in get_args(choices), f"moe.{name}={value!r} is not one of {', '.join(get_args(choices))}")
        _require(
            self.capacity_factor is None or self.capacity_factor > 0,
            f"moe.capacity_factor={self.capacity_factor} must be positive; leave it out to drop nothing",
        )
        softmax_only = (self.second_policy != "all", self.router_jitter > 0, self.router_noise > 0)
        _require(
            self.router == "top_k" or not any(softmax_only),
            f"moe.second_policy, moe.router_jitter and moe.router_noise belong to moe.router=top_k, not {self.router}",
        )
        _require(
            self.xmoe_gate == "softmax" or self.router == "xmoe",
            f"moe.xmoe_gate={self.xmoe_gate} is for moe.router=xmoe, not {self.router}; change one of them",
        )
        _require(
            self.normalize_weights or self.router in ("top_k", "xmoe", "xmoe_released"),
            f"moe.normalize_weights=false is not for moe.router={self.router}; leave it out, or use router=top_k",
        )
        _require(
            self.router != "expert_choice" or self.capacity_factor is None,
            f"moe.capacity_factor={self.capacity_factor}: experts that choose have a capacity already; leave it out",
        )
        _require(
            self.router != "expert_choice" or self.balance_choices == "all",
            f"moe.balance_choices={self.balance_choices}: under moe.router=expert_choice nobody chooses first; use all",
        )
        if self.parity == "none":
            _require(
                self.hidden_dim is not None and self.hidden_dim > 0,
                f"moe.parity=none needs moe.hidden_dim (got {self.hidden_dim}); give it, or use parity=flops",
            )
        else:
            _require(
                self.hidden_dim is None,
                f"moe.hidden_dim={self.hidden_dim} is given but moe.parity={self.parity} solves it; "
                "leave it out, or use parity=none",
            )


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """A BEiT-3-style encoder: one stack of pre-LN blocks for pictures, texts and pairs.

    Args:
        dim: width of a token.
        depth: number of blocks.
        num_heads: attention heads; divides dim.
        ffn_dim: hidden size of the dense FFN, and the reference of moe.parity.
        ffn: kind of the FFNs: dense, moe (top-k experts on tokens) or mh_moe (on sub-tokens).
        moe: the sparse FFN; not used when ffn is dense.
        vision: picture and patch size.
        text: vocabulary and text length.
        drop_path: stochastic depth of the last block; earlier ones grow to it linearly.
        sub_ln: LayerNorm before the attention output projection and before the second FFN matrix (BEiT-3, Magneto).
        norm_eps: epsilon of every LayerNorm.
        multiway: pictures and texts have attention projections, LayerNorms and FFNs of their own (BEiT-3); false: all
            weights of the blocks serve both.
    """

    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    ffn_dim: int = 3072
    ffn: FFNKind = "mh_moe"
    moe: MoEConfig = field(default_factory=MoEConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    drop_path: float = 0.1
    sub_ln: bool = True
    norm_eps: float = 1e-5
    multiway: bool = False

    def __post_init__(self) -> None:
        _require(self.ffn in ("dense", "moe", "mh_moe"), f"encoder.ffn={self.ffn!r} is not one of dense, moe, mh_moe")
        _require(
            self.dim > 0 and self.num_heads > 0 and self.dim % self.num_heads == 0,
            f"encoder.dim={self.dim} is not a multiple of encoder.num_heads={self.num_heads}",
        )
        _require(self.depth >= 1, f"encoder.depth={self.depth} must be 1 or more")
        _require(0.0 <= self.drop_path < 1.0, f"encoder.drop_path={self.drop_path} must lie in [0, 1)")
        if self.ffn == "mh_moe":
            _require(
                self.dim % self.moe.heads == 0,
                f"encoder.dim={self.dim} cannot be split into moe.heads={self.moe.heads} sub-tokens; use a divisor",
            )
        if self.ffn != "dense":
            _require(
                self.depth >= self.moe.every,
                f"moe.every={self.moe.every} leaves no sparse layer in encoder.depth={self.depth}",
            )
            _require(
                self.expert_pools == 1 or self.moe.router != "sigmoid_bias",
                "moe.router=sigmoid_bias moves one bias a layer, but encoder.multiway has two routers there; use "
                "moe.pools=shared or another router",
            )
            self.expert_hidden_dim  # noqa: B018  (raises when parity has no solution)

    def ffns(self, layer: int) -> int:
        """How many FFNs block `layer` has: one for each modality under multiway, but for a shared pool of experts."""
        return self.expert_pools if self.is_sparse(layer) else self.ways

    def is_sparse(self, layer: int) -> bool:
        """Whether block `layer` (from 0) has the sparse FFN."""
        return self.ffn != "dense" and (layer + 1) % self.moe.every == 0

    @property
    def ways(self) -> int:
        """How many times the blocks have each of their weights that no pool of experts shares."""
        return 2 if self.multiway else 1

    @property
    def expert_pools(self) -> int:
        """Pools of num_experts experts in a sparse layer."""
        return 2 if self.multiway and self.moe.pools == "modality" else 1

    @property
    def num_sparse(self) -> int:
        """Blocks with the sparse FFN."""
        return sum(self.is_sparse(layer) for layer in range(self.depth))

    @property
    def dense_size(self) -> FFNSize:
        """The dense FFN."""
        return FFNSize(dim=self.dim, hidden=self.ffn_dim)

    @property
    def moe_reference(self) -> FFNSize:
        """A plain top-1 MoE of num_experts experts as large as the dense FFN: the reference of moe.parity=params."""
        return replace(self.dense_size, experts=self.moe.num_experts)

    @property
    def sparse_size(self) -> FFNSize:
        """The sparse FFN, with its hidden size under moe.parity."""
        return replace(self._sparse_shape, hidden=self.expert_hidden_dim)

    @property
    def _sparse_shape(self) -> FFNSize:
        split = self.ffn == "mh_moe"
        return FFNSize(
            dim=self.dim,
            hidden=0,
            experts=self.moe.num_experts,
            top_k=self.moe.top_k,
            heads=self.moe.heads if split else 1,
            projection_layers=self.moe.projection_layers if split else 0,
            matrices=MATRICES[self.moe.activation],
            shared_experts=self.moe.shared_experts,
        )

    @property
    def expert_hidden_dim(self) -> int:
        """Hidden size of one expert under moe.parity.

        MACs per token: dense FFN 2 D F; MoE 2 k D h; MH-MoE 2 n D^2 (n layers for head and merge each) + 2 k D h,
        because H sub-tokens of D/H cost what one token of D costs. Equal for h = F / k and h = (F - n D) / k; k counts
        shared experts too. Parameters: MoE 2 E D F; MH-MoE 2 n D^2 + 2 E (D/H) h. Equal for h = H (F - n D / E).
        SwiGLU experts have three matrices: h is 2/3 of that.
        """
        if self.moe.parity == "none":
            assert self.moe.hidden_dim is not None
            return self.moe.hidden_dim
        reference = self.dense_size if self.moe.parity == "flops" else self.moe_reference
        hidden = solve_hidden(reference, self._sparse_shape, self.moe.parity)
        lower = "moe.top_k" if self.moe.parity == "flops" else "moe.projection_layers"
        _require(
            hidden > 0,
            f"moe.parity={self.moe.parity}: ffn_dim={self.ffn_dim}, dim={self.dim}, top_k={self.moe.top_k} leave no "
            f"hidden size; lower {lower} or raise encoder.ffn_dim",
        )
        return hidden

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EncoderConfig:
        """The inverse of `to_dict`. Raises ValueError for a key that no field has."""
        parts = {"moe": MoEConfig, "vision": VisionConfig, "text": TextConfig}
        try:
            nested = {name: part(**values[name]) for name, part in parts.items() if name in values}
            return cls(**{**values, **nested})
        except TypeError as error:
            raise ValueError(f"encoder config: {error}") from error


_BASE = EncoderConfig()
PRESETS: dict[str, EncoderConfig] = {
    "tiny": EncoderConfig(
        dim=192,
        depth=4,
        num_heads=3,
        ffn_dim=768,
        drop_path=0.0,
        vision=VisionConfig(image_size=96, patch_size=16, pixel_mean=(0.80, 0.78, 0.74), pixel_std=(0.33, 0.34, 0.36)),
        text=TextConfig(vocab_size=1600, max_length=12),
    ),
    "small": replace(_BASE, dim=384, num_heads=6, ffn_dim=1536),
    "base": _BASE,
    "large": replace(_BASE, dim=1024, depth=24, num_heads=16, ffn_dim=4096),
}


def preset(name: str, **changes: Any) -> EncoderConfig:
    """The named size with some fields changed: tiny (the demo), small, base and large (BEiT-3's sizes)."""
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is not one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)
