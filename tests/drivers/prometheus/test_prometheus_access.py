"""Whom a real Prometheus lets in: basic authentication and mutual TLS, by its own web configuration."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers.prometheus import running_prometheus
from steersman.drivers.api import DriverContext, SourceError
from steersman.drivers.exposition.fake import FakeExporter, dcgm_page
from steersman.drivers.exposition.mapping import open_mapping
from steersman.drivers.prometheus import PrometheusDriver, PrometheusOptions
from steersman.kernel.clock import SystemClock
from steersman.kernel.ids import seeded_rng
from steersman.kernel.secret import Secret

DCGM = open_mapping("dcgm")
CONTEXT = DriverContext("metrics", "lab", SystemClock(), seeded_rng(1), 15.0, 10.0)
PASSWORD = "hunter2-very-secret"
PASSWORD_BCRYPT = "$2b$04$naBxLArFnpLE/lcRzIOoMO27kGOrxUe87IudyOJ372yq8mLFln0/e"

pytestmark = pytest.mark.real


def make_certificates(folder: Path) -> None:
    """An authority, and of it one certificate for the server and one for us."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    for name in ("server", "us"):
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)


async def looks(url: str, **options: Any) -> int:
    """How many GPUs a driver with this access sees."""
    driver = PrometheusDriver(PrometheusOptions(url=url, mapping=DCGM, **options), CONTEXT)
    try:
        return len((await driver.observe()).fragments)
    finally:
        await driver.close()


async def test_basic_authentication(real_program: Callable[[str], str], tmp_path: Path) -> None:
    web = tmp_path / "web.yml"
    web.write_text(json.dumps({"basic_auth_users": {"us": PASSWORD_BCRYPT}}))
    dcgm = await FakeExporter(dcgm_page(seeded_rng(1), gpus=2)).start()
    jobs = {"dcgm": [f"127.0.0.1:{dcgm.web.port}"]}
    options = {"options": [f"--web.config.file={web}"], "user": ("us", PASSWORD)}
    try:
        async with running_prometheus(real_program("prometheus"), tmp_path, jobs, **options) as server:
            await server.wait_for("DCGM_FI_DEV_GPU_TEMP")
            assert await looks(server.url, username="us", password=Secret(PASSWORD), tenant="ignored") == 2
            for wrong in ({}, {"username": "us", "password": Secret("other")}, {"token": Secret(PASSWORD)}):
                with pytest.raises(SourceError, match="status 401") as refused:
                    await looks(server.url, **wrong)
                assert PASSWORD not in refused.value.detail
    finally:
        await dcgm.stop()


async def test_mutual_tls(real_program: Callable[[str], str], tmp_path: Path) -> None:
    await asyncio.to_thread(make_certificates, tmp_path)
    server_tls = {
        "cert_file": str(tmp_path / "server.pem"),
        "key_file": str(tmp_path / "server.key"),
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": str(tmp_path / "ca.pem"),
    }
    web = tmp_path / "web.yml"
    web.write_text(json.dumps({"tls_server_config": server_tls}))
    path = real_program("prometheus")
    async with running_prometheus(
        path, tmp_path, {}, options=[f"--web.config.file={web}"], ready=False
    ) as server:
        url = f"https://127.0.0.1:{server.port}"
        ours = {
            "ca_file": str(tmp_path / "ca.pem"),
            "cert_file": str(tmp_path / "us.pem"),
            "key_file": str(tmp_path / "us.key"),
        }
        assert await looks(url, **ours) == 0
        with pytest.raises(SourceError, match=r"TLS|closed the connection|no connection"):
            await looks(url, ca_file=ours["ca_file"])
        with pytest.raises(SourceError, match="not trusted"):
            await looks(url)
