"""Commands run in the test's own process: importing PyTorch anew for each would cost seconds."""

from typer.testing import CliRunner

from stavis.cli import app


def run_command(*arguments: object) -> str:
    """Runs a command that must succeed; gives all that it prints. Errors of users are raised."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output
