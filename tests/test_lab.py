"""The lab's pure parts: its configuration, its ports, its measuring."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import lab_config
import lab_ports
import lab_sound
import pytest
from lab import Lab
from lab_config import RTP_PORTS, Backend, LabError, render, set_key

PORTS = lab_ports.block(20_000)
VALUES = {
    "NAME": "pbx",
    "HOME": "/home/lab/pbx",
    "SPEECH": "/speech",
    "SIP_PORT": "20000",
    "PEER_SIP_PORT": "20001",
    "AMI_PORT": "20002",
    "OBSERVER_SECRET": "observer's",
    "RTP_FIRST": "20100",
    "RTP_LAST": "20499",
    "OWN_MODULES": "require = app_audiofork.so",
    "SUBSCRIBER_MODULES": "",
    "PATIENCE_S": "60",
}


def pbx(backend: Backend | None = None) -> dict[str, str]:
    return lab_config.pbx_files(backend or Backend(), PORTS, "s3cret", VALUES)


class TestRender:
    def test_fills_every_place(self) -> None:
        assert (
            render("a @ONE@ b @TWO@ ${EXTEN}@x", {"ONE": "1", "TWO": "2"}) == "a 1 b 2 ${EXTEN}@x"
        )

    def test_refuses_a_place_without_a_value(self) -> None:
        with pytest.raises(LabError, match="@TWO@"):
            render("@TWO@", {"ONE": "1"})


class TestSetKey:
    def test_keeps_the_comment_and_the_other_lines(self) -> None:
        text = "a = 1\nport = 5038   ; AMI\nports = 3\n"
        assert set_key(text, "port", "7") == "a = 1\nport = 7   ; AMI\nports = 3\n"

    def test_wakes_a_line_that_is_commented_out(self) -> None:
        assert set_key(";media_address = 192.0.2.10\n", "media_address", "127.0.0.1") == (
            "media_address = 127.0.0.1\n"
        )

    def test_fills_an_empty_global(self) -> None:
        assert set_key("DIALOG_WS=\n", "DIALOG_WS", "ws://x/") == "DIALOG_WS=ws://x/\n"

    @pytest.mark.parametrize("text", ["", "port = 1\nport = 2\n"])
    def test_refuses_none_or_several(self, text: str) -> None:
        with pytest.raises(LabError, match="lines set port"):
            set_key(text, "port", "7")


class TestPbxFiles:
    def test_holds_what_an_admin_installs(self) -> None:
        files = pbx()
        for name in ("dialog-contexts.conf", "dialog-gosub.conf", "dialog-macro.conf"):
            assert files[name] == (lab_config.DIALPLAN / name).read_text()

    def test_manager_is_the_sample_with_this_labs_port_and_secret(self) -> None:
        manager = pbx()["manager.conf"]
        assert "port = 20002\n" in manager
        assert "secret = s3cret\n" in manager
        assert "CHANGE-ME" not in manager
        assert "write = originate,call,reporting\n" in manager

    def test_nothing_is_bound_beyond_the_loopback(self) -> None:
        texts = [*pbx().values(), *lab_config.subscriber_files(VALUES).values()]
        binds = [line for text in texts for line in text.splitlines() if line.startswith("bind")]
        assert binds
        assert all("127.0.0.1" in line for line in binds if "bind_rtp" not in line)

    def test_no_trunk_of_the_sample_is_left(self) -> None:
        assert "example.com" not in "".join(
            line for line in pbx()["pjsip.conf"].splitlines() if not line.startswith(";")
        )

    def test_globals_come_from_the_backend(self) -> None:
        files = pbx(Backend(agi="127.0.0.1:99", globals={"DIALOG_MAX_S": "5", "MINE": "x"}))
        assert "DIALOG_AGI=127.0.0.1:99\n" in files["dialog-globals.conf"]
        assert "DIALOG_MAX_S=5\n" in files["dialog-globals.conf"]
        assert "\nMINE=x\n" in files["extensions.conf"]

    @pytest.mark.parametrize(
        ("name", "value"), [("A", "x\n[evil]"), ("A", "x;y"), ("A B", "x"), ("", "x")]
    )
    def test_refuses_a_global_that_would_write_more_than_itself(
        self, name: str, value: str
    ) -> None:
        with pytest.raises(LabError, match="global"):
            pbx(Backend(globals={name: value}))


class TestPorts:
    def test_of_two_labs_never_meet(self) -> None:
        one, other = used(20_000), used(21_000)
        assert len(one) == 4 + 2 * RTP_PORTS
        assert not one & other

    def test_clashing_ones_are_refused(self) -> None:
        with pytest.raises(LabError, match="must differ"):
            lab_ports.check(lab_config.Ports(5060, 5060, 3, 4, 5000, 6000))


def used(base: int) -> set[int]:
    sip_ami, rtp = astuple(lab_ports.block(base))[:4], astuple(lab_ports.block(base))[4:]
    return {*sip_ami, *(port for first in rtp for port in range(first, first + RTP_PORTS))}


class TestFolder:
    @pytest.mark.parametrize("place", ["/", "/usr/local/lab", "/etc/lab"])
    def test_of_the_system_is_refused(self, place: str) -> None:
        with pytest.raises(LabError, match="outside the system"):
            Lab(Path(place))

    def test_without_a_lab_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(LabError, match="no lab was started"):
            Lab.attach(tmp_path)


class TestSound:
    def test_spans_are_found_where_the_tones_are(self) -> None:
        mixed = lab_sound.silence(100) + lab_sound.tone(200) + lab_sound.silence(300)
        mixed += lab_sound.tone(50)
        found = lab_sound.spans(mixed)
        assert [round(span.start_ms) for span in found] == [100, 600]
        assert [round(span.length_ms) for span in found] == [200, 50]

    def test_likeness_knows_a_word_from_another_and_does_not_mind_its_volume(self) -> None:
        word = lab_sound.tone(100, 700)
        heard = lab_sound.silence(50) + lab_sound.tone(100, 700, level=3000)
        assert lab_sound.likeness(heard, word, at_ms=40) > 0.99
        assert lab_sound.likeness(heard, lab_sound.tone(100, 1100), at_ms=40) < 0.2

    def test_wav_is_read_as_written(self, tmp_path: Path) -> None:
        lab_sound.write(tmp_path / "a.wav", lab_sound.tone(30))
        assert lab_sound.read(tmp_path / "a.wav") == lab_sound.tone(30)
