"""R1's four stages by one command on a base made here, killed on the way and taken up again."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

RECIPE = """
[task]
name = "inverse_in_words"
options = { steps = 1 }

[general]
name = "instructions"

[base]
vocab_size = 600
phases = [{ documents = { searching = 0.9, facts = 0.1, megabytes = 0.9 }, train = { steps = 400 } }]

[base.model]
hidden_size = 64
intermediate_size = 128
moe_intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 4
n_routed_experts = 4
n_shared_experts = 1
num_experts_per_tok = 2
first_k_dense_replace = 1
kv_lora_rank = 16
qk_nope_head_dim = 8
qk_rope_head_dim = 8
v_head_dim = 16
num_nextn_predict_layers = 0
max_position_embeddings = 384
vocab_size = 600
bos_token_id = 0
eos_token_id = 1

[base.train]
sequence_length = 128
batch_sequences = 16
micro_batch_sequences = 16
schedule = { warmup_steps = 20, constant_until = 1.0, decay_until = 1.0, final_from = 1.0 }
ema = { every = 0 }

[base.train.optimizer]
kind = "muon"
muon_scale = "spectral"
matrix_learning_rate = 0.01
learning_rate = 0.02
router_scale = 0.15
norm_scale = 0.15

[zero]
steps = 3
problems = 4
group_size = 4
max_tokens = 160
evaluate_every = 0
evaluate_problems = 4
checkpoint_every = 1

[dev1]
texts = { problems = 16, texts = 2, only_right = false, line_repeats = 9 }
sft = { epochs = 1, batch_texts = 8, evaluate_problems = 4, evaluate_texts = 4, checkpoint_every = 1 }

[dev2]
steps = 3
problems = 4
group_size = 4
max_tokens = 160
evaluate_every = 0
evaluate_problems = 4
checkpoint_every = 1
reward = { accuracy = 1.0, language = 1.0 }

[dev3]
least_language = 0.0
general_texts = 16
texts = { problems = 16, texts = 2, only_right = false, line_repeats = 9 }
sft = { epochs = 1, batch_texts = 8, evaluate_problems = 4, evaluate_texts = 4, checkpoint_every = 1 }

[r1]
steps = 3
problems = 4
group_size = 4
max_tokens = 160
temperature = 0.7
evaluate_every = 0
evaluate_problems = 4
checkpoint_every = 1

[comparison]
problems = 4
texts = 2
max_tokens = 160
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_stages_by_one_command_killed_and_taken_up(place, environment, fathom):
    (place / "r1-tiny.toml").write_text(RECIPE)
    command = [sys.executable, "-m", "fathom", "r1", "r1-tiny.toml", "--anyway"]
    metrics = place / "runs/r1-tiny/dev2/metrics.jsonl"
    first = subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)
    while not metrics.exists() or not metrics.read_text():
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()

    done = fathom("r1", "r1-tiny.toml", "--anyway")
    assert "Dev2" in done.stdout
    assert "inverse in words zh: in the right language" in done.stdout
    told = json.loads(fathom("r1", "r1-tiny.toml", "--anyway", "--json").stdout)
    assert list(told["table"]) == ["base", "zero", "dev1", "dev2", "dev3", "r1"]
    assert (place / "runs/r1-tiny/r1/model/model.safetensors").is_file()
    page = (place / "runs/r1-tiny/report.html").read_text()
    assert "Stage by stage" in page
    assert "试" in page
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == [1, 2, 3]
