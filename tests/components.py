"""The servers and programs that a run may need, and the report at its end about tests that did not run.

A skipped test does not hold its promise. So a run lists the tests that did not run in its last lines, and if a required
component (COATCHECK_REQUIRE, which CI sets) is missing, the run fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_NEEDS = "needs component"

WHOLE_RUNS = ("", "not extended", "extended")
"""What -m chooses in whole runs: everything, `make test`, `make test-all`."""
ONLY_WITH_EXTENDED = ("", "extended")
"""Those that have the tests which `make test` leaves out."""


@dataclass
class Component:
    """One server or program that some tests need; those tests carry its name as their marker."""

    name: str
    title: str
    missing: str | None
    """Why the tests cannot have it, or None."""
    fixtures: frozenset[str] = frozenset()
    """Fixtures that stand for it: a test that uses one gets the marker by itself."""
    whole_runs: tuple[str, ...] = WHOLE_RUNS
    """Those of the whole runs in which it has tests."""
    is_required: bool = False
    ran: int = 0
    skipped: int = 0

    def is_needed_by(self, item: pytest.Item) -> bool:
        return item.get_closest_marker(self.name) is not None

    def verdict(self, run: str | None) -> tuple[str, bool]:
        """The report at the end of a run, and whether the run has passed. `run` is None for a run of some tests."""
        if self.skipped and self.missing:
            return f"{self.skipped} {self.title.upper()} TESTS DID NOT RUN: {self.missing}", False
        if self.ran == 0 and self.is_required and run in self.whole_runs:
            return f"NO {self.title.upper()} TEST RAN, AND COATCHECK_REQUIRE NAMES {self.name}", False
        return f"{self.title} tests: {self.ran} ran", True


class Components:
    """The pytest plugin that watches over them."""

    def __init__(self, components: Sequence[Component]) -> None:
        self._components = components

    @pytest.hookimpl(tryfirst=True)  # before -m chooses
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for component in self._components:
                if component.fixtures.intersection(getattr(item, "fixturenames", ())):
                    item.add_marker(component.name)

    @pytest.hookimpl(tryfirst=True)  # before any fixture of the test
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for component in self._components:
            if component.missing and component.is_needed_by(item):
                if component.is_required:
                    pytest.fail(f"COATCHECK_REQUIRE names {component.name}: {component.missing}", pytrace=False)
                pytest.skip(component.missing)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        # In the report, because with pytest-xdist another process counts than the one that runs the test.
        report.user_properties.extend(
            (_NEEDS, component.name) for component in self._components if component.is_needed_by(item)
        )
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for component in self._components:
            if (_NEEDS, component.name) in map(tuple, report.user_properties):
                component.skipped += report.skipped
                component.ran += report.when == "call" and not report.skipped

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):  # one of several processes: the first of them judges
            return
        verdicts = [component.verdict(_whole_run(session.config)) for component in self._components]
        are_required_well = all(
            is_well for component, (_, is_well) in zip(self._components, verdicts, strict=True) if component.is_required
        )
        if session.exitstatus == pytest.ExitCode.OK and not are_required_well:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # the outermost, so that nothing but the totals comes after
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Generator[None]:
        yield
        for component in self._components:
            text, is_well = component.verdict(_whole_run(terminalreporter.config))
            if is_well:
                terminalreporter.write_line(text)
            else:
                terminalreporter.write_sep("!", text, red=True, bold=True)


def _whole_run(config: pytest.Config) -> str | None:
    """What -m has chosen; None if the run was given paths, -k, another -m or the like, and so is of some tests only."""
    is_partial = config.option.keyword or config.option.collectonly or config.option.markexpr not in WHOLE_RUNS
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not is_partial
    return config.option.markexpr if is_whole else None
