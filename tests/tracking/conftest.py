import pytest

from phalanx.config import validate
from phalanx.config.compose import compose


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory):
    """An empty MLflow database: making its tables takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No tracker uses a network or an account of whoever runs the tests."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_X_DISABLE_STATS", "true")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path, mlflow_tables):
    """Makes the configuration of a run in a temporary folder that has MLflow's tables already."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").write_bytes(mlflow_tables.read_bytes())
    base = compose({"experiment": "base"}).model_dump(mode="json")

    def make(*trackers: str, **changes):
        values = base | {"name": "r", "runs": str(tmp_path / "runs"), "tracking": list(trackers)} | changes
        return validate(values)

    return make


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "runs" / "r" / "fold0"
    place.mkdir(parents=True, exist_ok=True)
    return place
