"""The encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from mm_mhmoe.config.checks import require
from mm_mhmoe.config.moe import Activation, MoEConfig
from mm_mhmoe.config.text import TextConfig
from mm_mhmoe.config.vision import VisionConfig
from mm_mhmoe.sizing import MATRICES, FFNSize, solve_hidden

FFNKind = Literal["dense", "moe", "mh_moe"]
RelativeKind = Literal["none", "layer", "shared"]
NormKind = Literal["layer", "rms"]
TextPositions = Literal["learned", "rotary"]


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
        final_norm: a LayerNorm behind the last block, as in every pre-LN encoder; false: heads take what the last block
            gives (BEiT-3's models that were fine-tuned for VQAv2 and ImageNet).
        multiway: pictures and texts have attention projections, LayerNorms and FFNs of their own (BEiT-3); false: all
            weights of the blocks serve both.
        vl_layers: of multiway, the last blocks in which the tokens of pairs have FFNs, or experts, of their own: a
            third one beside those of pictures and texts (BEiT-3's paper: 3; its released models: 0).
        image_positions: learned positions are added to patches; false (BEiT): only relative ones tell where they are.
        relative_positions: learned addends to the scores of attention by the offset of two patches of a picture (BEiT):
            none; layer: each block has its own; shared: one table for all. Texts have none.
        layer_scale: start of learned factors on the two branches of a block (LayerScale; BEiT: 0.1); null: no factors.
        pictures: whether pictures can be embedded; false: a language model, for which vision means nothing.
        text_positions: learned: a table that is added to the tokens; rotary: queries and keys are turned by their
            places (arXiv 2104.09864), which is for language models.
        rotary_base: the base of the rotary angles.
        norm: of the blocks: layer: LayerNorm; rms: RMSNorm (arXiv 1910.07467), without sub_ln.
        activation: of the dense FFN: gelu; or swiglu, with three matrices (choose ffn_dim 2/3 as large).
        bias: whether the matrices of attention and of the dense FFN have biases; for experts see moe.expert_bias.
        scale_tokens: token embeddings are multiplied by sqrt(dim), so that a small table can serve as head, too (arXiv
            1706.03762, section 3.4).
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
    final_norm: bool = True
    multiway: bool = False
    vl_layers: int = 0
    image_positions: bool = True
    relative_positions: RelativeKind = "none"
    layer_scale: float | None = None
    pictures: bool = True
    text_positions: TextPositions = "learned"
    rotary_base: float = 10_000.0
    norm: NormKind = "layer"
    activation: Activation = "gelu"
    bias: bool = True
    scale_tokens: bool = False

    def __post_init__(self) -> None:
        require(self.ffn in ("dense", "moe", "mh_moe"), f"encoder.ffn={self.ffn!r} is not one of dense, moe, mh_moe")
        require(
            self.dim > 0 and self.num_heads > 0 and self.dim % self.num_heads == 0,
            f"encoder.dim={self.dim} is not a multiple of encoder.num_heads={self.num_heads}",
        )
        require(self.depth >= 1, f"encoder.depth={self.depth} must be 1 or more")
        require(0.0 <= self.drop_path < 1.0, f"encoder.drop_path={self.drop_path} must lie in [0, 1)")
        require(
            0 <= self.vl_layers <= self.depth,
            f"encoder.vl_layers={self.vl_layers} must lie between 0 and encoder.depth={self.depth}",
        )
        require(
            self.vl_layers == 0 or self.multiway,
            f"encoder.vl_layers={self.vl_layers} needs encoder.multiway=true: otherwise all streams share their FFNs",
        )
        require(
            self.vl_layers == 0 or self.ffn == "dense" or self.moe.pools == "modality",
            f"encoder.vl_layers={self.vl_layers} needs moe.pools=modality: a shared pool serves pairs already",
        )
        for name, choices in (
            ("relative_positions", RelativeKind),
            ("text_positions", TextPositions),
            ("norm", NormKind),
            ("activation", Activation),
        ):
            value, known = getattr(self, name), get_args(choices)
            require(value in known, f"encoder.{name}={value!r} is not one of {', '.join(known)}")
        require(
            self.norm == "layer" or not self.sub_ln,
            "encoder.sub_ln=true is for encoder.norm=layer: the norms that it adds are LayerNorms; set it to false",
        )
        require(
            self.text_positions == "learned" or not self.pictures,
            "encoder.text_positions=rotary is for language models (encoder.pictures=false); use learned",
        )
        require(
            self.text_positions == "learned" or self.dim // self.num_heads % 2 == 0,
            f"encoder.text_positions=rotary turns pairs of values, but encoder.dim={self.dim} over "
            f"encoder.num_heads={self.num_heads} is odd; use other numbers",
        )
        require(self.rotary_base > 1, f"encoder.rotary_base={self.rotary_base} must be more than 1")
        require(
            self.pictures or not (self.multiway or self.relative_positions != "none"),
            "encoder.pictures=false leaves nothing to encoder.multiway or encoder.relative_positions; leave both out",
        )
        require(
            self.image_positions or self.relative_positions != "none",
            "encoder.image_positions=False with encoder.relative_positions=none: nothing would tell where a patch is; "
            "use layer or shared",
        )
        require(
            self.layer_scale is None or self.layer_scale > 0,
            f"encoder.layer_scale={self.layer_scale} must be positive; null: no factors",
        )
        if self.ffn == "mh_moe":
            require(
                self.dim % self.moe.heads == 0,
                f"encoder.dim={self.dim} cannot be split into moe.heads={self.moe.heads} sub-tokens; use a divisor",
            )
        if self.ffn != "dense":
            require(
                self.depth >= self.moe.every,
                f"moe.every={self.moe.every} leaves no sparse layer in encoder.depth={self.depth}",
            )
            require(
                self.expert_pools == 1 or self.moe.router != "sigmoid_bias",
                "moe.router=sigmoid_bias moves one bias a layer, but encoder.multiway has two routers there; use "
                "moe.pools=shared or another router",
            )
            self.expert_hidden_dim  # noqa: B018  (raises when parity has no solution)

    def ffns(self, layer: int) -> int:
        """How many FFNs block `layer` has: one for each modality under multiway, but for a shared pool of experts; and
        one more for pairs in the last vl_layers."""
        of_pairs = int(layer >= self.depth - self.vl_layers)
        return (self.expert_pools if self.is_sparse(layer) else self.ways) + of_pairs

    def is_sparse(self, layer: int) -> bool:
        """Whether block `layer` (from 0) has the sparse FFN."""
        return self.ffn != "dense" and (layer + 1) % self.moe.every == 0

    @property
    def ways(self) -> int:
        """How many times the blocks have each of their weights that no pool of experts shares."""
        return 2 if self.multiway else 1

    @property
    def expert_pools(self) -> int:
        """Pools of num_experts experts in a sparse layer, without that of pairs."""
        return 2 if self.multiway and self.moe.pools == "modality" else 1

    @property
    def num_sparse(self) -> int:
        """Blocks with the sparse FFN."""
        return sum(self.is_sparse(layer) for layer in range(self.depth))

    @property
    def sparse_ffns(self) -> int:
        """Sparse FFNs of all blocks, each with num_experts experts."""
        return sum(self.ffns(layer) for layer in range(self.depth) if self.is_sparse(layer))

    @property
    def dense_ffns(self) -> int:
        """Dense FFNs of all blocks."""
        return sum(self.ffns(layer) for layer in range(self.depth) if not self.is_sparse(layer))

    @property
    def dense_size(self) -> FFNSize:
        """The dense FFN."""
        return FFNSize(dim=self.dim, hidden=self.ffn_dim, matrices=MATRICES[self.activation])

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
        require(
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
        parts = {"vision": VisionConfig, "text": TextConfig}
        try:
            nested: dict[str, Any] = {name: part(**values[name]) for name, part in parts.items() if name in values}
            if "moe" in values:
                nested["moe"] = MoEConfig.from_dict(values["moe"])
            return cls(**{**values, **nested})
        except TypeError as error:
            raise ValueError(f"encoder config: {error}") from error
