"""Keys, limits, hosts, origins, policy, the audit log and metrics."""

import json
import sqlite3

import pytest
from running import http, until

from fathom.errors import UsageError
from fathom.serve.gate import Gate
from fathom.serve.keys import KeyStore
from fathom.serve.policy import Policy
from fathom.serve.problem import Problem
from fathom.serve.settings import Limits

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


def ask(address, secret=None, path="/v1/chat/completions", **changes):
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return http.post(address + path, json=ASK | changes, headers=headers)


@pytest.fixture
def keys(tmp_path):
    store = KeyStore(tmp_path / "keys.db")
    yield store
    store.close()


def test_a_secret_is_stored_nowhere(keys):
    secret = keys.add("alice")
    assert keys.find(secret).name == "alice"
    assert keys.find(secret + "x") is None
    raw = b"".join(path.read_bytes() for path in keys.path.parent.iterdir())
    assert secret.encode() not in raw
    assert secret[3:].encode() not in raw
    assert keys.path.stat().st_mode & 0o077 == 0


def test_a_name_is_given_once_and_can_be_taken_back(keys):
    secret = keys.add("alice")
    with pytest.raises(UsageError, match="alice"):
        keys.add("alice")
    keys.revoke("alice")
    assert keys.find(secret) is None
    with pytest.raises(UsageError, match="no key named 'alice'"):
        keys.revoke("alice")


def test_another_process_can_change_keys_while_the_server_runs(keys):
    other = KeyStore(keys.path)
    secret = other.add("bob")
    assert keys.find(secret).name == "bob"
    other.revoke("bob")
    assert keys.find(secret) is None
    other.close()


def test_a_file_that_holds_no_keys_is_refused(tmp_path):
    (tmp_path / "x").write_text("something else, long enough to be no database at all")
    with pytest.raises(UsageError, match="not a file of API keys"):
        KeyStore(tmp_path / "x")


def test_everything_but_health_needs_a_key(serve, keys):
    secret = keys.add("alice")
    address, _ = serve(settings={"keys": keys.path})
    for path in ("/models", "/v1/models", "/user/balance", "/metrics", "/anthropic/v1/models"):
        assert http.get(address + path).status_code == 401
        assert http.get(address + path, headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        assert http.get(address + path, headers={"x-api-key": secret}).status_code == 200
    wrong = ask(address, "sk-wrong-key-abcd")
    assert wrong.status_code == 401
    assert wrong.json()["error"] == {
        "message": "Authentication Fails, Your api key: ****abcd is invalid",
        "type": "authentication_error",
        "param": None,
        "code": "invalid_request_error",
    }
    # The key is looked at before the body.
    assert http.post(address + "/chat/completions", content=b"{").status_code == 401
    assert http.get(address + "/health").status_code == 200


def test_a_quota_runs_out(serve, keys):
    secret = keys.add("alice", quota_tokens=40)
    address, _ = serve("deep and long", settings={"keys": keys.path})
    headers = {"Authorization": f"Bearer {secret}"}
    before = http.get(address + "/user/balance", headers=headers).json()
    assert before == {
        "is_available": True,
        "balance_infos": [
            {"currency": "TOKENS", "total_balance": "40.00", "granted_balance": "40.00", "topped_up_balance": "0.00"}
        ],
    }
    statuses = [ask(address, secret).status_code for _ in range(20)]
    assert statuses[0] == 200
    assert statuses[-1] == 402
    assert until(lambda: keys.all()[0].used_tokens >= 40)
    assert not http.get(address + "/user/balance", headers=headers).json()["is_available"]


def test_whoever_leaves_pays_for_what_was_written(serve, keys):
    secret = keys.add("alice")
    address, service = serve(endless=True, wait=0.001, settings={"keys": keys.path})
    headers = {"Authorization": f"Bearer {secret}"}
    with http.stream("POST", address + "/chat/completions", json=ASK | {"stream": True}, headers=headers) as answer:
        lines = answer.iter_lines()
        for _ in range(20):
            next(lines)
    assert until(lambda: keys.all()[0].prompt_tokens == len(service.prompts[0]))
    assert keys.all()[0].completion_tokens > 10


def test_several_answers_pay_for_their_prompt_once(serve, keys):
    secret = keys.add("alice")
    address, service = serve("deep", settings={"keys": keys.path})
    used = ask(address, secret, n=3).json()["usage"]
    assert until(lambda: keys.all()[0].used_tokens == used["total_tokens"])
    assert used["prompt_tokens"] == len(service.prompts[0])


def test_too_many_requests_a_minute():
    clock = [0.0]
    gate = Gate(Limits(requests_per_minute=2), clock=lambda: clock[0])
    gate.admit(None)
    gate.admit(None)
    with pytest.raises(Problem, match="2 requests a minute") as caught:
        gate.admit(None)
    assert (caught.value.status, caught.value.retry_after) == (429, 30)
    clock[0] = 30.0
    gate.admit(None).close()


def test_too_many_requests_at_once():
    gate = Gate(Limits(concurrency=1))
    ticket = gate.admit(None)
    with pytest.raises(Problem) as caught:
        gate.admit(None)
    assert caught.value.status == 429
    ticket.close()
    ticket.close()
    assert gate.under_way == 0
    gate.admit(None)


def test_one_key_does_not_use_up_anothers_limit(keys):
    keys.add("a", concurrency=1)
    keys.add("b", concurrency=1)
    gate = Gate(Limits(), keys)
    first, second = keys.all()
    gate.admit(first)
    gate.admit(second)
    with pytest.raises(Problem):
        gate.admit(first)


def test_nobody_is_admitted_without_a_key_where_keys_are_asked_for(keys):
    with pytest.raises(Problem) as caught:
        Gate(Limits(), keys).admit(None)
    assert caught.value.status == 401


def test_a_full_server_says_so():
    gate = Gate(Limits(requests=1))
    gate.admit(None)
    with pytest.raises(Problem) as caught:
        gate.admit(None)
    assert caught.value.status == 503


def test_pages_of_other_origins_are_turned_away(serve):
    address, _ = serve()
    host = address.removeprefix("http://")
    for origin, status in ((f"http://{host}", 200), ("http://evil.example", 403), ("null", 403)):
        answer = http.post(address + "/chat/completions", json=ASK, headers={"Origin": origin})
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers
    preflight = http.options(address + "/chat/completions", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in preflight.headers


def test_a_name_made_to_point_here_is_turned_away(serve):
    address, _ = serve(settings={"hosts": ["fathom.lan"]})
    for host, status in (("evil.example", 403), ("localhost:8000", 200), ("fathom.lan", 200), ("[::1]:80", 200)):
        assert http.get(address + "/models", headers={"Host": host}).status_code == status


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(
        'title = "Ours"\n[[refuse]]\nname = "depth"\npattern = "(?i)secret depth"\nreason = "It is secret."\n'
        'where = ["question", "answer"]\n',
        encoding="utf-8",
    )
    return path


def test_a_refused_question_is_answered_openly(serve, policy):
    address, service = serve(settings={"policy": policy})
    answer = ask(address, messages=[{"role": "user", "content": "Tell the SECRET depth"}]).json()
    assert answer["choices"][0]["finish_reason"] == "content_filter"
    assert answer["policy"] == {"rule": "depth", "reason": "It is secret."}
    assert "It is secret." in answer["choices"][0]["message"]["content"]
    assert service.prompts == []
    assert http.get(address + "/policy").json()["refuse"][0]["name"] == "depth"
    text = http.post(address + "/completions", json={"model": "tiny", "prompt": "the secret depth"}).json()
    assert text["policy"]["rule"] == "depth"
    message = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "secret depth?"}]}
    said = http.post(address + "/anthropic/v1/messages", json=message).json()
    assert (said["stop_reason"], said["policy"]["rule"]) == ("refusal", "depth")


def test_a_refused_answer_ends_where_it_is_noticed(serve, policy):
    address, service = serve("Well. The secret depth is 11034 m.", piece=1, settings={"policy": policy})
    with http.stream("POST", address + "/chat/completions", json=ASK | {"stream": True}) as stream:
        chunks = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {")]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert "11034" not in text
    assert "rule 'depth'" in text
    assert chunks[-1]["policy"]["rule"] == "depth"
    assert until(lambda: service.cancelled == 1)


def test_without_a_policy_nothing_is_refused(serve):
    address, _ = serve()
    assert http.get(address + "/policy").json() == {"title": "", "refuse": []}


def test_a_policy_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match="no policy file"):
        Policy.read(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_text('[[refuse]]\nname = "x"\nreason = "y"\npattern = "("\n', encoding="utf-8")
    with pytest.raises(UsageError, match="regular expression"):
        Policy.read(path)


def test_the_audit_log_tells_who_and_how_much_but_not_what(serve, tmp_path):
    address, _ = serve("An answer.", settings={"audit": tmp_path / "audit.jsonl"})
    ask(address, user="someone", messages=[{"role": "user", "content": "A question"}])
    assert until(lambda: (tmp_path / "audit.jsonl").read_text() != "")
    line = json.loads((tmp_path / "audit.jsonl").read_text())
    assert (line["key"], line["endpoint"], line["status"], line["user"]) == ("local", "chat", 200, "someone")
    assert line["completion_tokens"] > 0
    assert "question" not in str(line)
    assert "answer" not in str(line)


def test_metrics_count_what_happened(serve):
    address, _ = serve()
    ask(address)
    ask(address, temperature=9)
    with http.stream("POST", address + "/chat/completions", json=ASK | {"stream": True}) as stream:
        list(stream.iter_lines())
    assert until(lambda: 'fathom_requests_total{endpoint="chat",status="200"} 2' in http.get(address + "/metrics").text)
    text = http.get(address + "/metrics").text
    assert 'fathom_tokens_total{kind="completion"}' in text
    assert "fathom_first_token_seconds_count 2" in text
    assert "fathom_engine_running 0" in text
    assert "# TYPE fathom_request_seconds histogram" in text


def test_a_key_store_survives_being_killed(keys):
    keys.add("alice")
    keys.spend("alice", 5, 6)
    again = sqlite3.connect(keys.path)
    assert again.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert again.execute("SELECT prompt_tokens, completion_tokens FROM keys").fetchone() == (5, 6)
    again.close()
