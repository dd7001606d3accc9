"""A hub that cannot be reached is called so at once, whoever asks it, and what was kept of it is used."""

import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from adaln.data import open_autoencoder, open_source
from adaln.data.endpoint import asking_hub, why_unreachable

constants = pytest.importorskip("huggingface_hub.constants")
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def unreachable(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_server_that_answers_is_reached_whatever_it_says(status):
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.handle_request, daemon=True).start()
        assert why_unreachable(f"http://127.0.0.1:{server.server_port}") == ""


def test_one_that_does_not_is_asked_once_and_its_libraries_look_at_what_they_keep(unreachable):
    with asking_hub() as why:
        assert why.startswith(f"{NOBODY} cannot be reached: ") and constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_is_not_to_be_asked_is_not(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("adaln.data.endpoint.why_unreachable", lambda url: pytest.fail("it was asked"))
    with asking_hub() as why:
        assert (why, constants.HF_HUB_OFFLINE) == ("HF_HUB_OFFLINE is set", True)
    assert constants.HF_HUB_OFFLINE


def test_an_autoencoder_by_its_hub_id_is_refused_in_one_line_without_trying_again(unreachable, capfd):
    pytest.importorskip("diffusers").AutoencoderKL  # noqa: B018 - its import takes seconds
    began = time.monotonic()
    with pytest.raises(
        ValueError, match=f"no autoencoder at 'nobody/none' .no such folder, and {NOBODY} cannot be reached"
    ):
        open_autoencoder("nobody/none")
    assert time.monotonic() - began < 5
    assert capfd.readouterr() == ("", "")


def test_a_set_of_the_hub_is_refused_in_one_line_without_trying_again(unreachable, capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    pytest.importorskip("datasets")
    with pytest.raises(ValueError, match=f"hf:nobody/none: no Hugging Face dataset .{NOBODY} cannot be reached"):
        open_source("hf:nobody/none")
    assert capfd.readouterr().err == ""
