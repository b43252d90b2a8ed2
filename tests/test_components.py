"""A test that cannot run is reported, and fails the run if its component is required."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.components import ONLY_WITH_EXTENDED, Component, Components

NEEDS_A_SERVER = """
    import pytest

    @pytest.fixture
    def server_address():
        raise AssertionError("a fixture of a missing server was set up")

    @pytest.mark.server
    def test_marked(): ...

    def test_by_fixture(server_address): ...

    def test_other(): ...
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\ntestpaths = .\nmarkers =\n  server: needs it\n  extended: more")
    return pytester


def run(project: pytest.Pytester, component: Component, *args: str) -> pytest.RunResult:
    return project.runpytest_inprocess(*args, plugins=[Components([component])])


def server(*, missing: str | None = None, is_required: bool = False) -> Component:
    return Component("server", "Server", missing, frozenset({"server_address"}), is_required=is_required)


def test_tests_that_did_not_run_are_reported_last(project: pytest.Pytester) -> None:
    project.makepyfile(NEEDS_A_SERVER)
    result = run(project, server(missing="it is not installed"), "-ra")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, skipped=2)
    assert "!! 2 SERVER TESTS DID NOT RUN: it is not installed !!" in result.outlines[-2]


def test_a_required_component_that_is_missing_fails_its_tests(project: pytest.Pytester) -> None:
    project.makepyfile(NEEDS_A_SERVER)
    result = run(project, server(missing="it is not installed", is_required=True))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, errors=2)


def test_a_required_component_without_a_single_test_fails_the_run(project: pytest.Pytester) -> None:
    project.makepyfile("def test_other(): ...")
    result = run(project, server(is_required=True))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "NO SERVER TEST RAN" in result.outlines[-2]


def test_a_test_that_skips_itself_did_not_run(project: pytest.Pytester) -> None:
    project.makepyfile("import pytest\n\n@pytest.mark.server\ndef test_it():\n    pytest.skip('not today')")
    assert run(project, server(is_required=True)).ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("choice", [("-k", "other"), ("-m", "not server"), ("test_it.py::test_other",)])
def test_a_run_of_some_tests_may_leave_out_required_components(
    project: pytest.Pytester, choice: tuple[str, ...]
) -> None:
    project.makepyfile(test_it=NEEDS_A_SERVER)
    result = run(project, server(is_required=True), *choice)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["Server tests: 0 ran"])


@pytest.mark.parametrize(("choice", "left_out"), [("not extended", "@pytest.mark.extended"), ("extended", "")])
def test_make_test_and_make_test_all_each_need_a_test_of_what_is_required(
    project: pytest.Pytester, choice: str, left_out: str
) -> None:
    other = "" if left_out else "@pytest.mark.extended"
    project.makepyfile(f"""
        import pytest

        {left_out}
        @pytest.mark.server
        def test_left_out(): ...

        {other}
        def test_other(): ...
    """)
    result = run(project, server(is_required=True), "-m", choice)
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "NO SERVER TEST RAN" in result.outlines[-2]


@pytest.mark.parametrize(("choice", "passes"), [("not extended", True), ("extended", False)])
def test_a_component_of_extended_tests_is_required_where_they_should_have_run(
    project: pytest.Pytester, choice: str, passes: bool
) -> None:
    project.makepyfile("""
        import pytest

        def test_one(): ...

        @pytest.mark.extended
        def test_another(): ...
    """)
    component = Component("server", "Server", None, whole_runs=ONLY_WITH_EXTENDED, is_required=True)
    result = run(project, component, "-m", choice)
    result.assert_outcomes(passed=1, deselected=1)
    assert (result.ret == pytest.ExitCode.OK) == passes


def test_tests_that_ran_are_counted(project: pytest.Pytester) -> None:
    project.makepyfile("import pytest\n\n@pytest.mark.server\ndef test_it(): ...")
    result = run(project, server(is_required=True))
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["Server tests: 1 ran"])


def test_tests_that_ran_in_several_processes_are_counted_together(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.makeconftest("""
        from tests.components import Component, Components

        def pytest_configure(config):
            config.pluginmanager.register(Components([Component("server", "Server", None, is_required=True)]))
    """)
    project.makepyfile("""
        import pytest

        @pytest.mark.server
        @pytest.mark.parametrize("number", range(5))
        def test_it(number): ...
    """)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    result = project.runpytest_subprocess("-n2")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["Server tests: 5 ran"])
