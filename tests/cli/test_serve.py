import json
import socket

import pytest

from fathom.cli.serve import _name, _settings
from fathom.errors import RecipeError, UsageError
from fathom.serve.run import check_address, listen
from fathom.serve.settings import ServeSettings


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return str(folder)


def test_a_public_address_needs_keys(fathom, model):
    result = fathom("serve", model, "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert "fathom keys add" in result.stderr


@pytest.mark.parametrize(("host", "allowed"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("::", False)])
def test_only_the_loopback_interface_is_private(host, allowed):
    settings = ServeSettings(host=host)
    if allowed:
        check_address(settings)
    else:
        with pytest.raises(UsageError, match="without keys"):
            check_address(settings)


def test_a_port_that_is_taken_is_named_before_the_model_is_read(fathom, model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = fathom("serve", model, "--port", str(taken.getsockname()[1]), "--no-page")
    assert result.exit_code == 2
    assert "--port" in result.stderr


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(UsageError, match="cannot listen"):
        listen(ServeSettings(host="192.0.2.1"))


def test_names_say_whether_they_think():
    assert _name("gpt-4o=chat") == ("gpt-4o", {"thinking": False})
    assert _name("o1=reasoner") == ("o1", {"thinking": True})
    assert _name("mine") == ("mine", {"thinking": None})
    with pytest.raises(UsageError, match="is no name"):
        _name("x=y")


def test_limits_are_changed_by_name():
    assert _settings({}, ["limits.max_tokens=7"]).limits.max_tokens == 7
    with pytest.raises(RecipeError, match=r"limits\.max_tokns"):
        _settings({}, ["limits.max_tokns=7"])


def test_a_template_that_does_not_exist_is_refused(fathom, model):
    result = fathom("serve", model, "--template", "deepseek-v9", "--port", "0", "--no-page")
    assert result.exit_code == 2
    assert "deepseek-v3.1" in result.stderr


def test_a_way_of_guessing_that_does_not_exist_is_refused_before_the_model_is_read(fathom, model):
    result = fathom("serve", model, "--speculation", "much", "--port", "0", "--no-page")
    assert result.exit_code == 2
    assert "speculation is 'much'" in result.stderr


def test_keys_are_made_shown_and_revoked(fathom):
    made = fathom("keys", "add", "alice", "--quota", "1000", "--json")
    assert made.exit_code == 0
    secret = json.loads(made.stdout)["key"]
    assert secret.startswith("sk-")
    listed = fathom("keys", "list")
    assert "alice" in listed.stdout
    assert "1,000" in listed.stdout
    assert secret not in listed.stdout
    assert json.loads(fathom("keys", "list", "--json").stdout)[0]["tail"] == secret[-4:]
    assert fathom("keys", "revoke", "alice").exit_code == 0
    assert json.loads(fathom("keys", "list", "--json").stdout) == []


@pytest.mark.parametrize("arguments", [("add",), ("list", "alice"), ("revoke", "nobody"), ("list",)])
def test_impossible_wishes_are_explained(fathom, arguments):
    result = fathom("keys", *arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
