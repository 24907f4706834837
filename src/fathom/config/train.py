"""The `[train]` part of a recipe. The defaults are DeepSeek-V3's published recipe (arXiv 2412.19437, section 4.2).

One clock runs everything: the optimiser step. What happens early in a run (warm-up, batch ramp) is given in steps;
what happens late (decay, the end of bias updates, the MTP weight's switch) is given as a share of the run's steps.
V3 gives tokens; its 14.8T tokens at 4,096 a sequence are about 240,200 steps, of which the ramp takes 12,400, and
the shares below are its token counts on that clock.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from fathom.config.base import Section
from fathom.config.teacher import TeacherConfig


class BatchRamp(Section):
    """A batch that grows over the first steps: small batches learn more per token early on."""

    start_sequences: int = Field(default=3072, gt=0)
    """Sequences in the first step's batch. V3: 3,072."""
    steps: int = Field(default=0, ge=0)
    """Steps over which the batch grows linearly to `batch_sequences`; 0 means no ramp. V3: about 12,400 (469B
    tokens)."""
    increment: int = Field(default=3072, gt=0)
    """The batch grows by whole multiples of this, so that it divides evenly among processes."""


class OptimizerConfig(Section):
    """The rule that turns gradients into updates, and its learning rates."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`adamw` for every parameter (V3), or `muon` for hidden matrices and expert stacks (Jordan et al. 2024; Moonlight,
    arXiv 2502.16982) with AdamW for embedding, head, router and norms."""
    learning_rate: float = Field(default=2.2e-4, gt=0)
    """Peak rate of AdamW. V3: 2.2e-4; small models take more, about 1e-3 to 3e-3 at a few tens of millions."""
    matrix_learning_rate: float | None = Field(default=None, gt=0)
    """Peak rate of Muon; `learning_rate` where left out, which is right for `muon_scale = "rms"` (Moonlight). With
    `spectral`, about 0.02 (Jordan)."""
    embedding_scale: float = Field(default=1.0, gt=0)
    """Rate of the embedding as a multiple of `learning_rate`."""
    head_scale: float = Field(default=1.0, gt=0)
    """Rate of the output head as a multiple of `learning_rate`."""
    router_scale: float = Field(default=1.0, gt=0)
    """Rate of the routers as a multiple of `learning_rate`. A router that learns too fast is worse than a random
    one."""
    norm_scale: float = Field(default=1.0, gt=0)
    """Rate of norms and other vectors as a multiple of `learning_rate`."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay of the first and second moment. V3: 0.9 and 0.95."""
    eps: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon. V3 names none; 1e-8 is AdamW's own."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices, embedding and head; vectors have none. V3: 0.1."""
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    """Muon's momentum, with Nesterov's look ahead. Jordan and Moonlight: 0.95."""
    muon_scale: Literal["rms", "spectral"] = "rms"
    """How an orthogonal update of R rows and C columns is scaled. `rms`: 0.2 sqrt(max(R, C)), which gives it AdamW's
    usual size, so that both share one rate (Moonlight). `spectral`: sqrt(max(1, R / C)) (Jordan)."""
    muon_experts: bool = True
    """Whether Muon updates the expert stacks too, as in Moonlight; off, AdamW does. Orthogonalising a matrix costs as
    much as training 3 to 5 times its smaller side in tokens on it, so it is dear where a step gives an expert fewer."""
    muon_expert_turns: int = Field(default=1, ge=1)
    """Steps over which Muon's experts take turns: with n, each step moves every n-th expert of a stack, n times as far,
    along a momentum that gathers every step's gradient. It divides the cost of orthogonalising experts, which is more
    than training them where a step gives each fewer tokens than about 5 times its width."""
    newton_schulz_steps: int = Field(default=5, ge=1)
    """Iterations of Muon's orthogonalisation. Jordan: 5."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest L2 norm of the whole gradient; a larger one is scaled down to it. V3: 1.0."""

    @model_validator(mode="after")
    def _betas_are_shares(self) -> Self:
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), found {self.betas}")
        return self


class ScheduleConfig(Section):
    """The learning rate as a share of its peak: linear warm-up, constant, decay, constant, and a last low constant."""

    warmup_steps: int = Field(default=2000, ge=0)
    """Steps of linear warm-up from zero. V3: 2,000; a run of some hundred steps takes 10 to 50."""
    constant_until: float = Field(default=0.682, ge=0, le=1)
    """Share of the run at which the decay begins. V3: 0.682 (10T of 14.8T tokens)."""
    decay_until: float = Field(default=0.967, ge=0, le=1)
    """Share of the run at which the decay ends. V3: 0.967 (14.3T tokens)."""
    decay_to: float = Field(default=0.1, ge=0, le=1)
    """Factor of the peak at the decay's end. V3: 0.1 (2.2e-5)."""
    decay_shape: Literal["cosine", "linear"] = "cosine"
    """The decay's form. V3: cosine."""
    final_from: float = Field(default=0.989, ge=0, le=1)
    """Share of the run after which `final_factor` holds. V3: 0.989 (the last 167B tokens)."""
    final_factor: float = Field(default=0.0332, ge=0, le=1)
    """Factor of the peak at the very end. V3: 0.0332 (7.3e-6)."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.constant_until <= self.decay_until <= self.final_from:
            raise ValueError(
                "constant_until <= decay_until <= final_from must hold, found "
                f"{self.constant_until}, {self.decay_until}, {self.final_from}"
            )
        return self


class BalanceConfig(Section):
    """How the load is spread over the experts."""

    method: Literal["bias", "auxiliary", "none"] = "bias"
    """`bias`: after each step every expert's routing bias moves by `bias_update_speed` towards the mean load (arXiv
    2408.15664; V3). `auxiliary`: a balance loss alone, as before V3. `none`: neither, for comparison."""
    bias_update_speed: float = Field(default=0.001, ge=0)
    """Step of the bias (gamma). V3: 0.001; 0.0001 converges slowly and 0.01 oscillates (arXiv 2408.15664)."""
    bias_update_until: float = Field(default=0.967, ge=0, le=1)
    """Share of the run after which biases stand still. V3: 0.967 (14.3T of 14.8T tokens)."""
    sequence_balance_alpha: float = Field(default=1e-4, ge=0)
    """Weight of the sequence-wise balance loss beside the bias (alpha); 0 leaves it out. V3: 0.0001."""
    auxiliary_alpha: float = Field(default=1e-3, ge=0)
    """Weight of the same loss where it is the only balance (`auxiliary`). arXiv 2408.15664's baseline: 0.001."""


class MTPConfig(Section):
    """Multi-token prediction's share in the loss; its depth is the model's `num_nextn_predict_layers`."""

    weight: float = Field(default=0.3, ge=0)
    """Weight (lambda) of the MTP loss, averaged over depths, early in the run. V3: 0.3."""
    final_weight: float = Field(default=0.1, ge=0)
    """Its weight late in the run. V3: 0.1."""
    sequence_share: float = Field(default=1.0, gt=0, le=1)
    """Share of each pass's sequences that the MTP modules see. V3: all. At a laptop's size a module costs nearly half
    of a step, most of it in the output head; a quarter of the sequences trains it for a tenth."""
    switch_at: float = Field(default=0.682, ge=0, le=1)
    """Share of the run at which the weight changes. V3: 0.682 (10T of 14.8T tokens)."""
    self_distillation: float = Field(default=0.0, ge=0, le=1)
    """Share of each module's loss that is the KL divergence of its prediction from the one that the model itself makes
    of the same token, over the whole vocabulary; the rest is the text's cross-entropy. V3: 0. For a module that is
    trained alone, to guess what the model will say, 1 is right."""


class EMAConfig(Section):
    """An exponential moving average of the parameters, kept in CPU memory: an early view of the model after decay."""

    decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay per step. V3 keeps an average and publishes no decay; 0.999 looks back about a thousand steps."""
    every: int = Field(default=10, ge=0)
    """Steps between updates, each with decay to that power; 0 keeps no average."""
    export: bool = False
    """Write the average, not the last parameters, as the finished model."""


class GuardConfig(Section):
    """What happens when the loss or the gradient stops making sense."""

    non_finite: Literal["rollback", "stop"] = "rollback"
    """On a NaN or infinite loss or gradient, before it touches the weights: go back to the last checkpoint and leave
    that batch out, or stop with the state saved."""
    spike: Literal["warn", "rollback", "stop"] = "rollback"
    """On a loss that stays high: say so, go back and leave those batches out, or stop with the state saved. V3
    needed no rollback in its whole run."""
    spike_nats: float = Field(default=0.5, gt=0)
    """A step is high when its loss exceeds the median of the last `spike_window` good steps by this many nats."""
    spike_window: int = Field(default=64, ge=8)
    """Good steps the median looks back on; nothing is judged before half of them are there."""
    spike_patience: int = Field(default=10, ge=1)
    """High steps in a row that make a spike; fewer heal by themselves."""
    max_rollbacks: int = Field(default=3, ge=0)
    """Rollbacks in one run before it stops instead."""


class SamplesConfig(Section):
    """Text the model writes while it learns."""

    every: int = Field(default=0, ge=0)
    """Steps between samples; 0 writes none."""
    prompts: tuple[str, ...] = ("The meaning of", "def main(", "今天")
    """Beginnings to complete: one sample each."""
    tokens: int = Field(default=48, gt=0)
    """Tokens a sample has at most."""
    temperature: float = Field(default=0.8, ge=0)
    """Sampling temperature; 0 takes the likeliest token."""


class TrainConfig(Section):
    """A pre-training run. Exactly one of `steps`, `tokens` and `minutes` says how long it is."""

    steps: int | None = Field(default=None, gt=0)
    """Optimiser steps of the run."""
    tokens: int | None = Field(default=None, gt=0)
    """Training tokens of the run, rounded up to a whole step. V3: 14.8e12."""
    minutes: float | None = Field(default=None, gt=0)
    """Wall-clock budget. The speed is measured over the first steps, then the number of steps is fixed for good and
    written to the run folder, so that the schedule stays a function of the step and a resumed run is exact."""
    measure_share: float = Field(default=0.05, gt=0, le=0.5)
    """With `minutes`, the share of the budget after which the number of steps is fixed."""
    initialise_from: Path | None = None
    """Begin with the weights of this model folder instead of random ones, routing biases included; its network must be
    the recipe's (`model.folder` reads it from there)."""
    sequence_length: int = Field(default=4096, gt=1)
    """Tokens a sequence trains on. V3: 4,096."""
    batch_sequences: int = Field(default=15360, gt=0)
    """Sequences in a step's batch, over all processes. V3: 15,360."""
    batch_ramp: BatchRamp = BatchRamp()
    """Growth of the batch over the first steps."""
    micro_batch_sequences: int = Field(default=1, gt=0)
    """Sequences in one forward pass of one process; the gradient accumulates over as many passes as a batch needs."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Updates and learning rates."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate over the run."""
    balance: BalanceConfig = BalanceConfig()
    """The load over the experts."""
    mtp: MTPConfig = MTPConfig()
    """Multi-token prediction's weight."""
    only: tuple[str, ...] = ()
    """Train the parameters alone whose names contain one of these, `.mlp.` say; all, where empty. The others stand
    still."""
    teacher: TeacherConfig | None = None
    """A model to learn from; none, unless named."""
    ema: EMAConfig = EMAConfig()
    """The average of the parameters."""
    guard: GuardConfig = GuardConfig()
    """NaN and spikes."""
    samples: SamplesConfig = SamplesConfig()
    """Texts written along the way."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """What activations and products are computed in. Parameters, gradients, moments and the router are FP32 either
    way."""
    recompute: Literal["none", "norms_and_up_projections", "layer"] = "none"
    """What is computed again in the backward pass to save memory. V3: RMSNorms and MLA's up-projections
    (`norms_and_up_projections`); `layer` keeps only each layer's input."""
    evaluate_every: int = Field(default=0, ge=0)
    """Steps between evaluations of held-out text; 0 evaluates at the end alone."""
    evaluate_tokens: int = Field(default=65536, gt=0)
    """Held-out tokens a group is judged on along the way; the evaluation at the end takes all of them."""
    checkpoint_every: int = Field(default=1000, ge=0)
    """Steps between checkpoints; 0 saves at the end and on a stop alone."""
    keep_last: int = Field(default=3, ge=1)
    """Checkpoints kept; older ones are removed once a newer one is complete."""
    expert_load_every: int = Field(default=10, ge=0)
    """Steps between records of each expert's load; MaxVio is recorded every step. 0 records none."""
    tensorboard: bool = False
    """Write metrics for TensorBoard too, into `tensorboard/` of the run folder (needs the `tensorboard` extra)."""
    seed: int = 1
    """Seed of the initial weights and of the order of the data."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        given = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise ValueError(f"set exactly one of {', '.join(LENGTHS)}; found {found}")
        return self

    @model_validator(mode="after")
    def _ramp_rises(self) -> Self:
        ramp = self.batch_ramp
        if ramp.steps and ramp.start_sequences > self.batch_sequences:
            raise ValueError(
                f"batch_ramp.start_sequences = {ramp.start_sequences} exceeds batch_sequences = {self.batch_sequences}"
            )
        return self

    @model_validator(mode="after")
    def _measured_before_anything_depends_on_it(self) -> Self:
        early = 2 * self.measure_share
        for name, share in self.late_shares().items():
            if self.minutes is not None and share < early:
                raise ValueError(
                    f"with `minutes`, {name} = {share} must be at least twice measure_share = {self.measure_share}: "
                    "the number of steps is not known earlier"
                )
        return self

    def late_shares(self) -> dict[str, float]:
        """The shares of the run at which something changes, by field."""
        return {
            "schedule.constant_until": self.schedule.constant_until,
            "balance.bias_update_until": self.balance.bias_update_until,
            "mtp.switch_at": self.mtp.switch_at,
        }


LENGTHS = ("steps", "tokens", "minutes")
"""The fields that say how long a run is."""

FREE_FIELDS = (
    "train.checkpoint_every",
    "train.keep_last",
    "train.evaluate_every",
    "train.evaluate_tokens",
    "train.expert_load_every",
    "train.tensorboard",
    "train.samples",
    "train.guard",
    "train.recompute",
    "train.micro_batch_sequences",
    "parallel",
)
"""Fields that change nothing of what is learned, but for rounding: they may differ between a checkpoint and the run
that takes it up."""
