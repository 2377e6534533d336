"""The script that emulates other processors: what it verifies, counts and refuses."""

import pytest
from tests import processors

ONEDNN = "onednn_verbose,v1,info,cpu,isa:Intel AVX2"
MKL = "MKL_VERBOSE oneMKL 2024.0 for Intel(R) 64 architecture Intel(R) AVX2 enabled processors, Lnx 2.60GHz"
SGEMM = "MKL_VERBOSE SGEMM(N,N,64,64,64) 12.15ms CNR:{} Dyn:1"


def test_a_probe_is_summed_up_in_a_line():
    plain = "\n".join(["ATen: AVX2", ONEDNN, MKL, SGEMM.format("OFF")])
    assert processors.summary(plain) == "ATen AVX2; oneDNN Intel AVX2; MKL Intel(R) AVX2"
    assert processors.summary(plain.replace("OFF", "AVX2")).endswith("MKL Intel(R) AVX2, CBWR AVX2")
    assert processors.summary("ATen: DEFAULT") == "ATen DEFAULT; oneDNN unknown; MKL unknown"


def test_a_setting_takes_effect_whatever_the_caller_has_set(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    [default] = [setting for setting in processors.SETTINGS if setting.name == "aten-default"]
    assert processors.instructions(default).startswith(("ATen DEFAULT;", "ATen NO AVX;"))
    assert "ATEN_CPU_CAPABILITY" not in processors.environment(processors.SETTINGS[0], 1)


def test_failures_are_named_and_counted(monkeypatch, tmp_path, capsys):
    """On a processor whose reports are made up: one setting changes something, another nothing."""
    reports = {"native": "AVX-512", "aten-avx2": "AVX2"}
    monkeypatch.setattr(processors, "instructions", lambda setting: reports.get(setting.name, "AVX-512"))
    file = tmp_path / "test_it.py"
    file.write_text(
        "import os\ndef test_a(): assert os.environ.get('ATEN_CPU_CAPABILITY') != 'avx2'\n"
        "def test_b(): assert os.environ['OMP_NUM_THREADS'] == '2'\n"
    )
    words = [str(file), "-n", "0", "--threads=2", "--only"]
    assert processors.main([*words, "native,aten-avx2,mkl-avx2"]) == 1
    out = capsys.readouterr().out
    assert "2 threads: 2 passed, 0 failed" in out
    assert "2 threads: 1 passed, 1 failed" in out
    assert "::test_a\n" in out
    assert "changes nothing on this processor; not run" in out
    assert processors.main([*words, "native"]) == 0
    assert processors.main([*words, "native,mkl-avx2"]) == 1  # nothing was emulated
    assert "nothing was emulated" in capsys.readouterr().err


def test_a_run_without_tests_is_a_failure(tmp_path):
    found = processors.run_tests(processors.SETTINGS[0], 1, [str(tmp_path), "-n", "0"])
    assert found == processors.Count(0, 0, ["pytest (exit code 5)"])


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--only=avx3"], "avx3: no such setting"), (["--threads=two"], "two: expected numbers")],
)
def test_mistakes_are_refused(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        processors.main(words)
    assert message in capsys.readouterr().err
