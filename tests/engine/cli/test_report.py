"""Facts: `engine report RUN` prints the page's path, and says what is missing where there is no run."""

from typer import Typer
from typer.testing import CliRunner

from engine.cli.report import report
from engine.errors import DataError
from engine.runs import RunFolder

app = Typer()
app.command()(report)


def test_the_path_of_the_page_is_printed(tmp_path):
    RunFolder.open(tmp_path / "run", kind="rl", config={}).close()
    done = CliRunner().invoke(app, [str(tmp_path / "run")])
    assert done.exit_code == 0
    assert done.stdout.strip() == str(tmp_path / "run" / "report.html")
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_folder_without_a_run_is_an_input_error(tmp_path):
    done = CliRunner().invoke(app, [str(tmp_path)])
    assert isinstance(done.exception, DataError)
    assert "run.json is missing" in str(done.exception)
    assert done.exception.exit_code == 2
