"""The small rest of the platform that clients ask about: who am I, clusters, warehouses, workspace objects."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from local.workspace.bodies import Arguments
from local.workspace.compute import LaunchError, python_file
from local.workspace.engine import Engine
from local.workspace.errors import ApiError, invalid
from local.workspace.jobs_api import USER

CLUSTER_ID = "local-spark-connect"
SPARK_VERSION = "18.x-scala2.13"
WAREHOUSE_ID = "local"


def cluster_json() -> dict[str, Any]:
    """The one shared Spark; a job's own cluster lives and dies with its run."""
    return {
        "cluster_id": CLUSTER_ID,
        "cluster_name": "Spark Connect on this machine",
        "spark_version": SPARK_VERSION,
        "node_type_id": "local",
        "num_workers": 0,
        "state": "RUNNING",
        "state_message": "",
        "creator_user_name": USER,
        "cluster_source": "API",
    }


def warehouse_json(port: int) -> dict[str, Any]:
    return {
        "id": WAREHOUSE_ID,
        "name": "Spark Connect on this machine",
        "state": "RUNNING",
        "cluster_size": "2X-Small",
        "min_num_clusters": 1,
        "max_num_clusters": 1,
        "num_clusters": 1,
        "num_active_sessions": 0,
        "auto_stop_mins": 0,
        "enable_serverless_compute": True,
        "enable_photon": False,
        "warehouse_type": "PRO",
        "spot_instance_policy": "POLICY_UNSPECIFIED",
        "creator_name": USER,
        "odbc_params": {
            "hostname": "127.0.0.1",
            "path": f"/sql/1.0/warehouses/{WAREHOUSE_ID}",
            "port": port,
            "protocol": "http",
        },
    }


def routes(engine: Engine) -> APIRouter:
    router = APIRouter()
    port = engine.home.port("workspace")

    @router.get("/api/2.0/preview/scim/v2/Me")
    def me() -> dict[str, Any]:
        return {
            "id": "1",
            "userName": USER,
            "displayName": "Fitness (this machine)",
            "active": True,
            "emails": [{"type": "work", "value": USER, "primary": True}],
            "groups": [{"display": "admins", "type": "direct", "value": "1"}],
        }

    for version in ("2.0", "2.1"):

        @router.get(f"/api/{version}/clusters/list")
        def clusters() -> dict[str, Any]:
            return {"clusters": [cluster_json()]}

        @router.get(f"/api/{version}/clusters/get")
        def cluster(given: Arguments) -> dict[str, Any]:
            wanted = given.get("cluster_id", "")
            if wanted != CLUSTER_ID:
                raise invalid(f"Cluster {wanted} does not exist")
            return cluster_json()

        @router.get(f"/api/{version}/clusters/spark-versions")
        def spark_versions() -> dict[str, Any]:
            return {"versions": [{"key": SPARK_VERSION, "name": "18 LTS (Apache Spark 4.1)"}]}

    @router.get("/api/2.0/sql/warehouses")
    def warehouses() -> dict[str, Any]:
        return {"warehouses": [warehouse_json(port)]}

    @router.get("/api/2.0/sql/warehouses/{warehouse_id}")
    def warehouse(warehouse_id: str) -> dict[str, Any]:
        if warehouse_id != WAREHOUSE_ID:
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"SQL warehouse {warehouse_id} does not exist.")
        return warehouse_json(port)

    @router.post("/api/2.0/sql/warehouses/{warehouse_id}/{verb}")
    def start_or_stop(warehouse_id: str, verb: str) -> dict[str, Any]:
        """The local warehouse is the shared Spark, which the stack keeps running: both change nothing."""
        warehouse(warehouse_id)
        if verb not in ("start", "stop"):
            raise ApiError(404, "ENDPOINT_NOT_FOUND", f"A warehouse cannot {verb} here.")
        return {}

    @router.get("/api/2.0/workspace/get-status")
    def get_status(given: Arguments) -> dict[str, Any]:
        path = str(given.get("path", ""))
        try:
            python_file(path, engine.home)
        except LaunchError:
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"Path ({path}) doesn't exist.") from None
        return {"object_type": "FILE", "path": path, "object_id": 1}

    return router
