"""A line per step while a pipeline runs, for people; a terminal gets a spinner and details."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from pipelines.run import Event


class StepLines:
    """`on_event` of `run_locally`; use it as a context manager around the run."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<24}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> StepLines:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if not self._console.is_terminal:
            if event.kind in ("finished", "failed"):
                mark = "✓" if event.kind == "finished" else "✗"
                self._console.print(f"  {mark} {event.step:<24} {event.seconds:6.1f} s")
            return
        if event.kind == "started":
            task = self._progress.add_task(event.step, total=1, detail="")
            self._tasks[event.step] = task
        task = self._tasks[event.step]
        if event.kind == "progress":
            self._progress.update(task, detail=f"{event.what} {event.done}/{event.total}")
        elif event.kind == "finished":
            self._progress.update(task, completed=1, detail="")
        elif event.kind == "failed":
            self._progress.stop_task(task)
            self._progress.update(task, description=f"[red]✗ {event.step}", detail="[red]failed")
